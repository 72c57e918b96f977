"""From an archive's address to a folder: fetched, checked, unpacked safely and listed, each only if it is not done.

The list stands beside the folder: names and sizes of what it held when it was whole, and one hash that stands for them.
"""

import hashlib
import json
import lzma
import shutil
import sys
import urllib.parse
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from filelock import FileLock

from exfuse.data_setup.download import OF_THIS_DISK, fetch
from exfuse.errors import DataError
from exfuse.files import write_text
from exfuse.terminal import Console, Progress

if sys.version_info >= (3, 12):
    import tarfile
else:  # 3.10 and 3.11 check an archive's members from some release on, which Debian 12's is not
    from backports import tarfile


_BLOCK = 2**20  # bytes
_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")


class Manifest(NamedTuple):
    """Number of files, their bytes, and SHA-256 over their sorted names and sizes."""

    files: int
    size: int
    digest: str

    def __str__(self) -> str:
        return f"{self.files:,} files, {self.size / 1e9:.2f} GB, manifest {self.digest[:16]}"


def manifest_file(folder: Path) -> Path:
    """Where the manifest of a folder lies: beside it, so that the folder stays as it came."""
    return folder.parent / f"{folder.name}.manifest"


def write_manifest(folder: Path) -> Manifest:
    """List every file of a folder by its relative name and size."""
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    text = "".join(f"{size}\t{_in_one_line(name)}\n" for name, size in sorted(sizes.items()))
    write_text(manifest_file(folder), text)
    return _summary(text)


def _in_one_line(name: str) -> str:
    """A name as a line of text holds it: in JSON where it breaks lines, is no Unicode, or looks like JSON."""
    return name if name.isprintable() and not name.startswith('"') else json.dumps(name)


def check_manifest(folder: Path) -> Manifest | None:
    """Compare a folder with its manifest; None if it has none. Files that came later do not matter.

    Raises:
        DataError: naming the first file that is missing or of another size.
    """
    path = manifest_file(folder)
    if not path.is_file():
        return None
    text, wrong = path.read_text(encoding="utf-8", errors="replace"), []
    for line in text.splitlines():
        size, _, name = line.partition("\t")
        try:
            file = folder / (json.loads(name) if name.startswith('"') else name)
        except ValueError:
            name = ""
        if not size.isdecimal() or not name:
            raise DataError(f"{path} was altered, at {line[:40]!r}. Delete it: what lies in {folder} is listed anew.")
        if not file.is_file() or file.stat().st_size != int(size):
            wrong.append(name)
    if wrong:
        raise DataError(
            f"{folder} is not as it was unpacked: {len(wrong):,} files are missing or of another size, e.g. {wrong[0]}. "
            f"Delete {folder} and start again: the archive is kept and unpacked anew."
        )
    return _summary(text)


def _summary(text: str) -> Manifest:
    sizes = [int(line.partition("\t")[0]) for line in text.splitlines()]
    return Manifest(len(sizes), sum(sizes), hashlib.sha256(text.encode()).hexdigest())


# Unpacking one folder of an archive: safely, and complete or not at all.


def unpack(archive: Path, inside: str, target: Path, console: Console) -> None:
    """Put the folder ``inside`` of an archive in the place of ``target``, which must not be there yet.

    Args:
        archive: a .tar, .tar.gz, .tgz or .zip.
        inside: path of the folder in it.
        target: the folder appears there once everything is unpacked.
        console: for progress.

    Raises:
        DataError: if the archive is broken, holds a member that would be unpacked elsewhere, or no such folder.
    """
    scratch = target.parent / f".{target.name}.unpacking"
    shutil.rmtree(scratch, ignore_errors=True)  # of an earlier start that was killed
    scratch.mkdir(parents=True)
    try:
        with Progress(console=console, transient=True) as bar:
            bar.add_task(f"Unpacking {archive.name}", total=None)
            # a .tar that holds a .zip may end as one
            is_zip = archive.suffix == ".zip" or (zipfile.is_zipfile(archive) and not tarfile.is_tarfile(archive))
            (_unpack_zip if is_zip else _unpack_tar)(archive, scratch)
        if not (scratch / inside).is_dir():
            raise DataError(f"{archive} holds no folder {inside}. It is another archive, or the source's `inside` is wrong.")
        (scratch / inside).rename(target)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in OF_THIS_DISK:
            raise
        raise DataError(f"{archive} cannot be unpacked ({type(error).__name__}: {error}).") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unpack_tar(archive: Path, scratch: Path) -> None:
    with tarfile.open(archive) as opened:
        opened.extractall(scratch, filter="data")  # refuses absolute paths, steps upwards, links out of it and devices
        while opened.fileobj and opened.fileobj.read(_BLOCK):  # tarfile stops before the checksum at the compressed file's end
            pass


def _unpack_zip(archive: Path, scratch: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():  # zipfile would quietly unpack these under another name
            path = PurePosixPath(name.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts:
                raise DataError(f"{archive}: {name} would be unpacked outside its folder. Do not use this archive.")
        opened.extractall(scratch)  # checks each file's CRC


# From an archive's address to a folder in its place: fetched, checked, unpacked and listed, each only if it is not done.


class Archive(NamedTuple):
    """One archive of a data set.

    Attributes:
        url: where it is to be had.
        checksum: ``md5:...`` or ``sha256:...``; None where none is published.
        inside: the folder in it that is wanted.
        target: where that folder goes.
        manifest: first digits of the manifest hash that the unpacked folder must have; None to take any.
    """

    url: str
    checksum: str | None
    inside: str
    target: Path
    manifest: str | None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Archive":
        return cls(str(config["url"]), config["checksum"], config["inside"], Path(config["target"]), config["manifest"])


def provide(archive: Archive, store: Path, attempts: int, console: Console) -> Manifest:
    """Have the folder of an archive in its place, whole.

    A folder that is there and has no manifest, such as an earlier copy of the user's own, is listed and left to the data set's
    own checks.

    Args:
        archive: what to fetch.
        store: folder where the archives themselves are kept.
        attempts: see `exfuse.data_setup.download.fetch`.
        console: for news and progress.

    Raises:
        DataError: if it cannot be had, is broken twice, or the folder is not what it was or what is expected.
    """
    archive.target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(archive.target.parent / f".{archive.target.name}.lock"):
        if not archive.target.exists():
            _unpacked(archive, store / _file_name(archive.url, archive.checksum), attempts, console)
            write_manifest(archive.target)
        manifest = check_manifest(archive.target) or write_manifest(archive.target)
    if archive.manifest is not None and not manifest.digest.startswith(archive.manifest):
        raise DataError(
            f"{archive.target} holds {manifest}, where {archive.manifest} is expected: other files. Delete it "
            "and start again, or set the source's manifest to null."
        )
    console.print(f"{archive.target}: {manifest}", soft_wrap=True)
    return manifest


def _file_name(url: str, checksum: str | None) -> str:
    """What an archive is kept as: the name in its path, or in its query, that ends as one; else one of its own.

    Without a checksum nothing else tells archives of one name apart, so their names begin with digits of the address.
    """
    address = urllib.parse.urlsplit(url)
    parts = [address.path, *(value for _, value in urllib.parse.parse_qsl(address.query))]
    names = [PurePosixPath(part).name for part in parts]
    digits = hashlib.sha256(url.encode()).hexdigest()[:16]
    own = f"archive-{digits}" if address.query else names[0]
    found = next((name for name in names if name.lower().endswith(_SUFFIXES)), own)
    return found if checksum else f"{digits[:8]}-{found}"


def _unpacked(archive: Archive, file: Path, attempts: int, console: Console) -> None:
    for last in (False, True):
        fetch(archive.url, file, archive.checksum, console, attempts)
        try:
            unpack(file, archive.inside, archive.target, console)
            return
        except DataError as error:
            if last or archive.checksum is not None:  # whole by its checksum: fetching it again would change nothing
                raise
            console.print(f"{error} Fetched again.", soft_wrap=True)
            file.unlink()
