"""A data set and a run so small that a test can afford them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig  # noqa: F401 - registers Hydra's resolvers before configs are composed

from exfuse.store.description import RunDescription
from exfuse.store.folder import RunFolder
from tests.sharing import make_once

# Scenes of 64 pixels, two epochs of four steps.
SMALL = (
    "trainer=cpu",
    "backbone.init=random",
    "trainer.enable_progress_bar=false",
    "runtime.workers=0",
    "runtime.threads=1",
    "sweep.parallel=1",  # children of a test's own process start faster than those of joblib's
    "data.images.train=16",
    "data.images.val=5",
    "data.size=64",
    "recipe.epochs=2",
    "recipe.val_every=1",
    "recipe.batch_size=4",
    "recipe.augmentation.crop=64",
)


@pytest.fixture(scope="session")
def scenes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_once(tmp_path_factory, "data", lambda _: None) / "scenes"  # the first training draws them


@pytest.fixture(scope="session")
def small_overrides(scenes_folder: Path) -> list[str]:
    return [*SMALL, f"data.root={scenes_folder}"]


@pytest.fixture
def train_small(
    compose_config: Callable[..., RunDescription], small_overrides: list[str], tmp_path: Path
) -> Callable[..., RunFolder]:
    """Train in this process and return the run's folder: ``train_small("seed=1", runs=folder)``."""

    def trained(*overrides: str, runs: Path = tmp_path / "runs") -> RunFolder:
        from exfuse.runs.training import train

        train(compose_config(*small_overrides, f"paths.runs={runs}", *overrides))
        return only_run(runs)

    return trained


@pytest.fixture(scope="session")
def finished_run(
    compose_config: Callable[..., RunDescription], small_overrides: list[str], tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """One finished run that no test may change."""

    def finish(runs: Path) -> None:
        from exfuse.runs.training import train

        train(compose_config(*small_overrides, f"paths.runs={runs}", "+ablation=seb_ecre"))

    return only_run(make_once(tmp_path_factory, "finished_run", finish))


def only_run(runs: Path) -> RunFolder:
    """The folder of the one run under ``runs``."""
    (record,) = runs.glob("*/record.json")
    return RunFolder(runs, record.parent.name)
