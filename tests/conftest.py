"""Fixtures that every folder of tests shares."""

import gc
import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from exfuse.config.overrides import describe_run
from exfuse.store.description import RunDescription
from tests import composing, entry_points
from tests.command import command  # noqa: F401 - fixtures of all folders
from tests.entry_points import forked  # noqa: F401 - fixtures of all folders
from tests.small_runs import finished_run, scenes_folder, small_overrides, train_small  # noqa: F401 - fixtures of all folders

REPOSITORY = Path(__file__).resolve().parent.parent
gc.set_threshold(100_000, 20, 20)  # as the command has it
# remembered hashes of files go where no user's own are
os.environ.setdefault("EXFUSE_CACHE", str(Path(tempfile.gettempdir()) / f"exfuse-tests-{os.getuid()}"))
composing.remember()
# what hypothesis counts is time on the clock, and of that a busy machine takes any amount
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


# files with tests that take longest on the clock, as they wait for a scheduler, a network or many trainings
LONGEST = (
    *("test_ray.py", "test_slurm.py", "test_chain.py", "test_sweep.py", "test_wandb.py", "test_staged_sweep.py"),
    *("test_kills.py", "test_docs.py", "test_page.py", "test_export.py", "test_overfit.py", "test_stability.py"),
)


def pytest_configure(config: pytest.Config) -> None:
    """The process that deals tests out to others."""
    if getattr(config.option, "numprocesses", None):
        entry_points.share_server()


def pytest_collection_finish() -> None:
    """What has been imported by now stays, and the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each worker's share begins with tests that take long and ends with short ones, which the others may take over.

    pytest-xdist deals the list out in as many parts of equal length as there are workers. The tests of a file stay together.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    slow = {path: sum(bool(item.get_closest_marker("slow")) for item in found) for path, found in files.items()}
    place = {name: number for number, name in enumerate(LONGEST)}
    shares: list[list[Path]] = [[] for _ in range(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))]
    for path in sorted(filter(slow.get, files), key=lambda path: place.get(path.name, len(LONGEST))):
        min(shares, key=lambda share: sum(slow[one] for one in share)).append(path)
    for path in sorted((path for path in files if not slow[path]), key=lambda path: -len(files[path])):
        min(shares, key=lambda share: sum(len(files[one]) for one in share)).append(path)
    items[:] = [item for share in shares for path in share for item in files[path]]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real images for development; they never come with the repository, so tests on them skip where they are absent."""
    folder = Path(os.environ.get("EXFUSE_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; EXFUSE_TEST_DATA names another folder")
    return folder


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser; one a process, as playwright runs no second one beside it."""
    screenshots = pytest.importorskip("tests.screenshots", reason="playwright is not installed")
    if screenshots.find_chromium() is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with screenshots.headless_chromium() as browser:
        yield browser
        # A loader's workers that outlive their test hold what tells the browser's driver to end, and that is waited for.
        for worker in multiprocessing.active_children():
            worker.terminate()


@pytest.fixture(scope="session")
def commit() -> str:
    """The commit of the checkout that is tested; where there is no git or no checkout, such as in an archive, tests skip."""
    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        pytest.skip(f"{REPOSITORY} is no checkout of git, or git is not installed")
    return asked.stdout.strip()


@pytest.fixture(scope="session")
def compose_config() -> Callable[..., RunDescription]:
    """What ``exfuse train`` with command-line overrides would train: ``compose_config("+ablation=seb_ecre", "seed=1")``."""
    return lambda *typed: describe_run(typed)
