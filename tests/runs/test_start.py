"""Starting from another run's whole model: what the key knows of it, which weights arrive, and what is refused."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from exfuse.analysis.paper import departures
from exfuse.errors import CheckpointError, ConfigError, DataError
from exfuse.runs.plan import divided, plan_run, read_splits
from exfuse.runs.start import check_unseen, find_start, seen_images
from exfuse.store.description import RunDescription, from_plain, to_plain
from exfuse.store.folder import RunFolder
from exfuse.store.record import InitFrom
from exfuse.store.study_file import Paper
from tests.small_runs import only_run

TrainSmall = Callable[..., RunFolder]
VARIANT = "+ablation=seb_ecre"


@pytest.fixture
def key_of(compose_config: Callable[..., RunDescription], small_overrides: list[str]) -> Callable[..., str]:
    return lambda *overrides: plan_run(compose_config(*small_overrides, VARIANT, *overrides)).folder.key


def test_the_key_knows_the_run_by_its_key_and_no_other_weights_beside_it(key_of: Callable[..., str]) -> None:
    one, other = "0123456789abcdef", "fedcba9876543210"
    assert key_of(f"init_from={one}") == key_of(f"init_from=/elsewhere/runs/{one}")
    assert len({key_of(), key_of("init_from=null"), key_of(f"init_from={one}"), key_of(f"init_from={other}")}) == 3
    assert key_of(f"init_from={one}", "backbone.init=timm") == key_of(f"init_from={one}", "backbone.init=random")
    assert key_of(f"init_from={one}", "seed=1") != key_of(f"init_from={one}")


@pytest.mark.parametrize("wrong", ["best", "/runs/0123", "0123456789ABCDEF"])
def test_what_is_no_key_is_refused(key_of: Callable[..., str], wrong: str) -> None:
    with pytest.raises(ConfigError, match=f"init_from={wrong}: expected a run's folder"):
        key_of(f"init_from={wrong}")


def test_training_starts_from_every_weight_and_statistic_of_the_run(
    finished_run: RunFolder, train_small: TrainSmall, tmp_path: Path
) -> None:
    # at a rate of nothing only the running statistics of batch norm move, and they begin where that run's ended
    still = train_small(
        VARIANT, f"init_from={finished_run.path}", "recipe.lr=1e-30", "recipe.weight_decay=0", "seed=5", "recipe.epochs=1"
    )
    before, after = (torch.load(run.last, weights_only=True)["state_dict"] for run in (finished_run, still))
    assert before.keys() == after.keys()
    for name, value in before.items():
        if "running" not in name and "batches" not in name:
            assert torch.equal(after[name], value), name
    batches = next(name for name in before if name.endswith("num_batches_tracked"))
    assert after[batches] == before[batches] + 4
    record, source = still.record(), finished_run.record()
    assert record is not None
    assert source is not None
    assert record.manifests["init_from"] == finished_run.key
    assert record.init_from == InitFrom(
        key=finished_run.key, data="generated scenes", label=source.label, checkpoint=source.checkpoint_sha256 or ""
    )
    assert "whole model of run" in record.weights
    assert record.config["backbone"]["normalisation"] == source.config["backbone"]["normalisation"]
    paper = Paper("Table 3", record.images, "resnet18", "ImageNet")
    assert any("a whole model trained on generated scenes" in reason for reason in departures(record, paper))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["technique/dap=last"], r"another architecture: technique\.dap is none there and last here"),
        (["backbone.arguments.layers=[1,1,1,1]"], r"backbone\.arguments\.layers is \[1, 1, 5, 1\] there and \[1, 1, 1, 1\]"),
        (["decoder=levels_45"], r"decoder\.levels is \[2, 3, 4, 5\] there and \[4, 5\] here"),
    ],
)
def test_another_architecture_is_refused_by_its_option(
    finished_run: RunFolder, train_small: TrainSmall, overrides: list[str], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        train_small(VARIANT, f"init_from={finished_run.path}", *overrides)


def test_what_changes_no_number_is_no_other_architecture(
    finished_run: RunFolder, compose_config: Callable[..., RunDescription], small_overrides: list[str]
) -> None:
    words = [*small_overrides, VARIANT, f"init_from={finished_run.path}", "decoder.checkpoint_activations=true"]
    record = finished_run.record()
    assert record is not None
    assert find_start(compose_config(*words), tuple(record.classes)) is not None


def test_other_classes_are_refused(
    finished_run: RunFolder, compose_config: Callable[..., RunDescription], small_overrides: list[str]
) -> None:
    config = compose_config(*small_overrides, VARIANT, f"init_from={finished_run.path}")
    with pytest.raises(
        ConfigError, match=r"knows 11 classes \(background, .* this run's data name 2 classes \(background, leaf"
    ):
        find_start(config, ("background", "leaf"))


def test_a_run_that_is_not_there_or_not_whole_is_refused(
    finished_run: RunFolder, train_small: TrainSmall, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="0123456789abcdef holds no finished run"):
        train_small(VARIANT, "init_from=0123456789abcdef")
    copy = tmp_path / "copy" / finished_run.key
    shutil.copytree(finished_run.path, copy)
    last = copy / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.ckpt is not the checkpoint that its record describes"):
        train_small(VARIANT, f"init_from={copy}")
    last.unlink()
    with pytest.raises(CheckpointError, match=r"No checkpoint .*last\.ckpt"):
        train_small(VARIANT, f"init_from={copy}")
    assert not list((tmp_path / "runs").glob("*/record.json"))
    assert only_run(finished_run.root) == finished_run


def test_nothing_is_scored_on_that_the_run_before_has_learnt_from(
    finished_run: RunFolder, compose_config: Callable[..., RunDescription], small_overrides: list[str]
) -> None:
    words = [*small_overrides, VARIANT, f"init_from={finished_run.path}"]
    plan = plan_run(compose_config(*words))
    start = find_start(plan.run, plan.splits["train"].classes)
    assert start is not None
    assert check_unseen(start, [plan.splits["val"]]) == ""
    held_out = plan_run(compose_config(*words, "held_out.share=0.5", "held_out.seed=1000", "seed=1000")).splits["val"]
    with pytest.raises(
        DataError, match=rf"run {finished_run.key} learnt from {len(held_out)} images that this run is scored on"
    ):
        check_unseen(start, [held_out])
    config = {**start.record.config, "data": {**start.record.config["data"], "option": "folder", "root": "/nowhere"}}
    lost = start._replace(record=replace(start.record, config=config))
    config = from_plain(start.record.config, RunDescription)
    config = replace(config, stop=replace(config.stop, patience=1, share=0.5))  # it learnt from the other part alone
    stop = divided(config, read_splits)["stop"]
    assert check_unseen(start._replace(record=replace(start.record, config=to_plain(config))), [stop]) == ""
    with pytest.raises(DataError, match=rf"run {finished_run.key} learnt from"):
        check_unseen(start, [stop])
    assert check_unseen(start, [dataclasses.replace(held_out, seen=True)]) == ""  # that says itself that it was seen
    assert check_unseen(lost, [held_out]).startswith(f"Nobody has checked that {held_out.name} took no part in training run")


def test_asking_what_was_seen_draws_no_scenes(compose_config: Callable[..., RunDescription], tmp_path: Path) -> None:
    run = compose_config(f"data.root={tmp_path}/scenes", "data.images.train=4", "data.images.val=2")
    with pytest.raises(DataError, match=rf"{tmp_path}/scenes does not hold the scenes that were asked for"):
        seen_images(run, [])
    assert not [*tmp_path.iterdir()]


def test_a_run_that_was_named_is_kept_by_its_key(
    finished_run: RunFolder, compose_config: Callable[..., RunDescription], small_overrides: list[str], tmp_path: Path
) -> None:
    shutil.copytree(finished_run.path, tmp_path / "runs" / finished_run.key)
    record = finished_run.record()
    assert record is not None
    for typed in (record.title, finished_run.key, str(finished_run.path)):  # a name may be another run's one day
        words = [*small_overrides, VARIANT, f"init_from={typed}", f"paths.runs={tmp_path}/runs"]
        kept = plan_run(compose_config(*words)).run.init_from
        assert kept == (finished_run.key if typed == record.title else typed)
    link = tmp_path / "best"
    link.symlink_to(finished_run.path)  # which may lead to another run one day
    plan = plan_run(compose_config(*small_overrides, VARIANT, f"init_from={link}", f"paths.runs={finished_run.root}"))
    assert plan.run.init_from == finished_run.key
    elsewhere = f"{finished_run.root}/{finished_run.key[:8]}"  # the first digits of a key in another store
    plan = plan_run(compose_config(*small_overrides, VARIANT, f"init_from={elsewhere}", f"paths.runs={tmp_path}/none"))
    assert Path(str(plan.run.init_from)).resolve() == finished_run.path.resolve()
