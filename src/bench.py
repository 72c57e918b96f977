"""``python -m src.bench ...`` from a checkout is ``exfuse bench ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.bench", run_name="__main__", alter_sys=True)
