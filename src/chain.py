"""``python -m src.chain ...`` from a checkout is ``exfuse chain ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.chain", run_name="__main__", alter_sys=True)
