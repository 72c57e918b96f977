"""The number of threads of a run: the one that it began with."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from exfuse.runs.fitting import keep_threads


@pytest.fixture(autouse=True)
def as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def folder(path: Path, began: int | None) -> Any:
    """Of a run that began with so many threads and has saved an epoch; None: of one that has not begun."""
    last = path / "last.ckpt"
    if began is not None:
        last.touch()
    record = None if began is None else SimpleNamespace(config={"runtime": {"threads": began}})
    return SimpleNamespace(record=lambda: record, last=last)


@pytest.mark.parametrize(("asked", "began", "expected"), [(None, None, 2), (3, None, 3), (None, 1, 1), (1, 1, 1), (3, 1, 1)])
def test_a_run_goes_on_with_the_number_it_began_with(compose_config, tmp_path, capsys, asked, began, expected) -> None:
    torch.set_num_threads(2)
    run = keep_threads(compose_config(*([] if asked is None else [f"runtime.threads={asked}"])), folder(tmp_path, began))
    assert run.runtime.threads == torch.get_num_threads() == expected
    said = capsys.readouterr().err
    assert ("goes on with 1, as it began" in said) is (asked == 3 and began == 1)
