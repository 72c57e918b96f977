"""``python -m src.train ...`` from a checkout is ``exfuse train ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("train")
