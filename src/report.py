"""``python -m src.report ...`` from a checkout is ``exfuse report ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("report")
