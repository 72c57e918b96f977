"""``python -m src.submission ...`` from a checkout is ``exfuse submission ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("submission")
