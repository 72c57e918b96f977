"""What one session of tests makes once, whatever the number of its workers, and how much of it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock

T = TypeVar("T")
FULL = bool(os.environ.get("EXFUSE_FULL_TESTS"))  # `make test-all` sets it


def amount(usual: T, full: T) -> T:
    """How many times, or on what, a test is run: some of every kind in ``make test``, all of them in ``make test-all``."""
    return full if FULL else usual


def make_once(temporary: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder of this name that ``make(folder)`` fills, made by the worker that asks first; no test may change it."""
    base = temporary.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared_{name}"
    with FileLock(f"{folder}.lock"):
        made = Path(f"{folder}.made")
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            folder.mkdir()
            make(folder)
            made.touch()
    return folder
