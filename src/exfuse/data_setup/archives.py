"""From an archive's address to a folder in its place: fetched, checked, unpacked and listed, each only if it is not done."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from rich.console import Console

from exfuse.data_setup.download import fetch
from exfuse.data_setup.manifest import Manifest, check_manifest, write_manifest
from exfuse.data_setup.unpack import unpack
from exfuse.errors import DataError


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
        return cls(config["url"], config["checksum"], config["inside"], Path(config["target"]), config["manifest"])


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
            _unpacked(archive, store / archive.url.rpartition("/")[2], attempts, console)
            write_manifest(archive.target)
        manifest = check_manifest(archive.target) or write_manifest(archive.target)
    if archive.manifest is not None and not manifest.digest.startswith(archive.manifest):
        raise DataError(
            f"{archive.target} holds {manifest}, where {archive.manifest} is expected: other files. Delete it "
            "and start again, or set the source's manifest to null."
        )
    console.print(f"{archive.target}: {manifest}", soft_wrap=True)
    return manifest


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
