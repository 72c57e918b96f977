"""What a finished run shows of itself, without torch."""

import numpy as np

from exfuse.analysis.console import per_class_table
from exfuse.runs.plan import RunPlan, plan_run
from exfuse.store.description import RunDescription
from exfuse.store.folder import RunFolder
from exfuse.store.record import Record
from exfuse.terminal import Console


def show_finished(run: RunDescription, console: Console) -> RunPlan | None:
    """Show the scores of a run that is finished and not to be trained anew; of any other the plan.

    Raises:
        UserError: see `plan_run` and `RunFolder.record`.
    """
    plan = plan_run(run)
    record = None if run.overwrite else plan.folder.finished()
    if record is None:
        return plan
    console.print(f"Run {plan.folder.key} is already trained (overwrite=true trains it anew).")
    show_outcome(plan.folder, record, console)
    return None


def show_outcome(folder: RunFolder, record: Record, console: Console) -> None:
    """Print the per-class table of a finished run and where its files are."""
    scores = record.scores
    title = f"{record.title}, seed {record.seed}: {record.data} val, {scores.images} images"
    if record.weights_name == "random":
        title += " (backbone from random weights)"
    if record.diverged:
        title += " (diverged: an epoch's mean loss after warm-up lay above that of guessing)"
    console.print(per_class_table(np.array(scores.confusion), record.classes, title))
    console.print(f"Run folder: {folder.path}  (predictions.png shows examples)")
