"""Mean and spread over seeds of what lies in a folder of runs or a store of backbones."""

import sys
from pathlib import Path

from exfuse.analysis.summary import Variants, group_backbones, group_runs, summary_table, write_values
from exfuse.errors import UserError, plural
from exfuse.files import outputs
from exfuse.store.consistency import untold
from exfuse.store.folder import find_finished
from exfuse.terminal import Console


def summarise(folder: str, classes: list[str], csv: str | None) -> None:
    """Print a table over seeds of the finished runs or backbones in ``folder``; write their single values to ``csv``.

    Raises:
        UserError: if nothing finished is there, runs were scored on different images, two would share a line, runs of one name
            differ in what no line says, or a class is unknown.
    """
    records = [record for _, record in find_finished([Path(folder)])]
    if not records:
        raise UserError(f"No finished run or backbone in {folder}.")
    own = [record for record in records if not record.setting("held_out.share")]
    if own and len(own) < len(records):
        print(f"Left out: {plural(len(records) - len(own), 'run')} of a search, scored on a part of train.", file=sys.stderr)
        records = own
    backbones = records[0].pretraining is not None
    if any((record.pretraining is not None) != backbones for record in records):
        raise UserError(f"{folder} holds runs and backbones: summarise a folder of either.")
    if len({record.manifests["val"] for record in records}) > 1:
        raise UserError(f"The runs in {folder} were scored on different images: keep those of one data set in a folder.")
    records.sort(key=lambda record: (record.label not in ("baseline", "plain"), record.label, record.seed))
    if not backbones:
        scored = records[0].scored.iou if records[0].scored else ()
        if unknown := sorted(set(classes) - set(scored)):
            raise UserError(f"classes=[{unknown[0]}]: the runs score {', '.join(scored) or 'no classes'}.")
        variants = group_runs(records, classes)
        title = f"{records[0].data} val, {records[0].images['val']} images, {records[0].metric.sign}"
    else:
        variants = group_backbones(records)
        title = f"{records[0].data}: classification accuracy on {records[0].images['val']} images of val, %"
    _check_lines(variants, len(records), folder)
    table = summary_table(variants, title)
    others = untold(records)
    if serious := [one for one in others if one not in ("commit", "threads")]:
        raise UserError(
            f"The runs in {folder} of one name differ in {', '.join(serious)}: keep those of one setting in a folder."
        )
    if others:
        table.caption = f"Not all of these runs share {', '.join(others)}."
    Console().print(table)
    if csv is not None:
        with outputs([Path(csv)]):
            write_values(Path(csv), variants)
        Console().print(f"Single values: {csv}")


def _check_lines(variants: Variants, runs: int, folder: str) -> None:
    if sum(len(seeds) for seeds in variants.values()) < runs:
        raise UserError(
            f"{folder} holds several runs of one variant and seed, under different settings: keep those of one setting in a "
            "folder (paths.runs, paths.backbones)."
        )
