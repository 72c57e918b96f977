"""``python -m src.study ...`` from a checkout is ``exfuse study ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("study")
