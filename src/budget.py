"""``python -m src.budget ...`` from a checkout is ``exfuse budget ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.budget", run_name="__main__", alter_sys=True)
