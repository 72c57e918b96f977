"""A run that is killed between any two of its writes, or at any moment, goes on and ends as one that never was: bit by bit."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from exfuse.runs.training import train
from exfuse.store.description import RunDescription
from exfuse.store.folder import RunFolder
from exfuse.store.history import merge_logs
from tests.killing import fill_a_mount, fill_the_disk, kill_at_every_write, kill_at_random, stop_at_every_write
from tests.sharing import FULL, amount, make_once
from tests.small_runs import only_run

TINY = ("debug.images=4", "recipe.batch_size=4")
LEAST = 10  # writes of a run: record, config, two epochs' checkpoints, environment, counts, areas, tables, pictures, record


def same(run: RunFolder, whole: RunFolder) -> None:
    """Weights, counts, scores and curves are those of the run that nothing stopped, and nothing is left half written."""
    one, other = (torch.load(folder.last, weights_only=True) for folder in (run, whole))
    assert one["global_step"] == other["global_step"]
    assert one["state_dict"].keys() == other["state_dict"].keys()
    assert all(torch.equal(one["state_dict"][name], value) for name, value in other["state_dict"].items())
    ends, records = (folder.finished() for folder in (run, whole)), []
    for record in ends:
        assert record is not None
        records.append((record.scored, record.health, record.confusion_sha256, record.boundary_sha256, record.manifests))
    assert records[0] == records[1]
    assert merge_logs(run.path).keys() <= merge_logs(whole.path).keys()
    assert not [path for path in run.path.rglob(".*") if path.is_file()]
    assert {path.name for path in run.path.iterdir()} == {path.name for path in whole.path.iterdir()}


@pytest.fixture(scope="module")
def whole(
    compose_config: Callable[..., RunDescription], small_overrides: list[str], tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """The run that nothing stops."""

    def finish(runs: Path) -> None:
        train(compose_config(*small_overrides, *TINY, f"paths.runs={runs}"))

    return only_run(make_once(tmp_path_factory, "never_killed", finish))


@pytest.mark.slow
def test_a_run_killed_between_any_two_writes_ends_as_one_that_never_was(
    small_overrides: list[str], whole: RunFolder, tmp_path: Path
) -> None:
    tiny = [*small_overrides, *TINY]
    statuses = kill_at_every_write(tiny, tmp_path) if FULL else stop_at_every_write(tiny, tmp_path, LEAST // 2)
    assert len(statuses) >= LEAST
    assert [-signal.SIGKILL, 0] in statuses.values()
    for name, ended in statuses.items():
        assert ended in ([-signal.SIGKILL, 0], *([] if FULL else [[0]])), name
        same(only_run(tmp_path / name), whole)


LITTLE = (1_500, 1_000_000)  # bytes: no room for a record, and none for a checkpoint


@pytest.mark.slow
def test_a_training_whose_files_find_no_space_says_so_in_a_line_and_goes_on_later(
    small_overrides: list[str], whole: RunFolder, tmp_path: Path
) -> None:
    statuses = fill_the_disk([*small_overrides, *TINY], tmp_path, LITTLE)
    for name, ended in statuses.items():
        assert ended == [1, 0], name
        said = (tmp_path / f"{name}.txt").read_text()
        assert "\n" not in said
        assert re.search(rf"{name}/\w+/\S+ cannot be read or written: .*\(ulimit -f\)", said), said
        same(only_run(tmp_path / name), whole)


@pytest.mark.slow
def test_a_training_on_a_full_disk_says_so_in_a_line_and_goes_on_later(
    small_overrides: list[str], whole: RunFolder, tmp_path: Path
) -> None:
    statuses = fill_a_mount([*small_overrides, *TINY], tmp_path)
    if not statuses:
        pytest.skip("nothing may be mounted here")
    assert statuses["full"] == [1, 0]
    said = (tmp_path / "full.txt").read_text()
    assert re.search(r"full/\w+/\S+ cannot be read or written: its disk is full\. What was finished", said), said
    same(only_run(tmp_path / "full"), whole)


@pytest.mark.skipif(not FULL, reason="make test-all kills at random moments; make test between every pair of writes")
@pytest.mark.parametrize("variant", ["+ablation=exfuse", "+architecture=aspp_os16"])
def test_a_run_killed_at_random_moments_ends_as_one_that_never_was(
    variant: str, train_small: Callable[..., RunFolder], small_overrides: list[str], tmp_path: Path
) -> None:
    whole = train_small("recipe.epochs=3", variant, runs=tmp_path / "whole")
    statuses = kill_at_random([*small_overrides, "recipe.epochs=3", variant], tmp_path, amount(1, 25))
    assert sum(ended.count(-signal.SIGKILL) for ended in statuses.values()) >= amount(1, 25)
    for name, ended in statuses.items():
        assert ended[-1] == 0, name
        same(only_run(tmp_path / name), whole)
