"""``python -m src.evaluate ...`` from a checkout is ``exfuse evaluate ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("evaluate")
