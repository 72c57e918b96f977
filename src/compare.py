"""``python -m src.compare ...`` from a checkout is ``exfuse compare ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("compare")
