"""``python -m src.pretrain ...`` from a checkout is ``exfuse pretrain ...``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("exfuse.cli.pretrain", run_name="__main__", alter_sys=True)
