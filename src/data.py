"""``python -m src.data ...`` from a checkout is ``exfuse data ...``."""

import sys

from exfuse.__main__ import main

if __name__ == "__main__":
    main(["data", *sys.argv[1:]])
