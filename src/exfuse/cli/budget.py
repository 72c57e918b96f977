"""What a study would cost on a GPU:  python -m src.budget +study=table3_techniques data=voc_aug recipe=voc backbone=resnet50

Counts the operations of every training step that the study needs, the pretraining of backbones included, without the data, a
GPU or any training, and estimates GPU hours from what you say that a GPU sustains.
"""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from exfuse.cli import running as cli


def main() -> None:
    """Read the command line, count, show and, if asked, write."""
    parser = argparse.ArgumentParser("python -m src.budget", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as python -m src.train takes them; lists are swept")
    parser.add_argument("--tflops", type=float, default=60.0, help="10^12 operations a second that a GPU sustains (60; chosen)")
    parser.add_argument(
        "--terabytes", type=float, default=1.2, help="10^12 bytes a second from and to its memory (1.2; chosen)"
    )
    parser.add_argument("--element", type=int, choices=(2, 4), default=2, help="bytes a number: 2 for bfloat16, 4 for float32")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write budget.md and budget.csv there")
    arguments = parser.parse_args()
    if min(arguments.tflops, arguments.terabytes) <= 0:
        parser.error("--tflops and --terabytes: expected more than 0")

    from exfuse.sweeps.budget import plan_budget
    from exfuse.sweeps.budget_report import assumptions, budget_table, write_budget
    from exfuse.sweeps.roofline import Device  # torch loads only once the command line is right

    console, device = Console(), Device(arguments.tflops, arguments.terabytes, arguments.element)
    with Progress(console=console, transient=True) as bar:
        line = bar.add_task("Counting operations", total=None)
        budgets = plan_budget(arguments.overrides, lambda done, total: bar.update(line, completed=done, total=total))
    for budget in budgets:
        console.print(budget_table(budget, device))
    console.print(assumptions(device), highlight=False)
    if arguments.output:
        command = f"python -m src.budget {shlex.join(sys.argv[1:])}"
        for path in write_budget(arguments.output, budgets, device, command):
            console.print(f"{path}", soft_wrap=True)


if __name__ == "__main__":
    cli.run(main, "train")
