"""A backbone from its config to its place in the store."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig  # noqa: F401 - registers Hydra's resolvers before configs are composed
from safetensors import safe_open
from safetensors.torch import load_file

from exfuse.composition.pretraining import build_classification_data, build_classifier_model
from exfuse.composition.reading import read_labelled_split
from exfuse.config.overrides import describe_backbone
from exfuse.errors import CheckpointError, ConfigError, DataError
from exfuse.runs.pretraining import pretrain
from exfuse.store.description import PretrainingDescription, from_plain
from exfuse.store.folder import RunFolder
from tests.entry_points import Started, start as start_entry_point
from tests.pace import patience
from tests.sharing import amount
from tests.small_runs import only_run

# Scenes of 64 pixels, two epochs of a few steps.
SMALL = (
    "trainer=cpu",
    "trainer.enable_progress_bar=false",
    "runtime.workers=0",
    "runtime.threads=1",
    "data.images={train: 16, val: 5}",
    "data.size=64",
    "pretraining.data.minimum_side=4",
    "pretraining.recipe.epochs=2",
    "pretraining.recipe.val_every=1",
    "pretraining.recipe.batch_size=8",
    "pretraining.recipe.augmentation.size=32",
    "pretraining.recipe.evaluation.size=32",
)
SS_LR = {"technique/ss": "heads_removed", "technique/lr": "rearranged"}
EXACT = [("64-true", "null", 1e-5)]
MakeBackbone = Callable[..., RunFolder]


@pytest.fixture(scope="session")
def pretraining_overrides(scenes_folder: Path) -> list[str]:
    return [*SMALL, f"data.root={scenes_folder}"]


@pytest.fixture
def make_backbone(pretraining_overrides: list[str], tmp_path: Path) -> MakeBackbone:
    """Pretrain in this process and return the backbone's folder: ``make_backbone("seed=1", store=folder)``."""

    def made(*overrides: str, store: Path = tmp_path / "backbones") -> RunFolder:
        pretrain(describe_backbone([*pretraining_overrides, f"paths.backbones={store}", *overrides]))
        return only_run(store)

    return made


def start(overrides: list[str], store: Path) -> Started:
    return start_entry_point("src.pretrain", *overrides, f"paths.backbones={store}")


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.path / "backbone.safetensors")


def test_a_made_backbone_leaves_weights_record_and_accuracies(make_backbone: MakeBackbone) -> None:
    folder = make_backbone("+ablation=ss_lr")
    record = folder.record()
    assert record is not None
    assert (record.status, record.label, record.images["val"]) == ("done", "ss+lr", record.images["val"])
    assert list(record.backbone.accuracy) == ["main", "res2", "res3", "res4", "res5"]
    assert all(0 <= value <= 1 for value in record.backbone.accuracy.values())
    with safe_open(folder.path / "backbone.safetensors", "pt") as file:
        assert json.loads(file.metadata()["mean"]) == [0.485, 0.456, 0.406]
    # the weights are those of the last checkpoint, classifiers left out
    state = torch.load(folder.last, weights_only=True)["state_dict"]
    for name, value in weights(folder).items():
        inside = f"model.branches.convolutions.{name[3:]}" if name.startswith("ss.") else f"model.backbone.features.{name}"
        assert torch.equal(state[inside], value), name
    left_out = {name for name in state if "convolutions" not in name and "backbone" not in name}
    assert all(name.startswith(("model.head.", "model.branches.classifiers.")) for name in left_out)


def test_the_recorded_accuracy_is_that_of_the_weights_on_every_val_object(make_backbone: MakeBackbone) -> None:
    folder = make_backbone("+ablation=ss")
    record = folder.record()
    assert record is not None
    config = from_plain(record.config, PretrainingDescription)
    model = build_classifier_model(config, len(record.backbone.classes)).eval()
    state = torch.load(folder.last, weights_only=True)["state_dict"]
    model.load_state_dict({name.removeprefix("model."): value for name, value in state.items()})
    data = build_classification_data(config, *(read_labelled_split(config, split) for split in ("train", "val")))
    right, total = dict.fromkeys(record.backbone.accuracy, 0), 0
    for position in range(len(data.val_set)):  # type: ignore[arg-type]
        sample = data.val_set[position]
        with torch.inference_mode():
            scores = model(sample["image"][None])
        total += 1
        for name, values in {"main": scores.main, **scores.branches}.items():
            right[name] += int(values.argmax() == sample["label"])
    assert record.backbone.accuracy == pytest.approx({name: count / total for name, count in right.items()})


def test_a_made_backbone_is_not_made_again(make_backbone: MakeBackbone, capsys: pytest.CaptureFixture[str]) -> None:
    before = (make_backbone().path / "backbone.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    after = (make_backbone().path / "backbone.safetensors").stat().st_mtime_ns
    assert "already made" in capsys.readouterr().out
    assert after == before


def test_a_backbone_starts_from_a_file_and_says_what_does_not_fit(make_backbone: MakeBackbone, tmp_path: Path) -> None:
    plain = make_backbone(store=tmp_path / "first")
    file = plain.path / "backbone.safetensors"
    config = describe_backbone(["+ablation=ss", f"pretraining.start={file}"])
    state = build_classifier_model(config, 10).backbone.features.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in weights(plain).items())
    with pytest.raises(CheckpointError, match=r"pretraining\.start=.* does not fit resnet18: .* missing"):
        make_backbone("+ablation=lr", f"pretraining.start={file}", store=tmp_path / "second")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.max_epochs=1", r"set pretraining\.recipe\.epochs instead"),
        ("+trainer.limit_train_batches=1", r"less training there are .* debug\.images"),
    ],
)
def test_a_pretraining_cut_short_never_enters_the_store(make_backbone: MakeBackbone, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_backbone(override)


def test_images_of_val_are_refused(make_backbone: MakeBackbone) -> None:
    with pytest.raises(DataError, match=r"share|flatter"):
        make_backbone("data.train=${data.val}")


@pytest.mark.slow
# averaged weights and mixed images are remembered beside all that a plain pretraining remembers
@pytest.mark.parametrize("averaged", amount([True], [False, True]))
def test_sigkill_in_mid_epoch_and_resume_change_no_bit(
    pretraining_overrides: list[str], tmp_path: Path, averaged: bool
) -> None:
    overrides = [*pretraining_overrides, "pretraining.recipe.epochs=4", "runtime.workers=1", "+ablation=ss"]
    overrides += ["data.images={train: 24, val: 5}", f"data.root={tmp_path / 'scenes'}"]
    if averaged:
        overrides += ["pretraining.recipe.ema_decay=0.9", "pretraining.recipe.mixing.mixup=0.2"]
    assert start(overrides, tmp_path / "whole").wait() == 0
    whole = only_run(tmp_path / "whole")

    process = start(overrides, tmp_path / "killed")
    deadline = time.monotonic() + patience(120)
    while not list((tmp_path / "killed").glob("*/checkpoints/last.ckpt")):
        assert process.poll() is None, "ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)  # some steps into the second epoch
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = only_run(tmp_path / "killed")
    assert killed.record().status == "running"  # type: ignore[union-attr]
    assert not (killed.path / "backbone.safetensors").exists()

    assert start(overrides, tmp_path / "killed").wait() == 0
    resumed, uninterrupted = weights(killed), weights(whole)
    assert killed.key == whole.key
    assert resumed.keys() == uninterrupted.keys()
    assert all(torch.equal(resumed[name], value) for name, value in uninterrupted.items())
    assert killed.record().backbone.accuracy == whole.record().backbone.accuracy  # type: ignore[union-attr]


@pytest.mark.slow
def test_averaged_weights_are_the_ones_that_are_kept(make_backbone: MakeBackbone, tmp_path: Path) -> None:
    folder = make_backbone("pretraining.recipe.ema_decay=0.5")
    kept, checkpoint = weights(folder), torch.load(folder.last, weights_only=True)
    name = "layer1.0.conv1.weight"
    assert torch.equal(checkpoint["state_dict"][f"model.backbone.features.{name}"], kept[name])
    other = make_backbone(store=tmp_path / "plain")
    assert not torch.equal(weights(other)[name], kept[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    # In single precision rounding errors grow from step to step until they are differences: fewer steps there.
    ("precision", "images", "tolerance"),
    amount(EXACT, [*EXACT, ("32-true", "16", 1e-4)]),
)
def test_two_cpu_processes_make_the_weights_of_one_with_the_same_global_batch(
    pretraining_overrides: list[str], tmp_path: Path, precision: str, images: str, tolerance: float
) -> None:
    # plain SGD: Adam divides by the size of a gradient, which turns a rounding error near zero into a whole step
    sgd = ["optimizer@pretraining.recipe.optimizer=sgd", "pretraining.recipe.lr=0.1"]
    common = [*pretraining_overrides, "+ablation=ss", *sgd, f"debug.images={images}", f"trainer.precision={precision}"]
    processes = [
        start(common, tmp_path / "one"),
        start([*common, "trainer=ddp_cpu", "trainer.enable_progress_bar=false"], tmp_path / "two"),
    ]
    assert [process.wait(timeout=patience(200)) for process in processes] == [0, 0], [process.told() for process in processes]
    one, two = (only_run(tmp_path / name) for name in ("one", "two"))
    assert one.key == two.key  # the same backbone, however it was made
    single, double = weights(one), weights(two)
    for name, value in single.items():
        torch.testing.assert_close(double[name], value, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: name + text)
    begun = build_classifier_model(from_plain(one.record().config, PretrainingDescription), 10).backbone.features.state_dict()  # type: ignore[union-attr]
    assert (single["conv1.weight"] - begun["conv1.weight"]).abs().max() > 100 * tolerance
    assert one.record().backbone.accuracy == pytest.approx(two.record().backbone.accuracy, abs=0.05)  # type: ignore[union-attr]


def test_a_process_that_needs_a_backbone_in_the_making_waits_for_it(pretraining_overrides: list[str], tmp_path: Path) -> None:
    processes = [start(pretraining_overrides, tmp_path / "store") for _ in range(2)]
    assert [process.wait(timeout=patience(200)) for process in processes] == [0, 0], [process.told() for process in processes]
    texts = [process.told() for process in processes]
    assert sum("already made" not in text for text in texts) == 1, texts
    assert only_run(tmp_path / "store").record().status == "done"  # type: ignore[union-attr]
