"""What a finished run shows of itself, without torch."""

import numpy as np

from exfuse.analysis.console import per_class_table
from exfuse.runs.asked import warn_of_code
from exfuse.runs.plan import plan_run
from exfuse.store.description import RunDescription
from exfuse.store.folder import RunFolder
from exfuse.store.record import Record
from exfuse.terminal import Console


def show_finished(run: RunDescription, console: Console) -> bool:
    """Show the scores of a run that is finished and not to be trained anew; whether it is.

    Raises:
        UserError: see `plan_run` and `RunFolder.record`.
    """
    folder = None if run.overwrite else plan_run(run).folder
    record = folder.finished() if folder else None
    if folder is None or record is None:
        return False
    show_trained(folder, record, console)
    return True


def show_trained(folder: RunFolder, record: Record, console: Console) -> None:
    """Say that a run is finished, and show it."""
    console.print(f"Run {folder.key} is already trained (overwrite=true trains it anew).")
    warn_of_code(record.environment.code, f"{record.title}, seed {record.seed},")
    print_outcome(folder, record, console)


def print_outcome(folder: RunFolder, record: Record, console: Console) -> None:
    """Print the per-class table of a finished run and where its files are."""
    scores = record.scores
    scored_on = "train's held-out part" if record.setting("held_out.share") else "val"
    title = f"{record.title}, seed {record.seed}: {record.data} {scored_on}, {scores.images} images"
    if record.weights_name == "random":
        title += " (backbone from random weights)"
    if record.stopped:
        title += f" ({record.stopped} epochs)"
    if record.diverged:
        title += " (diverged: an epoch's mean loss after warm-up lay above that of guessing)"
    console.print(per_class_table(np.array(scores.confusion), record.classes, title))
    console.print(f"Run folder: {folder.path}  (predictions.png shows examples)")
