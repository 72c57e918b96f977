"""The command ``exfuse VERB ...``."""

import runpy
import sys


def main() -> None:
    """Hand the command line to the module of its verb."""
    sys.argv.pop(0)
    runpy.run_module(f"exfuse.cli.{sys.argv[0]}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
