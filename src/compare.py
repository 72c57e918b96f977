"""``python -m src.compare ...`` from a checkout is ``exfuse compare ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.compare", run_name="__main__", alter_sys=True)
