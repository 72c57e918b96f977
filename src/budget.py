"""``python -m src.budget ...`` from a checkout is ``exfuse budget ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("budget")
