"""``python -m src.summarise ...`` from a checkout is ``exfuse summarise ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("summarise")
