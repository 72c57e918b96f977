"""What files hold: hashed and looked at once, then remembered by where a file lies and what the file system says of it.

One memory a folder, so that a small data set never waits for what is known of a large one.
"""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import msgspec

from exfuse.data.pixels import Facts
from exfuse.errors import DataError
from exfuse.files import sha256, write_atomically
from exfuse.process import beat
from exfuse.terminal import track

_SETTLED = 2 * 10**9  # ns: a file changed so shortly before it was hashed may have changed again within its time stamp
_VERSION = 3  # raise it whenever the same content would be looked at with another result
_SEAL = 32  # bytes before the rest: its SHA-256
_MANY = 2000  # files, from which on people want to see progress
Stamp = tuple[int, int, int, int]
Look = Callable[[Path], Facts]
_Name = tuple[str, str]  # folder and file


class Content(msgspec.Struct, frozen=True, array_like=True):
    """One file.

    Attributes:
        stamp: what the file system said of it when it was hashed: inode, size, and both time stamps in nanoseconds, the one of
            status changes among them, which no program can set back.
        digest: SHA-256 of what it holds.
        looks: what each way of looking at it found.
    """

    stamp: Stamp
    digest: str
    looks: dict[str, Facts] = {}


@dataclass
class _Anew:
    """Whether files are hashed though they are known, and which then held something else than was remembered."""

    wanted: bool = False
    altered: list[Path] = field(default_factory=list)
    done: set[tuple[_Name, str]] = field(default_factory=set)

    def asks(self, name: _Name, way: str) -> bool:
        return self.wanted and (name, way) not in self.done


_anew = _Anew()


@contextlib.contextmanager
def hashed_anew() -> Iterator[list[Path]]:
    """Trust no memory inside, but hash and look at each file once more.

    Yields:
        A list that fills with files that changed although nothing that the file system says of them did.
    """
    _anew.__init__(wanted=True)  # type: ignore[misc]
    try:
        yield _anew.altered
    finally:
        _anew.wanted = False


def content_hashes(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of the content of each file, in the order of ``paths``; see `contents`."""
    return [one.digest for one in contents(paths)]


def contents(paths: Sequence[Path], look: Look | None = None) -> list[Content]:
    """What each file holds, in the order of ``paths``.

    A file is read again unless its path, inode, size and both time stamps are those under which it was hashed; what was
    hashed less than two seconds after its last change is not remembered.

    Args:
        paths: of the files.
        look: looks at one, such as `exfuse.data.pixels.look_at_mask`; what it finds is remembered with the content.

    Raises:
        DataError: if one is missing, is no file or cannot be read.
    """
    names = [os.path.split(os.path.abspath(path)) for path in paths]  # noqa: PTH100 - far faster than `Path`
    memories = {folder: _read(folder) for folder in {folder for folder, _ in names}}
    stamps = dict(zip(names, map(_stamp, paths), strict=True))
    way, known, todo = getattr(look, "__name__", ""), dict[_Name, Content](), dict[_Name, Path]()
    for name, path in zip(names, paths, strict=True):
        entry = memories[name[0]].get(name[1])
        if entry is not None:
            known[name] = entry
        if entry is None or entry.stamp != stamps[name] or _is_open(entry, way) or _anew.asks(name, way):
            todo[name] = path
    if todo:
        now = time.time_ns()  # before they are read: a change meanwhile is then too young

        def examine(name: _Name) -> Content:
            beat()  # of a large data set that is new, for minutes
            path, before = todo[name], known.get(name)
            digest = _sha256(path)
            looks = dict(before.looks) if before is not None and before.digest == digest else {}
            if before is not None and before.digest != digest and before.stamp == stamps[name]:
                _anew.altered.append(path)
            if look is not None and (_anew.wanted or way not in looks or looks[way].problem):
                looks[way] = look(path)
            _anew.done |= {(name, ""), (name, way)}
            return Content(stamps[name], digest, looks)

        with ThreadPoolExecutor(8) as pool:
            found = pool.map(examine, todo)
            known |= zip(todo, track(found, "Reading files", len(todo), transient=True, disable=len(todo) < _MANY), strict=True)
        settled = [name for name in todo if now - max(stamps[name][2:]) >= _SETTLED]
        for here in {folder for folder, _ in settled}:
            _remember(here, {name: known[folder, name] for folder, name in settled if folder == here})
    return [known[name] for name in names]


def _is_open(entry: Content, way: str) -> bool:
    """Whether a file was not looked at in this way, or a problem was seen, which may have been the machine's."""
    return bool(way) and (way not in entry.looks or bool(entry.looks[way].problem))


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path} does not exist." if error.errno in (2, 20) else f"{path}: {error.strerror}.") from error
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path} is no file.")
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _sha256(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error


def _memory(folder: str) -> Path:
    """In ``EXFUSE_CACHE``, else where the system keeps caches of a user."""
    cache = os.environ.get("EXFUSE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "exfuse"
    return Path(cache) / f"contents-{_VERSION}" / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]}.msgpack"


def _read(folder: str) -> dict[str, Content]:
    """What is remembered of a folder; nothing where that is none yet, cut short or altered: every file is then read anew."""
    try:
        seal, packed = (content := _memory(folder).read_bytes())[:_SEAL], content[_SEAL:]
        return _decoded(packed) if seal == hashlib.sha256(packed).digest() else {}
    except (OSError, ValueError, msgspec.MsgspecError):
        return {}


@lru_cache(8)
def _decoded(packed: bytes) -> dict[str, Content]:
    """A sweep asks for the same folders run by run; nobody may change what this gives."""
    return msgspec.msgpack.decode(packed, type=dict[str, Content])


def _remember(folder: str, found: dict[str, Content]) -> None:
    with contextlib.suppress(OSError, UnicodeEncodeError):  # a memory that cannot be kept costs time, nothing else
        packed = msgspec.msgpack.encode(_read(folder) | found)
        write_atomically(_memory(folder), lambda scratch: scratch.write_bytes(hashlib.sha256(packed).digest() + packed))
