"""Which run a user means: by its name, its key or the first digits of it, or its folder."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from exfuse.errors import UserError, plural, some
from exfuse.store.consistency import told_apart
from exfuse.store.folder import Listed, list_runs, straight
from exfuse.store.record import RECORD

_DIGITS = re.compile(r"[0-9a-f]{3,16}")
_SHOWN = 8  # digits of a key


def find_run(text: str, root: Path) -> Path:
    """The folder of the run that ``text`` names; any other path, as of a checkpoint or of a folder of runs, stands for itself.

    Args:
        text: a run's name or label, its key or at least three first digits of it, these below their folder, or a path.
        root: the folder of the runs.

    Raises:
        UserError: if no run, or several, are called so.
    """
    path = Path(text)
    if path.exists() or path.suffix == ".ckpt":
        return straight(path) if path.is_dir() else path
    if len(path.parts) > 1:
        begun = _DIGITS.fullmatch(path.name) and any(path.parent.glob(f"{path.name}*/{RECORD}"))
        return find_run(path.name, path.parent) if begun else path
    if (root / text).is_dir():
        return straight(root / text)
    runs = list_runs(root)
    begins = _DIGITS.fullmatch(text) is not None
    found = [
        run
        for run in runs
        if (begins and run.folder.key.startswith(text)) or (run.record and text in (run.record.name, run.record.label))
    ]
    if len(found) == 1:
        return found[0].folder.path
    if found:
        apart = told_apart([run.record for run in found if run.record])
        several = "; ".join(f"{run.folder.key} ({_about(run, apart.get(run.folder.key, ''))})" for run in found[:8])
        raise UserError(
            f"{text} is the name of {plural(len(found), 'run')} in {root}, or begins their keys. Say which: {several}."
        )
    names: dict[str, list[str]] = {}
    for run in runs:
        if run.record:
            names.setdefault(run.record.title, []).append(run.folder.key[:_SHOWN])
    close = difflib.get_close_matches(text, [*names, *(run.folder.key for run in runs)], n=3, cutoff=0.4)
    if not names:
        raise UserError(f"There is no run {text}, nor any other, in {root}. Train one (exfuse train), or set paths.runs=DIR.")
    there = ", ".join(f"{name} ({some(keys, 3)})" for name, keys in sorted(names.items())[:20])
    known = f"Did you mean {' or '.join(close)}?" if close else f"There are: {there}."
    raise UserError(f"There is no run {text} in {root}. {known} exfuse runs lists them.")


def find_named_runs(texts: Sequence[str], root: Path) -> list[Path]:
    """See `find_run`, for several."""
    return [find_run(text, root) for text in texts]


def _about(run: Listed, apart: str) -> str:
    record = run.record
    if record is None:
        return "damaged"
    told = (record.title, record.data, record.choices.get("recipe"), f"seed {record.seed}", apart, run.folder.status(record))
    return ", ".join(one for one in told if one)
