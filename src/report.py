"""``python -m src.report ...`` from a checkout is ``exfuse report ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.report", run_name="__main__", alter_sys=True)
