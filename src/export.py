"""``python -m src.export ...`` from a checkout is ``exfuse export ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.export", run_name="__main__", alter_sys=True)
