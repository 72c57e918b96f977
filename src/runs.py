"""``python -m src.runs ...`` from a checkout is ``exfuse runs ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("runs")
