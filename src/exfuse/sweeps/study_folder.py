"""Where a sweep's study goes, so that no sweep writes over another's table."""

import hashlib
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from exfuse.errors import UserError, some
from exfuse.store.checked import read_plain
from exfuse.store.folder import RunFolder, find_runs
from exfuse.store.outcome import Outcome
from exfuse.store.sequential import Sequential
from exfuse.store.study_file import FILE as STUDY_FILE, RECORDS, load_sequential
from exfuse.sweeps.sweep import Sweep
from exfuse.sweeps.tuning import overridden_key


def study_folder(sweep: Sweep, outcomes: Sequence[Outcome]) -> Path:
    """Where the study goes: as typed, or its own folder, or one beside that if it holds the table of other runs.

    The same command on the same data is the same study, whatever became of its runs, as long as no finished run would be lost
    with its record here; where they lie changes nothing.

    Raises:
        UserError: if the folder that was typed holds finished runs of another sweep, or its looks, which would leave it.
    """
    folder = sweep.place
    while (beside := _beside(folder, sweep, outcomes)) is not None:
        folder = beside
    return folder


def _beside(folder: Path, sweep: Sweep, outcomes: Sequence[Outcome]) -> Path | None:
    """The folder to look at next, where this one is to stay as it is."""
    before, keys = folder / STUDY_FILE, {outcome.key for outcome in outcomes}
    if not before.is_file():
        return None
    known = read_plain(before, "a study", f"Delete {folder}, or set sweep.output to another folder.")
    looked = bool((known.get("sequential") or {}).get("looks")) and not (sweep.plan and sweep.plan.sequential)
    if not looked and {path.name for path in folder.glob(f"{RECORDS}/*")} <= keys:
        return None
    now = _data(outcome.folder for outcome in outcomes if outcome.key)
    then = _data(find_runs(folder / RECORDS))
    same = _unspent(str(known.get("command", ""))) == _unspent(sweep.command)
    finished = {run.key for run in find_runs(folder / RECORDS) if _is_done(run)}
    lost = sorted(finished - keys)
    stores = {outcome.folder.root for outcome in outcomes if outcome.key and outcome.folder.root != folder / RECORDS}
    alone = [key for key in lost if not any(_is_done(RunFolder(store, key)) for store in stores)]
    if sweep.plan and sweep.plan.sequential and finished & keys:
        alone = []  # seeds of looks that are to come again
    if same and (then & now or not (then and now)) and not alone:
        return None
    if sweep.output:
        if looked or lost:
            gone = f"with finished runs that this one does not have ({some(lost, 3)})"
            kept = "whose looks count in its p" if looked else gone
            whose = "this sweep before its runs had other keys" if same else f"another sweep, {known.get('command')}"
            raise UserError(f"{folder} holds the table of {whose}, {kept}. Choose another sweep.output, or delete it.")
        return None
    own = _unspent(sweep.command) + (f" {sorted(alone or now)}" if same else "")
    return folder.with_name(f"{folder.name}-{hashlib.sha256(own.encode()).hexdigest()[:8]}")


def _is_done(run: RunFolder) -> bool:
    record = run.record()
    return record is not None and record.done


def looked_at(folder: Path, keys: Sequence[str]) -> Sequential | None:
    """How far an earlier start with these runs was, in the study's folder or one beside it, see `study_folder`."""
    beside = re.compile(re.escape(folder.name) + "(-[0-9a-f]{8})+")
    places = [folder, *sorted(path for path in folder.parent.glob(f"{folder.name}-*") if beside.fullmatch(path.name))]
    known = (load_sequential(place) for place in places if any((place / RECORDS / key).is_dir() for key in keys))
    return next(filter(None, known), None)


def _unspent(command: str) -> str:
    """A sweep's command without what it may spend, which may be raised, and without -m, which was not always noted."""
    words = [word for word in shlex.split(command) if word != "-m"]
    return shlex.join(word for word in words if not overridden_key(word).startswith("sweep.most"))


def _data(runs: Iterable[RunFolder]) -> set[str]:
    """Manifests of the images that runs are scored on."""
    records = (run.record() for run in runs)
    return {record.manifests["val"] for record in records if record and "val" in record.manifests}
