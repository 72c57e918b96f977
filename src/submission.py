"""``python -m src.submission ...`` from a checkout is ``exfuse submission ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.submission", run_name="__main__", alter_sys=True)
