"""``python -m src.budget ...`` from a checkout is ``exfuse budget ...``."""

import sys

from exfuse.__main__ import main

if __name__ == "__main__":
    main(["budget", *sys.argv[1:]])
