"""Checkpoints that carry the hash of their own bytes, so that one is whole and unaltered, or refused by name. Torch-free.

A checkpoint of torch's is a zip file, and a zip file may end with a comment: the seal is one. Any program reads a sealed file
as before, and one rename puts weights and seal in place together.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from exfuse.errors import CheckpointError
from exfuse.files import write_atomically
from exfuse.store.record import RECORD, read_record

CHECKPOINTS, LAST = "checkpoints", "last.ckpt"  # where a run keeps the latest
_WORD = b"exfuse-sha256:"
_LENGTH = (len(_WORD) + 64).to_bytes(2, "little")  # of the comment, as a zip file's last bytes before it say
_TAIL = 2 + len(_WORD) + 64
_REMEDY = "Copy it anew; or, if it is a run's, train that again with overwrite=true."


class _Hashing:
    """A file that hashes what passes through it, so that nothing need be read again."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, block: bytes) -> int:
        self.digest.update(block)
        return self.file.write(block)

    def flush(self) -> None:
        self.file.flush()


def write_sealed(path: Path, save: Callable[[IO[bytes]], object]) -> None:
    """Let ``save`` write a zip file from its beginning to its end, and put it in the place of ``path``, sealed."""

    def write(scratch: Path) -> None:
        with scratch.open("w+b") as file:
            hashing = _Hashing(file)
            save(hashing)  # type: ignore[arg-type]
            file.seek(-2, 2)
            file.write(_LENGTH + _WORD + hashing.digest.hexdigest().encode())

    write_atomically(path, write)


def last_of(path: Path) -> Path:
    """A checkpoint, which stands for itself; of a run's folder its last one."""
    return path / CHECKPOINTS / LAST if path.is_dir() else path


def check_sealed(path: Path) -> str:
    """The SHA-256 of a checkpoint file that is what was written: by its seal and, for a finished run's last, by its record.

    Raises:
        CheckpointError: if it is missing, cut short, altered or exchanged, or nothing says what it should be.
        UserError: if the record beside it must not be trusted.
    """
    if not path.is_file():
        raise CheckpointError(f"No checkpoint {path}. Give a run's folder or one of the files in its checkpoints/.")
    digest, left = hashlib.sha256(), path.stat().st_size - _TAIL
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(1 << 20, left))):
            digest.update(block)
            left -= len(block)
        content, tail = digest.copy(), file.read()
    content.update(bytes(2))
    digest.update(tail)
    sealed = tail == _LENGTH + _WORD + content.hexdigest().encode()
    recorded = _recorded(path)
    if recorded is None and not sealed:
        raise CheckpointError(
            f"{path} is damaged or unsealed: its bytes are not those that were written (cut short, altered, or from an earlier "
            f"version). {_REMEDY}"
        )
    if recorded not in (None, found := digest.hexdigest()):
        raise CheckpointError(
            f"{path} is not the checkpoint that its record describes: it was cut short, altered or exchanged. {_REMEDY}"
        )
    return found


def _recorded(path: Path) -> str | None:
    """What the record of a finished run says of its last checkpoint; None where there is no such record."""
    record = path.absolute().parent.parent / RECORD
    if path.name != LAST or path.absolute().parent.name != CHECKPOINTS or not record.is_file():
        return None
    found = read_record(record)
    return found.checkpoint_sha256 if found.done else None
