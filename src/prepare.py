"""``python -m src.prepare ...`` from a checkout is ``exfuse prepare ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("prepare")
