"""``python -m src.export ...`` from a checkout is ``exfuse export ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("export")
