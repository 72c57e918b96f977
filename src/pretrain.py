"""``python -m src.pretrain ...`` from a checkout is ``exfuse pretrain ...``."""

from exfuse.__main__ import main

if __name__ == "__main__":
    main("pretrain")
