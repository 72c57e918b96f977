"""Writing so that a file is either whole or not there."""

import contextlib
import csv
import ctypes
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from filelock import FileLock, Timeout

from exfuse.errors import UserError

Kind = TypeVar("Kind")
# The config files: a folder of the installed package; in a checkout a link to conf/ at its top.
CONFIG_DIR = (Path(__file__).parent / "conf").resolve()
_added: list[Path] = []
_outputs: dict[Path, tuple[str, str]] = {}  # written now: of what they are, and the hash of what is there: see `outputs`
_PART = ".part-"  # in the name of a file or folder that is being written
_NOTES = "outputs/written"  # below the folder of the process: what files were written from there
_WRITTEN = ".written"  # file in a folder that was written whole: the hash of all else in it, and what it is of
_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.]*(e[+-]?\d+)?$)")  # a number is none
_TOLD = re.compile(r"\(os error (\d+)\)")  # by a library in another language
_BLOCK = 1 << 20
_LONGEST = 239  # bytes of a name, of which systems take 255: with what `_beginning` and tempfile put around it
_ABANDONED = re.compile(rf"(\..*{re.escape(_PART)})[a-z0-9_]{{8}}(\.[^.]*)?", re.DOTALL)  # `_beginning`, and what tempfile adds
_FRESH = 60.0  # seconds in which a folder may have no lock yet
os.umask(_UMASK := os.umask(0o077))  # which can be asked by setting it alone
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux' renameat2


def config_dirs() -> tuple[Path, ...]:
    """Where config files are looked for: in the package, then in the folders that the user added."""
    return (CONFIG_DIR, *_added)


def set_config_dirs(added: Iterable[Path]) -> None:
    """Look in these folders too, in this process, in the place of those added before."""
    _added[:] = dict.fromkeys(folder.resolve() for folder in added)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file in ``path``'s folder, then move it into place.

    The temporary name keeps the suffix, by which libraries choose a format. If ``write`` fails, nothing is left behind.

    Raises:
        OSError: that names ``path``, whatever the system named.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _named(path, beside := _beginning(path.stem, path.suffix)):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=beside, suffix=path.suffix)
        scratch = Path(name)
        with _held(handle):
            try:
                _ask_the_system(write, scratch)
                scratch.chmod(0o666 & ~_UMASK)  # mkstemp's files are private
                place = _place(path)
                of, there = _outputs.get(place, ("", None))
                written = sha256(scratch) if there is not None else ""
                if there is not None and os.path.lexists(place) and sha256(place) not in (there, written):
                    raise UserError(f"{path} was put there or changed meanwhile. Move it, or choose another place.")
                scratch.replace(path)
                if there is not None:
                    _outputs[place] = of, written
                    _note(place, f"{written}\n{of}")
            finally:
                scratch.unlink(missing_ok=True)


def write_new(path: Path, text: str) -> bool:
    """Write a text file at once and whole, unless there is one; whether it was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        _named(path, beside := _beginning(path.stem)),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=beside) as scratch,
    ):
        whole = Path(scratch) / path.name
        whole.write_text(text, encoding="utf-8")
        try:
            path.hardlink_to(whole)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            if path.exists():
                return False
            whole.replace(path)
    return True


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock file at this moment; asked without writing, also where nobody may."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # there is none, or it is nobody's business here
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # either says that another has it
        return True
    except OSError:  # a file system without such locks, where filelock knows another way
        try:
            with FileLock(path, timeout=0):
                return False
        except (OSError, NotImplementedError) as error:
            return isinstance(error, Timeout)
    finally:
        os.close(descriptor)
    return False


def _beginning(name: str, end: str = "") -> str:
    """How the name begins of what is written beside a file or folder; whatever follows, no longer than systems take."""
    room = max(0, _LONGEST - len(os.fsencode(end)))
    return f".{os.fsencode(name)[:room].decode(errors='ignore')}{_PART}"


@contextlib.contextmanager
def _named(path: Path, temporary: str) -> Iterator[None]:
    """Let the system's errors name ``path``, not what is written beside it under a name that begins with ``temporary``."""
    beside = str(path.parent.resolve() / temporary)
    try:
        yield
    except OSError as error:
        told = error.filename  # may be a number
        known = isinstance(told, (str, bytes, os.PathLike))
        if error.errno and not (known and not str(Path(os.fsdecode(told)).resolve()).startswith(beside)):
            error.filename, error.filename2 = str(path), None
        raise


def _ask_the_system(write: Callable[[Path], object], scratch: Path) -> None:
    """Call ``write(scratch)``; where a library hides why it could not write on, write on, so that the system says it again."""
    try:
        write(scratch)
    except OSError:
        raise
    except Exception as hidden:
        if told := _TOLD.search(str(hidden)):
            raise OSError(int(told[1]), os.strerror(int(told[1]))) from hidden
        try:
            with scratch.open("ab") as file:
                file.write(bytes(_BLOCK))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise error from hidden
        raise


def write_folder(path: Path, write: Callable[[Path], object], checked: bool = False, of: str = "") -> None:
    """Let ``write`` fill a temporary folder beside ``path``, then put it in the place of whatever folder is there.

    If ``write`` fails, the folder that was there stays as it was. With ``checked`` the folder says what was written, and what
    it is made ``of``, for `check_folder`, which is asked before the work starts, and here again after it.

    Raises:
        OSError: that names ``path``, whatever the system named.
        UserError: if ``checked``, see `check_folder`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent, [beside := _beginning(path.name)])
    with _named(path, beside), tempfile.TemporaryDirectory(dir=path.parent, prefix=beside) as name:
        scratch = Path(name) / "new"
        scratch.mkdir()
        with _held(os.open(name, os.O_RDONLY)):
            write(scratch)
            if checked:
                (scratch / _WRITTEN).write_bytes(os.fsencode(f"{_held_by(scratch)}\n{of}".rstrip("\n")))
                check_folder(path, of)
            if not path.exists():
                scratch.replace(path)
            elif not _exchange(scratch, path):
                path.replace(Path(name) / "former")
                scratch.replace(path)


def check_folder(path: Path, of: str = "") -> None:
    """Refuse what `write_folder` would remove though it did not write it, or wrote it of something else.

    Raises:
        UserError: if a file stands there, a folder in which anything was added or changed since it was written, or one of
            something else than ``of``, such as of other runs; empty: whatever it is of.
    """
    if not os.path.lexists(path) or (path.is_dir() and not path.is_symlink() and not any(path.iterdir())):
        return
    note = path / _WRITTEN
    digest, _, then = os.fsdecode(note.read_bytes()).partition("\n") if note.is_file() else ("", "", "")
    if path.is_symlink() or digest != _held_by(path):
        raise UserError(
            f"{path} is there, not written by exfuse or changed since. Move it, or choose another place (output=...)."
        )
    if of and then and of != then:
        raise UserError(f"{path} is of {then}, this would be of {of}. Choose another place, or remove it.")


def _held_by(folder: Path) -> str:
    """Hash of all that a folder holds."""
    found = sorted(path for path in folder.rglob("*") if path != folder / _WRITTEN)
    held = "".join(f"{path.relative_to(folder).as_posix()} {path.is_symlink()} {sha256(path)}\n" for path in found)
    return hashlib.sha256(os.fsencode(held)).hexdigest()


def remove_abandoned(folder: Path, beginnings: Collection[str] | None = None) -> None:
    """Remove from ``folder`` what killed processes were writing there; what lives stays.

    With ``beginnings`` under such names alone, and what is not of this moment, whose writer may not have its lock yet.
    """
    for path in folder.glob(f".*{_PART}*"):
        named = _ABANDONED.fullmatch(path.name)
        if beginnings is not None and (named is None or named[1] not in beginnings or _is_fresh(path)):
            continue
        with contextlib.suppress(OSError), _held(os.open(path, os.O_RDONLY), wait=False):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _is_fresh(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return time.time() - path.lstat().st_mtime < _FRESH
    return True  # and gone


@contextlib.contextmanager
def _held(handle: int, wait: bool = True) -> Iterator[None]:
    """Hold an open file's lock, which the system takes back from a process that dies; the file is closed at the end.

    Raises:
        OSError: without ``wait``, if another process holds it.
    """
    try:
        with contextlib.suppress(*([OSError] if wait else [])):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places at once; False where the system cannot."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return call is not None and call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def as_json(content: Any) -> str:
    """What `write_json` writes."""
    return json.dumps(content, indent=2) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, atomically, with the same line ends everywhere."""
    write_atomically(path, lambda scratch: scratch.write_bytes(text.encode()))


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    write_text(path, as_json(content))


def decoded(path: Path, kind: type[Kind]) -> Kind | None:
    """What `write_json` wrote, as ``kind``; None where nothing is, or nothing whole."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, ValueError, msgspec.MsgspecError):
        return None


def as_csv(lines: Iterable[Iterable[object]]) -> str:
    """Lines of cells as they are, the header first."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines)
    return file.getvalue()


def write_csv(path: Path, lines: Iterable[Iterable[object]]) -> None:
    """Write lines of cells, the header first, atomically; see `as_cell`."""
    write_text(path, as_csv(map(as_cell, line) for line in lines))


def folder_name(text: str) -> str:
    """A folder's name of a text such as a data set's name, whatever stands in it: lower-case words, one folder on any disk."""
    return re.sub(r"[^\w.+-]+", "_", text.lower()).strip("._")[:80] or "data"


def as_cell(value: object) -> object:
    """A cell of a CSV: text that a spreadsheet would calculate, such as ``=1+1``, gets the sign by which it stays text."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def sha256(path: Path) -> str:
    """See `digest_of`."""
    return digest_of(path, "sha256")


def digest_of(path: Path, kind: str) -> str:
    """Hash of a file's content; of nothing if there is no such file, which whoever reads it will name."""
    digest = hashlib.new(kind, usedforsecurity=False)
    if path.is_file():
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def outputs(
    paths: Sequence[Path], inputs: Iterable[Path] = (), published: bool = False, of: Sequence[str] = ()
) -> Iterator[None]:
    """Refuse outputs that would take the place of what this project did not write, or wrote of another run.

    What `write_atomically` writes there is remembered by its content, under `_NOTES`: the same command may write it
    again, also after it failed halfway, and a file that somebody has changed since, or put there meanwhile, is theirs.

    Args:
        paths: files that are written inside.
        inputs: files that are read there.
        published: whether what git holds as it is may be written anew, since nothing of it is lost.
        of: what each of them is made from, such as a run; what was made from something else stays. Empty: from whatever.

    Raises:
        UserError: see `check_outputs`.
    """
    check_outputs(paths, inputs, published, of)
    made_of = zip(map(_place, paths), of or [""] * len(paths), strict=True)
    added = {place: (asked, sha256(place)) for place, asked in made_of if place not in _outputs}
    _outputs.update(added)
    for folder in {place.parent for place in added}:
        remove_abandoned(folder, {_beginning(place.stem, place.suffix) for place in added})
    try:
        yield
    finally:
        for place in added:
            del _outputs[place]


def check_outputs(paths: Sequence[Path], inputs: Iterable[Path] = (), published: bool = False, of: Sequence[str] = ()) -> None:
    """What `outputs` asks, before the first is written.

    Raises:
        UserError: if two outputs are one file, one is an input, or one is there and not as it was written or of something else.
    """
    places = [_place(path) for path in paths]
    read = {path.resolve() for path in inputs}
    for path, place, asked in zip(paths, places, of or [""] * len(paths), strict=True):
        if places.count(place) > 1:
            raise UserError(f"Two outputs would be written to {path}: their inputs have the same name. Rename one.")
        if place.resolve() in read:
            raise UserError(f"{path} is an input and would be overwritten. Choose another place (output=...).")
        digest, _, then = (_note(place) or "").partition("\n")
        ours = sha256(place) == digest or (published and _is_committed(place))
        if place.is_dir() or (os.path.lexists(place) and not ours):
            raise UserError(
                f"{path} is there, not written by exfuse or changed since, as far as {Path.cwd() / _NOTES} knows. Move it, or "
                "choose another place."
            )
        if os.path.lexists(place) and asked and then and asked != then:
            raise UserError(
                f"{path} is of {then}, this would be of {asked}, both as seen from {path.parent}. Choose another place, or "
                "remove it."
            )


def seen_from(place: Path, path: Path) -> str:
    """Where ``path`` lies from the folder of ``place``, for `outputs`: both may move together."""
    return os.path.relpath(path.resolve(), place.resolve().parent)


def _place(path: Path) -> Path:
    """Where a file is put, whose own name may be that of a link, which it then replaces."""
    return path.parent.resolve() / path.name


def _is_committed(place: Path) -> bool:
    asked = ["git", "-C", str(place.parent), "status", "--porcelain", "--ignored", "--", place.name]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return False
    return answer.returncode == 0 and not answer.stdout


def _note(place: Path, text: str | None = None) -> str | None:
    """Remember what was written to a place; what is remembered of it."""
    here = Path.cwd()
    named = place.relative_to(here) if place.is_relative_to(here) else place  # a project may move
    notes = [here / _NOTES / hashlib.sha256(os.fsencode(one)).hexdigest()[:32] for one in (named, place)]  # as before, too
    with contextlib.suppress(OSError):  # forgotten, a file is asked about
        if text is not None:
            write_atomically(notes[0], lambda scratch: scratch.write_bytes(os.fsencode(text)))
        return os.fsdecode(next(filter(Path.is_file, notes), notes[0]).read_bytes())
    return None
