"""Unpacking one folder of an archive: safely, and complete or not at all."""

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.progress import Progress

from exfuse.errors import DataError


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
            task = bar.add_task(f"Unpacking {archive.name}")
            if archive.suffix == ".zip":
                _unpack_zip(archive, scratch, lambda done, of: bar.update(task, completed=done, total=of))
            else:
                _unpack_tar(archive, scratch)
        if not (scratch / inside).is_dir():
            raise DataError(f"{archive} holds no folder {inside}. It is another archive, or the source's `inside` is wrong.")
        (scratch / inside).rename(target)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise DataError(f"{archive} cannot be unpacked ({type(error).__name__}: {error}).") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unpack_tar(archive: Path, scratch: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise DataError("This Python unpacks .tar files without a check of their members: use 3.10.12, 3.11.4 or newer.")
    with tarfile.open(archive) as opened:
        opened.extractall(scratch, filter="data")  # refuses absolute paths, steps upwards, links out of it and devices


def _unpack_zip(archive: Path, scratch: Path, progress: Callable[[int, int], None]) -> None:
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
        for name in names:  # zipfile would quietly unpack these under another name
            path = PurePosixPath(name.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts:
                raise DataError(f"{archive}: {name} would be unpacked outside its folder. Do not use this archive.")
        for done, name in enumerate(names, 1):
            opened.extract(name, scratch)  # checks each file's CRC
            if done % 500 == 0 or done == len(names):
                progress(done, len(names))
