"""``python -m src.bench ...`` from a checkout is ``exfuse bench ...``."""

import sys

from exfuse.__main__ import main

if __name__ == "__main__":
    main(["bench", *sys.argv[1:]])
