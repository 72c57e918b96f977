"""``python -m src.tabulate ...`` from a checkout is ``exfuse tabulate ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.tabulate", run_name="__main__", alter_sys=True)
