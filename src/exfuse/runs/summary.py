"""Mean and spread over seeds of what lies in a folder of runs or a store of backbones."""

import sys
from pathlib import Path

from exfuse.analysis.summary import Variants, group_runs, summary_table, write_values
from exfuse.errors import UserError, plural, some
from exfuse.files import outputs, seen_from
from exfuse.store.consistency import unshared, untold
from exfuse.store.folder import find_finished
from exfuse.store.record import Record
from exfuse.terminal import Console

_NAMED = 6  # settings, at most, that not all runs share


def summarise(folder: str, classes: list[str], csv: str | None) -> None:
    """Print a table over seeds of the finished runs or backbones in ``folder``; write their single values to ``csv``.

    Raises:
        UserError: if nothing finished is there, runs were scored on different images, two would share a line, runs of one name
            differ in what no line says, or a class is unknown.
    """
    records = [record for _, record in find_finished([Path(folder)])]
    if not records:
        raise UserError(f"No finished run or backbone in {folder}.")
    backbones = records[0].pretraining is not None
    if any((record.pretraining is not None) != backbones for record in records):
        raise UserError(f"{folder} holds runs and backbones: summarise a folder of either.")
    if len({record.manifests["val"] for record in records}) > 1:
        records = _of_one_kind(records, Path(folder))
    if len({record.manifests["val"] for record in records}) > 1:
        raise UserError(f"The runs in {folder} were scored on different images: keep those of one data set in a folder.")
    records.sort(key=lambda record: (record.label not in ("baseline", "plain"), record.label, record.seed))
    first = records[0]
    scored = first.scored.iou if first.scored and not backbones else ()
    if unknown := sorted(set(classes) - set(scored)):
        raise UserError(f"classes=[{unknown[0]}]: the runs score {', '.join(scored) or 'no classes'}.")
    variants = group_runs(records, classes)
    scored_on = "held out of train" if first.setting("held_out.share") else "val"
    title = f"{first.data} {scored_on}, {first.images['val']} images, {first.metric.sign}"
    if backbones:
        title = f"{first.data}: classification accuracy on {first.images['val']} images of val, %"
    _check_lines(variants, len(records), folder)
    table = summary_table(variants, title)
    if serious := [one for one in untold(records) if one not in ("commit", "threads")]:
        raise UserError(
            f"The runs in {folder} of one name differ in {', '.join(serious)}: keep those of one setting in a folder."
        )
    if others := unshared(records):
        table.caption = f"Not all of these runs share {some(others, _NAMED)}."
    Console().print(table)
    if csv is not None:
        with outputs([Path(csv)], of=[f"runs in {seen_from(Path(csv), Path(folder))}"]):
            write_values(Path(csv), variants)
        Console().print(f"Single values: {csv}")


def _of_one_kind(records: list[Record], folder: Path) -> list[Record]:
    """Without those of a search, scored on a part of train; in a study's folder of its search, those alone."""
    of_search = folder.resolve().name == "search"
    kept = [record for record in records if bool(record.setting("held_out.share")) is of_search]
    if kept and (left := len(records) - len(kept)):
        what = "scored on val" if of_search else "of a search, scored on a part of train"
        kind = "backbone" if records[0].pretraining is not None else "run"
        print(f"Left out: {plural(left, kind)} {what}.", file=sys.stderr)
    return kept or records


def _check_lines(variants: Variants, runs: int, folder: str) -> None:
    if sum(len(seeds) for seeds in variants.values()) < runs:
        raise UserError(
            f"{folder} holds several runs of one variant and seed, under different settings: keep those of one setting in a "
            "folder (paths.runs, paths.backbones)."
        )
