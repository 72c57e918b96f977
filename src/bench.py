"""``python -m src.bench ...`` from a checkout is ``exfuse bench ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("bench")
