"""``python -m src.predict ...`` from a checkout is ``exfuse predict ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.predict", run_name="__main__", alter_sys=True)
