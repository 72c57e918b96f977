"""``python -m src.tabulate ...`` from a checkout is ``exfuse tabulate ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("tabulate")
