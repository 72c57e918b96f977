"""Runs to look into, made as the tests of runs make them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from exfuse.runs.training import train
from exfuse.store.description import RunDescription
from exfuse.store.folder import RunFolder
from tests.sharing import make_once
from tests.small_runs import finished_run, only_run, scenes_folder, small_overrides  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def baseline_run(
    compose_config: Callable[..., RunDescription],
    small_overrides: list[str],  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> RunFolder:
    """A finished run without SEB that no test may change."""

    def finish(runs: Path) -> None:
        train(compose_config(*small_overrides, f"paths.runs={runs}"))

    return only_run(make_once(tmp_path_factory, "baseline_run", finish))
