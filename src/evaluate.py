"""``python -m src.evaluate ...`` from a checkout is ``exfuse evaluate ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.evaluate", run_name="__main__", alter_sys=True)
