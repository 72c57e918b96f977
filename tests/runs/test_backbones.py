"""The store of backbones: what training finds, makes or refuses."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from exfuse.analysis.console import comparison_table
from exfuse.composition.segmentation import build_model
from exfuse.config.overrides import describe_backbone, describe_run
from exfuse.errors import CheckpointError, ConfigError, UserError
from exfuse.runs.backbones import as_command, choose_weights, pretrain_overrides, resolve_normalisation
from exfuse.runs.plan import find_backbone
from exfuse.runs.pretraining import pretrain
from exfuse.runs.training import train
from exfuse.store.description import RunDescription
from exfuse.store.folder import RunFolder
from tests.data.conftest import save_image
from tests.described import changed
from tests.small_runs import SMALL, only_run

PRETRAINING = (
    "pretraining.data.minimum_side=4",
    "pretraining.recipe.epochs=1",
    "pretraining.recipe.batch_size=8",
    "pretraining.recipe.augmentation.size=32",
    "pretraining.recipe.evaluation.size=32",
)
QUIET = Console(quiet=True)
Asked = Callable[..., RunDescription]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backbones")


@pytest.fixture
def asked(store: Path, scenes_folder: Path) -> Asked:
    """A segmentation run on the small scenes: ``asked("technique/ss=heads_removed")``."""

    def of(*overrides: str, store: Path = store) -> RunDescription:
        own = "pretraining=image_folder" in overrides
        common = [
            *SMALL,
            *PRETRAINING[own:],
            f"data.root={scenes_folder}",
            f"paths.backbones={store}",
            "backbone.init=pretrained",
        ]
        return describe_run([*common, *overrides])

    return of


@pytest.fixture(scope="module")
def supervised(store: Path, scenes_folder: Path) -> RunFolder:
    """A finished backbone with SS that no test may change."""
    overrides = [option for option in SMALL if not option.startswith("recipe.")]
    overrides += [*PRETRAINING, f"data.root={scenes_folder}", f"paths.backbones={store}", "technique/ss=heads_removed"]
    pretrain(describe_backbone(overrides))
    return only_run(store)


def refuse(run: RunDescription) -> RunDescription:
    return changed(run, "backbone.missing", "refuse")


@pytest.mark.parametrize("option", ["heads_removed", "second_conv_features"])
def test_training_finds_the_backbone_by_what_shaped_it(supervised: RunFolder, asked: Asked, option: str) -> None:
    # what acts on segmentation alone, or spreads the work, does not matter
    others = [
        "technique/seb=product",
        "technique/dap=last",
        "decoder=levels_45",
        "recipe.lr=0.5",
        "trainer.precision=bf16-mixed",
    ]
    config = asked(f"technique/ss={option}", *others)
    chosen = choose_weights(refuse(config), QUIET)
    assert chosen.manifest == supervised.key
    assert chosen.init == str(supervised.path / "backbone.safetensors")
    assert "ss, accuracy" in chosen.description
    config = resolve_normalisation(config)
    encoder = build_model(config, 11, chosen.init).encoder
    state = load_file(chosen.init)
    assert all(torch.equal(value, state[name]) for name, value in encoder.backbone.features.state_dict().items())
    if option == "second_conv_features":
        assert all(torch.equal(value, state[f"ss.{name}"]) for name, value in encoder.branches.state_dict().items())


@pytest.mark.parametrize(
    "other",
    [
        "technique/ss=none",
        "technique/lr=rearranged",
        "seed=1",
        "pretraining.recipe.lr=1",
        "pretraining.branches.weights.res2=0.2",
        "pretraining.data.margin=0.2",
        "pretraining.start=timm",
        "backbone.arguments.stem_width=24",
        "backbone.normalisation={mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}",
        "debug.images=8",
    ],
)
def test_another_backbone_is_missing_and_refused_with_the_command_that_makes_it(
    supervised: RunFolder, asked: Asked, other: str
) -> None:
    config = asked("technique/ss=heads_removed", other)
    with pytest.raises(ConfigError, match=r"No pretrained backbone resnet_tiny \(.*\) with key") as refusal:
        choose_weights(refuse(config), QUIET)
    command = next(line for line in str(refusal.value).splitlines() if "exfuse pretrain" in line)
    # the command leads to the very key that is missing
    making = describe_backbone(shlex.split(command)[2:])
    assert find_backbone(making)[0].key in str(refusal.value)
    assert find_backbone(making)[0].root == supervised.root


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_backbone_is_made_in_the_number_format_of_the_run_that_asks_for_it(asked: Asked, precision: str) -> None:
    config = asked("technique/ss=heads_removed", f"trainer.precision={precision}")
    assert describe_backbone(pretrain_overrides(config)).trainer.precision == precision


def test_ss_of_other_widths_is_another_backbone(supervised: RunFolder, asked: Asked) -> None:
    config = asked("technique/ss=second_conv_features", "pretraining.branches.width_ratio=0.5")
    assert config.technique["ss"].settings["width_ratio"] == 0.5
    with pytest.raises(ConfigError, match="No pretrained backbone"):
        choose_weights(refuse(config), QUIET)


def test_the_output_stride_dilates_the_same_weights(supervised: RunFolder, asked: Asked) -> None:
    config = asked("technique/ss=heads_removed", "backbone.output_stride=16")
    assert choose_weights(refuse(config), QUIET).manifest == supervised.key


@pytest.mark.parametrize("damage", ["cut", "altered", "removed"])
def test_a_file_that_its_record_does_not_describe_is_refused(supervised: RunFolder, asked: Asked, damage: str) -> None:
    path = supervised.path / "backbone.safetensors"
    whole = path.read_bytes()
    try:
        if damage == "removed":
            path.unlink()
        else:
            path.write_bytes(whole[:1000] if damage == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
        config = asked("technique/ss=heads_removed")
        with pytest.raises(CheckpointError, match=r"backbone\.safetensors is not the file .*\n.*overwrite=true"):
            choose_weights(config, QUIET)
    finally:
        path.write_bytes(whole)


def test_weights_without_branches_are_refused_where_segmentation_reads_them(
    supervised: RunFolder, asked: Asked, tmp_path: Path
) -> None:
    state = load_file(supervised.path / "backbone.safetensors")
    save_file({name: value for name, value in state.items() if not name.startswith("ss.")}, tmp_path / "own.safetensors")
    config = asked("technique/ss=second_conv_features")
    with pytest.raises(CheckpointError, match=r"own\.safetensors does not hold the SS branches .* \(none are there"):
        build_model(config, 11, str(tmp_path / "own.safetensors"))
    wide = asked("technique/ss=second_conv_features", "pretraining.branches.width_ratio=0.5")
    with pytest.raises(CheckpointError, match=r"\(others are there"):
        build_model(wide, 11, str(supervised.path / "backbone.safetensors"))


@pytest.mark.usefixtures("forked")
def test_training_makes_a_missing_backbone_where_it_may_and_uses_it(asked: Asked, tmp_path: Path) -> None:
    config = asked("technique/lr=rearranged", f"paths.runs={tmp_path / 'runs'}", store=tmp_path / "backbones")
    assert config.backbone.missing == "make"
    train(config)
    made, run = only_run(tmp_path / "backbones").record(), only_run(tmp_path / "runs").record()
    assert made is not None
    assert run is not None
    assert (made.status, made.label) == ("done", "lr")
    assert run.manifests["backbone"] == made.key
    assert run.config["backbone"]["normalisation"]["mean"] == [0.485, 0.456, 0.406]
    assert made.key in run.weights


def test_every_table_names_random_weights(finished_run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    record = finished_run.record()
    assert record is not None
    console = Console(width=200)
    console.print(comparison_table([record], "title"))
    assert "random" in capsys.readouterr().out
    from exfuse.runs.finished import print_outcome

    print_outcome(finished_run, record, console)
    assert "random weights" in capsys.readouterr().out


@pytest.mark.parametrize("backbone", ["resnet50", "resnext101_32x4d"])
def test_large_backbones_come_from_imagenet_which_need_not_be_at_hand(backbone: str, tmp_path: Path) -> None:
    config = describe_run([f"backbone={backbone}", "+ablation=ss_lr", f"paths.backbones={tmp_path}"])
    with pytest.raises(ConfigError) as refusal:
        choose_weights(config, QUIET)
    assert f"backbone={backbone} technique/ss=second_conv_features technique/lr=rearranged" in str(refusal.value)
    for seed in (0, 1):  # one backbone for every seed of a study
        other = describe_run([f"backbone={backbone}", "+ablation=ss_lr", f"seed={seed}"])
        assert find_backbone(other)[0].key in str(refusal.value)


def test_awkward_values_survive_the_command_line(asked: Asked, scenes_folder: Path) -> None:
    name = 'it\'s 100 % (a, b) = {c} [d] "e"'
    config = asked("pretraining.recipe.gradient_clip=null")
    config = changed(changed(config, "data.name", name), "pretraining.recipe.augmentation.auto_augment", "rand-m6-mstd0.5")
    making = describe_backbone(shlex.split(as_command(pretrain_overrides(config)))[2:])
    assert making.data.settings["name"] == name
    assert making.pretraining.recipe == config.pretraining.recipe
    assert making.data.settings["root"] == str(scenes_folder)


def test_a_backbone_is_made_in_the_parts_of_the_run_where_they_divide_its_batches(asked: Asked) -> None:
    for batch, parts in ((8, 4), (6, 1)):
        config = asked(f"pretraining.recipe.batch_size={batch}", "trainer.accumulate_grad_batches=4")
        making = describe_backbone(pretrain_overrides(config))
        assert making.trainer.accumulate_grad_batches == parts


def test_public_weights_and_files_are_named(asked: Asked, tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    save_file({"a": torch.ones(1)}, file)
    for init, words in (("random", "random weights"), ("timm", "timm weights"), (str(file), "own.safetensors")):
        config = changed(asked(), "backbone.init", init)
        assert words in choose_weights(config, QUIET).description


def test_public_weights_under_an_option_of_ss_say_that_they_know_nothing_of_it(asked: Asked) -> None:
    config = changed(asked("technique/ss=heads_removed"), "backbone.init", "random")
    assert choose_weights(config, QUIET).description == "random weights, which know nothing of SS"


def test_val_images_that_nobody_checked_are_pointed_out_until_somebody_does(
    asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, count in (("train", 8), ("val", 4)):
        for number in range(count):
            save_image(tmp_path / "pets" / split / "ab"[number % 2] / f"{split}{number}.png", 40, 40, seed=100 * count + number)
    own = ["pretraining=image_folder", f"pretraining.data.root={tmp_path / 'pets'}"]
    elsewhere = f"data.root={tmp_path / 'other_scenes'}"
    config = asked(*own, store=tmp_path / "store")
    config = changed(config, "pretraining.recipe.epochs", 1)
    pretrain(describe_backbone(pretrain_overrides(config)))
    console = Console(width=500)
    assert choose_weights(refuse(config), console).manifest == only_run(tmp_path / "store").key
    assert "Nobody has checked" not in capsys.readouterr().out
    other = asked(*own, elsewhere, "data.seed=5", store=tmp_path / "store")
    other = changed(other, "pretraining.recipe.epochs", 1)
    choose_weights(refuse(other), console)
    text = capsys.readouterr().out
    assert "Nobody has checked" in text
    command = next(line for line in text.splitlines() if "exfuse pretrain" in line)
    pretrain(describe_backbone(shlex.split(command)[2:]))
    choose_weights(refuse(other), console)
    assert "Nobody has checked" not in capsys.readouterr().out.rpartition("took part in it")[2]


def test_a_record_of_another_schema_is_not_trusted(supervised: RunFolder, asked: Asked) -> None:
    path = supervised.path / "record.json"
    whole = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(whole) | {"schema": 99}))
        config = asked("technique/ss=heads_removed")
        with pytest.raises(UserError, match="not a whole record"):
            choose_weights(config, QUIET)
    finally:
        path.write_text(whole)
