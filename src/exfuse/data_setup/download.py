"""Fetching one file over HTTP so that an interruption costs nothing and a damaged file is never taken for the whole.

Own code over the standard library: pooch and torchvision check hashes and show progress, but neither goes on with a partial
file, and the archives here are up to 18 GB.
"""

import errno
import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from exfuse.errors import DataError
from exfuse.files import decoded, digest_of
from exfuse.terminal import Console, Progress

_BLOCK = 1 << 20
_TIMEOUT = 60  # seconds without a byte
_CHECKSUM = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", re.IGNORECASE)
OF_THIS_DISK = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS)  # no other attempt helps
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses worth another attempt


def fetch(url: str, path: Path, checksum: str | None, console: Console, attempts: int = 5, pause: float = 2.0) -> None:
    """Have ``url`` in ``path``: nothing is done if it is there and whole, a broken file is named and fetched again.

    Args:
        url: of the file; http, https or file.
        path: where it goes; ``path.part`` grows until it is whole, over any number of starts.
        checksum: ``md5:...`` or ``sha256:...``; None where none is published: only the length is checked then.
        console: for news.
        attempts: how often in a row a cut connection is taken up again without a byte more.
        pause: seconds before the first of them; doubled each time.

    Raises:
        DataError: if the file cannot be had, or has another checksum twice.
    """
    address = urllib.parse.urlsplit(url)
    names_a_file = address.query or address.path.rpartition("/")[2]
    if address.scheme not in ("http", "https", "file") or not url.isascii() or not names_a_file:
        raise DataError(f"{url!r}: expected the address of a file, https://HOST/FILE, in ASCII. Correct the source's url.")
    if checksum is not None and not _CHECKSUM.fullmatch(checksum):
        raise DataError(f"checksum {checksum}: expected md5: or sha256: and hexadecimal digits, or null.")
    if path.is_file():
        if (found := verify(path, checksum)) is None:
            return
        console.print(f"{path} is broken or partial ({found}, expected {checksum}): fetched again.", soft_wrap=True)
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    for last in (False, True):
        _complete(url, path, part, checksum, console, attempts, pause)
        found = verify(part, checksum)
        if found is None:
            part.replace(path)
            _stamp(part).unlink(missing_ok=True)
            return
        part.unlink()
        if not last:
            console.print(f"{url} arrived damaged ({found}, expected {checksum}): fetched again.", soft_wrap=True)
    raise DataError(
        f"{url} is not the expected file: twice {found} instead of {checksum}. Choose a mirror by its url in conf/source, or "
        f"fetch {path.name} by hand and put it into {path.parent}."
    )


def verify(path: Path, checksum: str | None) -> str | None:
    """The checksum that was found if it is not the expected one, else None."""
    if checksum is None:
        return None
    kind = checksum.partition(":")[0]
    found = f"{kind}:{digest_of(path, kind)}"
    return None if found == checksum.lower() else found


def _complete(url: str, path: Path, part: Path, checksum: str | None, console: Console, attempts: int, pause: float) -> None:
    """Let ``part`` grow until the server says that it is whole."""
    failures = 0
    columns = (TextColumn(path.name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(path.name, total=None)
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                _transfer(url, part, checksum, lambda done, total: bar.update(task, completed=done, total=total))
                return
            except urllib.error.HTTPError as error:
                problem: Exception = error
                if error.code not in (*_TEMPORARY, 416):
                    raise DataError(_by_hand(url, path, f"HTTP {error.code}")) from error
            except (OSError, http.client.HTTPException) as error:  # URLError and a cut connection among them
                if isinstance(error, OSError) and error.errno in OF_THIS_DISK:
                    raise
                problem = error
            grown = (part.stat().st_size if part.exists() else 0) > before
            failures = 1 if grown else failures + 1
            if failures >= attempts:
                raise DataError(_by_hand(url, path, f"{problem}")) from problem
            time.sleep(min(60.0, pause * 2 ** (failures - 1)))


def _by_hand(url: str, path: Path, why: str) -> str:
    return (
        f"{url} could not be fetched ({why}). The same command goes on where it stopped. Else choose a mirror by its url in "
        f"conf/source, or fetch {path.name} by hand and put it into {path.parent}."
    )


def _transfer(url: str, part: Path, checksum: str | None, progress: Callable[[int, int | None], None]) -> None:
    """One connection: append to ``part`` if the server goes on where it ends, else begin anew.

    Raises:
        OSError, HTTPException: if it is cut; what came is kept.
    """
    have = part.stat().st_size if part.exists() else 0
    stamp = decoded(_stamp(part), str)
    if stamp is None and checksum is None:
        have = 0  # nothing would tell whether the rest is of the same file
    request = urllib.request.Request(url, headers={"User-Agent": "exfuse-ablation"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if stamp:
            request.add_header("If-Range", stamp)  # a file that changed meanwhile is sent whole
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return  # nothing is missing
            part.unlink()  # longer than the file: begin anew
        raise
    with response:
        goes_on = response.status == 206 and str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
        if not goes_on:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _remember(part, response.headers)
        with part.open("ab" if goes_on else "wb") as file:
            progress(have, total)
            while block := response.read(_BLOCK):
                file.write(block)
                have += len(block)
                progress(have, total)
    if total is not None and have < total:
        raise ConnectionError(f"the connection was cut after {have:,} of {total:,} bytes")


def _stamp(part: Path) -> Path:
    """Where the server's mark of the file's version is kept."""
    return part.with_name(f"{part.name}.stamp")


def _remember(part: Path, headers: http.client.HTTPMessage) -> None:
    mark = headers.get("ETag") or headers.get("Last-Modified")
    if mark and not mark.startswith("W/"):  # a weak mark does not vouch for bytes
        _stamp(part).write_text(json.dumps(mark))
    else:
        _stamp(part).unlink(missing_ok=True)
