"""What an unpacked folder held when it was whole: names and sizes in a file beside it, and one hash that stands for them."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from exfuse.errors import DataError
from exfuse.files import write_atomically


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
    text = "".join(f"{size}\t{name}\n" for name, size in sorted(sizes.items()))
    write_atomically(manifest_file(folder), lambda scratch: scratch.write_text(text))
    return _summary(text)


def check_manifest(folder: Path) -> Manifest | None:
    """Compare a folder with its manifest; None if it has none. Files that came later do not matter.

    Raises:
        DataError: naming the first file that is missing or of another size.
    """
    path = manifest_file(folder)
    if not path.is_file():
        return None
    text, wrong = path.read_text(), []
    for line in text.splitlines():
        size, _, name = line.partition("\t")
        file = folder / name
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
