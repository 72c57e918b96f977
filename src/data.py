"""``python -m src.data ...`` from a checkout is ``exfuse data ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("data")
