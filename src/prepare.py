"""``python -m src.prepare ...`` from a checkout is ``exfuse prepare ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.prepare", run_name="__main__", alter_sys=True)
