"""``python -m src.train ...`` from a checkout is ``exfuse train ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.train", run_name="__main__", alter_sys=True)
