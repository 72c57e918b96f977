"""The record of a run or backbone as a file: whole, unaltered and of this schema, or refused by name."""

import hashlib
import json
from pathlib import Path
from typing import Any

from exfuse.errors import UserError
from exfuse.files import write_json

SCHEMA = 2


def write_record(path: Path, key: str, status: str, content: dict[str, Any]) -> dict[str, Any]:
    """Write a record with its schema and a checksum over the rest, atomically, and return it."""
    sealed = {"schema": SCHEMA, "key": key, "status": status, **content}
    sealed["checksum"] = _checksum(sealed)
    write_json(path, sealed)
    return sealed


def read_record(path: Path, key: str) -> dict[str, Any]:
    """Read the record of the run or backbone ``key``.

    Raises:
        UserError: if it is cut short, altered, of another run or of another schema: it must not be trusted.
    """
    refusal = f"{path} is not a whole record of {key}"
    advice = "Delete its folder, or add overwrite=true to make it anew."
    try:
        record = json.loads(path.read_text())
        schema, recorded, status, checksum = (record[name] for name in ("schema", "key", "status", "checksum"))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{refusal} (schema {SCHEMA}): it is cut short or foreign. {advice}") from error
    if schema != SCHEMA:
        raise UserError(f"{refusal}: it has schema {schema}, this version reads {SCHEMA}. {advice}")
    if recorded != key or not status:
        raise UserError(f"{refusal}: it calls itself {recorded}. {advice}")
    if checksum != _checksum(record):
        raise UserError(f"{refusal}: its checksum does not fit, it was altered. {advice}")
    return record


def _checksum(record: dict[str, Any]) -> str:
    content = {name: value for name, value in record.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
