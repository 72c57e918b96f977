"""``python -m src.chain ...`` from a checkout is ``exfuse chain ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("chain")
