"""``python -m src.rescore ...`` from a checkout is ``exfuse rescore ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.rescore", run_name="__main__", alter_sys=True)
