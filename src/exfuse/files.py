"""Writing so that a file is either whole or not there."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# The config files: a folder of the installed package; in a checkout a link to conf/ at its top.
CONFIG_DIR = (Path(__file__).parent / "conf").resolve()
_added: list[Path] = []


def config_dirs() -> tuple[Path, ...]:
    """Where config files are looked for: in the package, then in the folders that the user added."""
    return (CONFIG_DIR, *_added)


def set_config_dirs(added: Iterable[Path]) -> None:
    """Look in these folders too, in this process, in the place of those added before."""
    _added[:] = dict.fromkeys(folder.resolve() for folder in added)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file in ``path``'s folder, then move it into place.

    The temporary name keeps the suffix, by which libraries choose a format. If ``write`` fails, nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    scratch = Path(name)
    try:
        write(scratch)
        scratch.chmod(0o644)  # mkstemp's files are private
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary folder beside ``path``, then put it in the place of whatever folder is there.

    If ``write`` fails, the folder that was there stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as name:
        scratch, former = Path(name) / "new", Path(name) / "former"
        scratch.mkdir()
        write(scratch)
        if path.exists():
            path.replace(former)
        scratch.replace(path)


def as_json(content: Any) -> str:
    """What `write_json` writes."""
    return json.dumps(content, indent=2) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    write_atomically(path, lambda scratch: scratch.write_text(as_json(content)))


def sha256(path: Path) -> str:
    """Hash of a file's content; of nothing if there is no such file, which whoever reads it will name."""
    digest = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
