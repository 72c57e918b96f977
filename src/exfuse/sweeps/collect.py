"""From a sweep's outcomes to a study's folder: which run stands in which cell, and a copy of each record."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exfuse.errors import UserError
from exfuse.files import as_json, write_atomically, write_json
from exfuse.store.folder import COUNTS, DETAIL, RunFolder
from exfuse.store.history import HISTORY
from exfuse.store.outcome import Outcome
from exfuse.store.record import write_record
from exfuse.store.variants import chosen_options

SCHEMA = 1
_DIRECTORIES = re.compile(r"(?<![\w.:/])/(?:[^\s/:'\"]+/)+")  # of an absolute path


def collect_study(outcomes: Sequence[Outcome], study: Mapping[str, Any], command: str, mixed: bool, output: Path) -> bool:
    """Write ``study.json`` and ``records/`` into the folder ``output``; records of an earlier collection that no cell names go.

    Args:
        outcomes: of the sweep's jobs.
        study: ``name``, ``title``, ``question``, ``paper``, ``factors`` and ``rows``; without rows, each variant becomes one.
            ``varies``: settings that rows differ in on purpose; ``edge_radius``, if the table is to part edges from interiors.
        command: that made the runs.
        mixed: whether runs of different commits or settings may stand in one table, marked.
        output: the study's folder.

    Returns:
        Whether anything is other than it was at an earlier collection.

    Raises:
        UserError: if two runs claim one cell.
    """
    rows = _rows(outcomes, study["rows"])
    keys = {key for row in rows for key in row["runs"].values()}
    for stale in (output / "records").glob("*"):
        if stale.name not in keys:
            shutil.rmtree(stale)
    sources = [RunFolder(Path(outcome.store), outcome.key) for outcome in outcomes if outcome.key]
    changed = [_copy_record(source, RunFolder(output / "records", source.key)) for source in sources]
    head = {name: study[name] for name in ("name", "title", "question", "paper", "factors")}
    head |= {name: study[name] for name in ("varies", "edge_radius") if name in study}
    content = {"schema": SCHEMA, **head, "command": command, "mixed": mixed, "rows": rows}
    path = output / "study.json"
    if not any(changed) and path.is_file() and path.read_text() == as_json(content):
        return False
    write_json(path, content)
    return True


def _rows(outcomes: Sequence[Outcome], declared: Mapping[str, Any]) -> list[dict[str, Any]]:
    by_row: dict[str, list[Outcome]] = {name: [] for name in declared}
    names = {row["label"]: name for name, row in declared.items() if "label" in row}
    for outcome, swept_too in zip(outcomes, _swept_besides(outcomes), strict=True):
        name = names.get(outcome.row, outcome.row) if declared else " ".join([outcome.row, *swept_too])
        by_row.setdefault(name, []).append(outcome)
    swept = {name: jobs for name, jobs in by_row.items() if jobs}
    seeds = sorted({outcome.seed for outcome in outcomes})
    rows = []
    for name, jobs in swept.items():
        on = (declared.get(name) or {}).get("builds_on", None if declared else "baseline")
        rows.append(
            {
                "name": name,
                "options": chosen_options(jobs[0].choices),
                "decoder": jobs[0].choices["decoder"],
                "on": on if on in swept and on != name else None,
                "paper": (declared.get(name) or {}).get("paper"),
                "paper_trust": (declared.get(name) or {}).get("trust", "P"),
                "runs": _cells(name, jobs, seeds),
            }
        )
    return rows


def _cells(name: str, jobs: Sequence[Outcome], seeds: Sequence[int]) -> dict[str, str | None]:
    """The key of the run of each seed; None for one that was not swept or could not even be planned."""
    cells: dict[int, Outcome] = {}
    for job in jobs:
        other = cells.setdefault(job.seed, job)
        if other.key != job.key:
            differing = sorted(set(other.overrides) ^ set(job.overrides))
            raise UserError(
                f"Two runs claim the cell of row {name}, seed {job.seed}: they differ in {', '.join(differing)}. "
                "A table has one setting: sweep the variants and seeds, and give other settings a sweep of their own."
            )
    return {str(seed): (cells[seed].key or None) if seed in cells else None for seed in seeds}


def _swept_besides(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Of each job the overrides that not all jobs have, variants and seeds left out: what else a multirun swept."""
    everywhere = set.intersection(*(set(outcome.overrides) for outcome in outcomes))
    known = ("seed=", "+ablation=", "technique/", "decoder=")
    return [
        [override for override in outcome.overrides if override not in everywhere and not override.startswith(known)]
        for outcome in outcomes
    ]


def _copy_record(source: RunFolder, target: RunFolder) -> bool:
    """Copy a record and its counts without what is of this machine alone; whether the copy was missing or another."""
    record = source.record()
    if record is None:
        return False
    sealed = ("schema", "key", "status", "checksum", "traceback")
    content = {name: value for name, value in record.items() if name not in sealed}
    if "traceback" in record:
        content.setdefault("reason", record["traceback"].strip().rpartition("\n")[2])
    content = portable(content)
    if _is_copied(target, record["status"], content):
        return False
    if record["status"] == "done":
        source.counts(record)  # refuses what its record does not describe
        (target.path / HISTORY).unlink(missing_ok=True)  # of an earlier training
        files = [COUNTS] if source.detail(record) is None else [COUNTS, DETAIL]
        for name in files:
            write_atomically(target.path / name, lambda path, name=name: shutil.copyfile(source.path / name, path))  # type: ignore[misc]
    write_record(target.path / "record.json", source.key, record["status"], content)
    return True


def _is_copied(target: RunFolder, status: str, content: dict[str, Any]) -> bool:
    try:
        copied = target.record()
        if copied is not None and status == "done":
            target.counts(copied)
            target.detail(copied)
    except UserError:
        return False  # damaged: copied anew
    return copied is not None and copied["status"] == status and content.items() <= copied.items()


def portable(content: Any) -> Any:
    """Plain data with absolute paths cut to their last name: a record that travels tells nothing of the machine's folders."""
    if isinstance(content, dict):
        return {name: portable(value) for name, value in content.items()}
    if isinstance(content, list):
        return [portable(value) for value in content]
    return _DIRECTORIES.sub("", content) if isinstance(content, str) else content
