"""``python -m src.predict ...`` from a checkout is ``exfuse predict ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("predict")
