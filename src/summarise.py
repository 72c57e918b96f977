"""``python -m src.summarise ...`` from a checkout is ``exfuse summarise ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.summarise", run_name="__main__", alter_sys=True)
