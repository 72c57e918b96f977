"""``python -m src.train ...`` from a checkout is ``exfuse train ...``."""

import sys

from exfuse.__main__ import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
