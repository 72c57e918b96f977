"""Mend the file of a W&B run whose process was killed: at a record that is cut short, `wandb sync` stops for good."""

import os
import struct
from pathlib import Path

_MAGIC, _VERSIONED = b":W&B", 7  # bytes of the file's header
_BLOCK, _HEADER = 32768, struct.Struct("<IHB")  # a record lies in one piece or several, none across two blocks
_FULL, _LAST = 1, 4  # kinds of pieces that end a record


def cut_to_whole_records(path: Path) -> bool:
    """Cut a file in W&B's log format behind its last whole record; whether one is left.

    Args:
        path: a ``.wandb`` file that nobody writes any more. One of another format is left as it is.
    """
    data = path.read_bytes()
    if data[:4] != _MAGIC:
        return True
    end = _end_of_records(data)
    if end < len(data):
        os.truncate(path, end)
    return end > _VERSIONED


def _end_of_records(data: bytes) -> int:
    position = end = _VERSIONED
    while position + _HEADER.size <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER.size:  # too little for a header: padding
            position += left
            continue
        _, length, kind = _HEADER.unpack_from(data, position)
        position += _HEADER.size + length
        if kind == 0 or position > len(data):
            break
        if kind in (_FULL, _LAST):
            end = position
    return end
