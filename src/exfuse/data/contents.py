"""What files hold, as SHA-256: hashed once, then remembered by where a file lies and what the file system says of it."""

import contextlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from rich.progress import track

from exfuse.files import sha256, write_atomically

_SETTLED = 2 * 10**9  # ns: a file changed so shortly before it was hashed may have changed again within its time stamp
_MANY = 2000  # files, from which on people want to see progress


class _Known(msgspec.Struct, frozen=True, array_like=True):
    """What the file system said of a file when it was hashed, when that was (ns), and the hash."""

    stamp: tuple[int, int, int, int]
    hashed: int
    digest: str


_Index = dict[str, _Known]


def content_hashes(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of the content of each file, in the order of ``paths``.

    A file is read again unless its path, inode, size and both time stamps (in nanoseconds, the one of status changes among
    them, which no program can set back) are those under which it was hashed, two seconds or more after its last change.

    Args:
        paths: of files that exist.

    Raises:
        OSError: if one cannot be read.
    """
    where = _index_file()
    known = _read(where)
    names = [str(path.absolute()) for path in paths]
    stamps = [_stamp(path) for path in paths]
    asked = {
        name: path
        for name, stamp, path in zip(names, stamps, paths, strict=True)
        if (entry := known.get(name)) is None or entry.stamp != stamp or entry.hashed - max(stamp[2:]) < _SETTLED
    }
    if asked:
        now = time.time_ns()  # before they are read: a change meanwhile is then too young
        with ThreadPoolExecutor(8) as pool:
            hashed = pool.map(sha256, asked.values())
            digests = [*track(hashed, "Hashing files", len(asked), transient=True, disable=len(asked) < _MANY)]
        by_name = dict(zip(names, stamps, strict=True))
        found = {name: _Known(by_name[name], now, digest) for name, digest in zip(asked, digests, strict=True)}
        known |= found
        with contextlib.suppress(OSError):  # a memory that cannot be kept costs time, nothing else
            packed = msgspec.msgpack.encode(_read(where) | found)
            write_atomically(where, lambda scratch: scratch.write_bytes(packed))
    return [known[name].digest for name in names]


def _stamp(path: Path) -> tuple[int, int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _index_file() -> Path:
    """In ``EXFUSE_CACHE``, else where the system keeps caches of a user."""
    cache = os.environ.get("EXFUSE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "exfuse"
    return Path(cache) / "contents.msgpack"


def _read(path: Path) -> _Index:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=_Index)
    except (OSError, msgspec.MsgspecError):  # none yet, or cut short: every file is hashed anew
        return {}
