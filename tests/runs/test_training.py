"""A run from its config to its record."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from pytorch_lightning.accelerators import CUDAAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.trainer.connectors import data_connector
from pytorch_lightning.utilities import rank_zero_warn

from exfuse.errors import CheckpointError, ConfigError, DataError, UserError
from exfuse.metrics.iou import mean_iou
from exfuse.runs import training
from exfuse.store.folder import RunFolder
from exfuse.tasks.segmentation import SegmentationTask
from tests.records import leave_record

TrainSmall = Callable[..., RunFolder]


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return torch.load(folder.last, weights_only=True)["state_dict"]


def same_weights(first: RunFolder, second: RunFolder) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_finished_run_leaves_everything_that_its_folder_promises(finished_run: RunFolder) -> None:
    names = {path.name for path in finished_run.path.iterdir()}
    assert names >= {"config.yaml", "record.json", "confusion.npz", "per_class.csv", "predictions.png"}
    assert {path.name for path in finished_run.checkpoints.iterdir()} == {"last.ckpt", "best.ckpt"}
    record = finished_run.record()
    assert record is not None
    counts = np.load(finished_run.path / "confusion.npz")["counts"]
    assert record.done
    assert len(counts) == record.scores.images == 5
    assert record.scores.miou == pytest.approx(float(mean_iou(counts.sum(0).astype(np.int64))), abs=1e-12)
    written = msgspec.yaml.decode((finished_run.path / "config.yaml").read_bytes())
    assert written["technique"]["seb"] == {"option": "product"}
    assert record.environment.packages["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert record.environment.cores


def test_the_final_score_equals_the_last_validation_during_training(finished_run: RunFolder) -> None:
    record = finished_run.record()
    assert record is not None
    lines = (finished_run.path / "logs" / "version_0" / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("val/miou")
    validated = [float(line.split(",")[column]) for line in lines[1:] if line.split(",")[column]]
    assert len(validated) == 2
    assert record.scores.miou == pytest.approx(validated[-1], abs=1e-6)


def test_a_cache_changes_no_bit_of_a_run(finished_run: RunFolder, train_small: TrainSmall, tmp_path: Path) -> None:
    uncached = train_small("+ablation=seb_ecre", "runtime.cache=none", runs=tmp_path / "uncached")
    for kind in ("memory", "disk"):
        cache = (f"runtime.cache={kind}", f"paths.cache={tmp_path / 'cache'}")
        folder = train_small("+ablation=seb_ecre", *cache, runs=tmp_path / kind)
        assert folder.key == uncached.key == finished_run.key
        assert same_weights(folder, uncached)
        assert folder.record().scores == uncached.record().scores  # type: ignore[union-attr]


def test_losses_are_logged_one_by_one_and_add_up(finished_run: RunFolder, train_small: TrainSmall) -> None:
    folder = train_small("+ablation=ecre", "trainer.log_every_n_steps=1")
    header, *lines = (folder.path / "logs" / "version_0" / "metrics.csv").read_text().splitlines()
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    steps = [row for row in rows if row["train/loss"]]
    assert len(steps) == 8
    for row in steps:
        assert float(row["train/loss"]) == pytest.approx(float(row["train/loss_main"]) + 0.4 * float(row["train/loss_ecre"]))


def test_curves_have_a_point_an_epoch_however_few_steps_it_has(finished_run: RunFolder) -> None:
    header, *lines = (finished_run.path / "logs" / "version_0" / "metrics.csv").read_text().splitlines()
    losses = [line.split(",")[header.split(",").index("train/loss")] for line in lines]
    assert sum(map(bool, losses)) == 2  # epochs, of four steps each


def test_a_finished_run_is_not_trained_again(train_small: TrainSmall, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train_small()
    before = folder.last.stat().st_mtime_ns
    capsys.readouterr()
    train_small()
    assert "already trained" in capsys.readouterr().out
    assert folder.last.stat().st_mtime_ns == before


def test_lightning_gives_no_advice_against_what_was_chosen_and_other_warnings_are_seen(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(data_connector, "suggested_max_num_workers", lambda _: 16)
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: True)
    end = SegmentationTask.on_validation_epoch_end

    def stop(task: SegmentationTask) -> None:
        end(task)
        if task.current_epoch == 1 and not task.trainer.sanity_checking:
            rank_zero_warn("The disk is nearly full.")
            raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr(SegmentationTask, "on_validation_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train_small("runtime.workers=1")
    train_small("runtime.workers=1")
    assert [str(one.message) for one in recwarn if "lightning" in one.filename] == []
    assert "The disk is nearly full." in [str(one.message) for one in recwarn]


def test_what_follows_the_training_asks_the_trainer_for_its_device(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model itself lies on the CPU again. No tensor says cpu:0: whoever is told that was told by the trainer."""
    there, told = torch.device("cpu", 0), []
    monkeypatch.setattr(SingleDeviceStrategy, "root_device", property(lambda _: there))

    def ask(name: str, wanted: Callable[..., Any], *arguments: Any) -> Any:
        told.append((name, [one for one in arguments if isinstance(one, torch.device)]))
        return wanted(*arguments)

    for name in ("describe_environment", "report_outcome", "show_scores"):
        monkeypatch.setattr(training, name, partial(ask, name, getattr(training, name)))
    train_small("recipe.epochs=1", "debug.images=4")
    assert dict(told) == {"describe_environment": [there], "report_outcome": [there], "show_scores": [there]}
    assert all(device.index == 0 for _, (device,) in told)


def test_the_number_of_loader_workers_does_not_change_a_weight(train_small: TrainSmall, tmp_path: Path) -> None:
    assert same_weights(train_small(runs=tmp_path / "a"), train_small("runtime.workers=2", runs=tmp_path / "b"))


def test_another_seed_is_another_run_with_other_weights(train_small: TrainSmall, tmp_path: Path) -> None:
    first, second = train_small(runs=tmp_path / "a"), train_small("seed=1", runs=tmp_path / "b")
    assert first.key != second.key
    assert not same_weights(first, second)


def test_accumulated_batches_make_one_step_of_the_recipes_batch(train_small: TrainSmall) -> None:
    folder = train_small("trainer.accumulate_grad_batches=2")
    assert torch.load(folder.last, weights_only=True)["global_step"] == 2 * (16 // 4)


def test_bfloat16_training_leaves_float32_weights(train_small: TrainSmall) -> None:
    folder = train_small("trainer.precision=bf16-mixed", "recipe.epochs=1")
    assert {value.dtype for value in weights(folder).values() if value.is_floating_point()} == {torch.float32}


def test_a_failed_run_keeps_its_traceback_and_is_retried(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(path: Path, _: bool) -> None:
        raise DataError(f"{path} cannot be decoded: the disk is gone.")

    with monkeypatch.context() as broken:
        broken.setattr("exfuse.data.bands.read_image", lost)
        with pytest.raises(UserError, match="the disk is gone"):
            train_small("runtime.cache=none")
    (path,) = (tmp_path / "runs").glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "failed"
    assert "the disk is gone" in record["traceback"]
    assert not (path.parent / "confusion.npz").exists()
    again = train_small("runtime.cache=none").record()
    assert again is not None
    assert again.status == "done"


def test_a_checkpoint_that_is_cut_short_is_named_and_not_resumed(train_small: TrainSmall, tmp_path: Path) -> None:
    folder = train_small()
    leave_record(folder, "running")
    folder.last.write_bytes(folder.last.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged or unsealed"):
        train_small()


def test_a_run_that_another_process_trains_is_refused(train_small: TrainSmall, finished_run: RunFolder) -> None:
    with finished_run.locked(), pytest.raises(UserError, match="another process"):
        train_small("+ablation=seb_ecre", runs=finished_run.root)


@pytest.mark.parametrize("content", ["", "{", '{"schema": 99, "key": "x", "status": "done"}', '{"status": "done"}'])
def test_a_record_that_is_cut_short_or_foreign_is_refused_by_name(content: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "abc")
    folder.path.mkdir()
    (folder.path / "record.json").write_text(content)
    with pytest.raises(UserError, match=r"abc/record\.json"):
        folder.record()


def test_a_batch_larger_than_the_data_is_refused(train_small: TrainSmall) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.batch_size=17"):
        train_small("recipe.batch_size=17")


def test_compiling_in_place_keeps_the_names_of_the_weights(compose_config: Callable[..., object]) -> None:
    from exfuse.composition.segmentation import build_model

    model = build_model(compose_config(), 3)  # type: ignore[arg-type]
    before = list(model.state_dict())
    model.compile()
    assert list(model.state_dict()) == before
