"""``python -m src.rescore ...`` from a checkout is ``exfuse rescore ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("rescore")
