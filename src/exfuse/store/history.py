"""Training curves of a run: what its CSV logger wrote, merged over all its starts into one value a step and metric."""

import csv
import hashlib
import io
import math
import re
from collections.abc import Iterable
from pathlib import Path

from exfuse.errors import UserError
from exfuse.files import as_csv, write_text

HISTORY = "history.csv"
History = dict[int, dict[str, float]]  # step -> value by metric, `epoch` among them
_SEAL = "# sha256 "  # begins the last line; of everything above it
_DIGITS = 7  # significant ones: all that float32 has


def merge_logs(run: Path) -> History:
    """What ``run/logs/version_N/metrics.csv`` say together.

    Each start of a run writes a version of its own. A later one begins where the last checkpoint was: what an earlier one
    logged from that step on was trained again, and the later values stand.

    Raises:
        UserError: if a file is no log of metrics.
    """
    merged: History = {}
    for path in sorted(run.glob("logs/version_*/metrics.csv"), key=_version):
        found = read_log(path)
        if not found:
            continue  # killed before it logged anything
        first = min(found)
        merged = {step: values for step, values in merged.items() if step < first} | found
    return dict(sorted(merged.items()))


def read_history(path: Path) -> History:
    """What `write_history` wrote.

    Raises:
        UserError: if the file was cut short or altered.
    """
    try:
        content, _, seal = path.read_text(encoding="utf-8").rstrip("\n").rpartition("\n")
    except (ValueError, OSError):
        content, seal = "", ""
    if seal != _SEAL + _hash(f"{content}\n"):
        raise UserError(
            f"{path} is damaged: its last line does not fit the rest, it was altered. Delete it, and make the page anew."
        )
    return _values(f"{content}\n", path)


def read_log(path: Path) -> History:
    """The values in a CSV with a column ``step``; several lines of one step become one, empty cells are left out.

    Raises:
        UserError: if the file is no such CSV. A last line that was cut short, as by a kill, is left out.
    """
    try:
        return _values(path.read_text(encoding="utf-8"), path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}). Remove the file, or train the run again.") from error


def _values(text: str, path: Path) -> History:
    found: History = {}
    try:
        whole = text.rpartition("\n")[0]
        for line in csv.DictReader(io.StringIO(whole)):
            if None in line.values() or None in line:
                raise ValueError(f"a line has more or fewer cells than the header: {list(line.values())}")
            values = {name: float(text) for name, text in line.items() if name != "step" and text}
            found.setdefault(int(line["step"]), {}).update(values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not a log of metrics ({type(error).__name__}: {error}): expected a CSV with the column step and "
            "numbers. Remove the file, or train the run again."
        ) from error
    return found


def write_history(path: Path, history: History) -> bool:
    """Write one line a step, columns by name after step and epoch; whether anything is other than it was."""
    names = sorted({name for values in history.values() for name in values} - {"epoch"})
    columns = ["epoch", *names]
    lines = (
        [step, *(f"{values[name]:.{_DIGITS}g}" if name in values else "" for name in columns)]
        for step, values in history.items()
    )
    table = as_csv([["step", *columns], *lines])
    text = f"{table}{_SEAL}{_hash(table)}\n"
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)
    return True


def curve(history: History, metric: str) -> list[tuple[int, float]]:
    """Steps and finite values of one metric."""
    return [(step, values[metric]) for step, values in history.items() if math.isfinite(values.get(metric, math.nan))]


def metrics(histories: Iterable[History]) -> list[str]:
    """Every metric that one of them has, by name."""
    return sorted({name for history in histories for values in history.values() for name in values} - {"epoch"})


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _version(path: Path) -> int:
    found = re.search(r"\d+$", path.parent.name)
    return int(found[0]) if found else -1
