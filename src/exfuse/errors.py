"""Mistakes that a user can mend: entry points print them as one clear message, without a stack trace."""

import difflib
import errno
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

T = TypeVar("T")


class UserError(Exception):
    """Base of every message meant for the user: it names the file or key, what was expected and what to do."""


class UsageError(UserError):
    """A command line that says too little or too much."""


class NotFiniteError(UserError):
    """A training whose loss or weights are no longer numbers."""


class HeldError(UserError):
    """A run or backbone that another process is making."""


class ConfigError(UserError):
    """A config group, option or key that cannot be used as given."""


class DataError(UserError):
    """A data set, image or mask that cannot be used as it is."""


class CheckpointError(UserError):
    """A weight file or checkpoint that does not fit the model it is meant for."""


class StorageError(UserError):
    """A file or folder that the system would not read or write."""


class SubmissionError(UserError):
    """An archive that the test server would refuse, or score wrongly."""


# What would work on a terminal, or be no text at all: control characters but tab and line breaks, and halves of characters.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_OURS = f"{__name__}."  # how a trace names these
HELD = 75  # exit status: another process is making it; EX_TEMPFAIL
_PLACE = "Is that the place you meant?"
_WHY = {  # what the system's error numbers mean, and what to do
    errno.ENOSPC: ("its disk is full", "Free some space, or choose another place."),
    errno.EDQUOT: ("this user's share of its disk is used up", "Free some space, or choose another place."),
    errno.EROFS: ("its disk can only be read", "Choose another place."),
    errno.EACCES: ("this user may not", "Change its permissions, or choose another place."),
    errno.EPERM: ("this user may not", "Change its permissions, or choose another place."),
    errno.ENOENT: ("there is no such file or folder", _PLACE),
    errno.ENOTDIR: ("a file stands where a folder is needed", _PLACE),
    errno.EEXIST: ("a file stands where a folder is needed", _PLACE),
    errno.EISDIR: ("a folder stands where a file is needed", _PLACE),
    errno.EFBIG: ("it would be larger than the system allows (ulimit -f)", "Raise the limit."),
    errno.EMFILE: ("this process has too many files open (ulimit -n)", "Raise the limit, or set runtime.workers=0."),
    errno.ENAMETOOLONG: ("its name is too long", "Choose a shorter one."),
    errno.EIO: ("its disk reports an error", "Look after the disk."),
}
_SAFE = "What was finished before is whole."
_TOLD = re.compile(r"\[Errno (?P<number>\d+)\] [^:'\n]+(?:: '(?P<path>[^'\n]+)')?|\(os error (?P<other>\d+)\)")


# of torch's allocators, NumPy and OpenCV, and of a loader's worker that tells what Python raised
_MEMORY = re.compile(r"out of memory|can't allocate memory|Insufficient memory|Unable to allocate|\bMemoryError\b")


def user_error(error: BaseException | None) -> UserError | None:
    """The mistake of the user's, or what the system refused, behind an exception that others may have wrapped; None if none."""
    while error is not None and not isinstance(error, UserError):
        if (refused := _refused(error) or _too_large(error)) is not None:
            return refused
        error = error.__cause__
    return error


def _too_large(error: BaseException) -> UserError | None:
    """What did not fit into the memory of the machine or GPU, in one line."""
    if not isinstance(error, Exception) or not (isinstance(error, MemoryError) or _MEMORY.search(str(error))):
        return None
    line = next((line.strip() for line in str(error).splitlines() if _MEMORY.search(line)), type(error).__name__)
    return UserError(
        f"not enough memory: {line.rstrip('.')}. Choose smaller images or layers, a smaller batch, or let a device take fewer "
        "images at once (runtime.micro_batch=auto)."
    )


def _refused(error: BaseException) -> StorageError | None:
    """What the system would not read or write, in one line: path, why, what is safe and what to do."""
    if isinstance(error, OSError) and error.errno is not None:
        number, path = error.errno, error.filename
        if path is None and number not in _WHY:
            return None  # no matter of files
    elif isinstance(error, Exception) and (told := _TOLD.search(str(error))):  # of a loader's worker, or another language
        number, path = int(told["number"] or told["other"]), told["path"]
    else:
        return None
    place = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else "A file"
    why, remedy = _WHY.get(number, (os.strerror(number), "Look after its disk, or choose another place."))
    if number == errno.ENOSPC and _has_no_inodes(place):
        why = "its disk has no inodes left: it holds as many files as it can"
    return StorageError(f"{place} cannot be read or written: {why}. {_SAFE} {remedy}")


def _has_no_inodes(place: str) -> bool:
    try:
        found = os.statvfs(next(path for path in (Path(place), *Path(place).parents) if path.exists()))
    except (OSError, StopIteration):
        return False
    return found.f_files > 0 and found.f_favail == 0


_KINDS = "Error|Exception|Interrupt|Exit|Timeout|Warning|Iteration|Killed"
_NAMED = re.compile(rf"^[A-Za-z_][\w.]*(?:{_KINDS})\w*(?:: .*)?$")
_CHAIN = "The above exception was the direct cause of the following exception"


def reason_of(trace: str) -> str:
    """The line of a stack trace that says what was wrong; of a text without one its last line.

    A message of the user's own mistake is taken first, wherever it stands: loaders' workers and others wrap it. Of exceptions
    that were raised from one another it is the first one, else the last; of a message of several lines it is the first line.
    """
    lines = [line.strip() if line.strip().startswith(_OURS) else line.rstrip() for line in trace.splitlines() if line.strip()]
    named = [line for line in lines if _NAMED.match(line)]
    if ours := [line for line in named if line.startswith(_OURS)]:
        return ours[-1].partition(": ")[2] or ours[-1]
    if not named:
        return lines[-1].strip() if lines else ""
    parts = re.split(rf"^{_CHAIN}.*$", trace, flags=re.MULTILINE)
    first = [line.rstrip() for line in parts[0].splitlines() if _NAMED.match(line.rstrip())]
    return first[-1] if len(parts) > 1 and first else named[-1]


def first_line(error: BaseException) -> str:
    """What an exception of other code says, in one line without a point at its end; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


@contextmanager
def needing(extra: str, what: str, error: type[UserError] = ConfigError) -> Iterator[None]:
    """Inside, what cannot be imported is a matter of an extra of pyproject.toml that is not installed.

    Args:
        extra: its name.
        what: needs it, for the message.
        error: to raise.
    """
    try:
        yield
    except ImportError as missing:
        package = missing.name or extra
        raise error(f"{what} needs {package}, which is not installed: pip install 'exfuse[{extra}]'.") from missing


def repeated(things: Iterable[T]) -> list[T]:
    """Those that are there more than once, in their order."""
    return [thing for thing, number in Counter(things).items() if number > 1]


def plural(number: int, thing: str) -> str:
    """``1 run``, ``2 runs``, ``2,000 classes``."""
    return f"{number:,} {thing}{'' if number == 1 else 'es' if thing.endswith('s') else 's'}"


def rounded(value: float, digits: int = 2) -> str:
    """``0.12``, ``1.2``, ``1,234``: to significant digits, but never fewer than stand before the point."""
    return f"{value:,.0f}" if round(abs(value)) >= 10**digits else f"{value:.{digits}g}"


def some(names: Sequence[str], most: int = 4, separator: str = ", ") -> str:
    """``a, b, c, d and 3 more``: the first of a list."""
    return separator.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def classes_text(names: Sequence[str]) -> str:
    """``3 classes (sky, sea, ant)``."""
    return f"{plural(len(names), 'class')} ({some(names)})"


def nearest(wrong: str, valid: Iterable[str], what: str) -> str:
    """``Did you mean 'x'? Keys of y: ...`` with the question left out where nothing is close."""
    known = [*valid]
    close = difflib.get_close_matches(wrong, known, n=1) or difflib.get_close_matches(wrong.lower(), known, n=1)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    return f"{hint}{what}: {', '.join(known) or 'none'}."


def complain(message: str, kind: Literal["Error", "Warning"] = "Error") -> None:
    """Print ``Error: message`` on standard error, without ending the process."""
    from rich.console import Console  # whoever never errs never waits for it
    from rich.text import Text

    message = CONTROL.sub(lambda found: ascii(found[0])[1:-1], message)
    style = "bold red" if kind == "Error" else "bold yellow"
    Console(stderr=True, highlight=False).print(Text.assemble((f"{kind}:", style), f" {message}"), soft_wrap=True)
