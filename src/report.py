"""``python -m src.report ...`` from a checkout is ``exfuse report ...``."""

import sys

from exfuse.__main__ import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
