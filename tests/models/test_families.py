"""Families of timm beside ResNet: through training, an interruption, prediction and export, on tiny settings."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from exfuse.config.overrides import describe_backbone, describe_run
from exfuse.exporting.command import export
from exfuse.fusing.fuse import fuse
from exfuse.models.backbone import Backbone
from exfuse.models.weights import IMAGENET, load_backbone_weights, read_state_dict, save_backbone_weights
from exfuse.runs.backbones import pretrain_overrides
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.runs.costs import TrainingCosts
from exfuse.runs.prediction import predict
from exfuse.store.folder import RunFolder
from exfuse.sweeps.budget import plan_budget
from exfuse.tasks.optimised import parameter_groups
from tests.sharing import amount

SWIN = {"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}
# The smallest of each that is quick, or a smaller one by timm's own arguments.
FAMILIES: dict[str, dict[str, object]] = {
    "test_convnext": {},
    "swin_tiny_patch4_window7_224": SWIN,
    "lcnet_035": {},  # MobileNetV3's
    "swinv2_tiny_window8_256": SWIN,
    "maxvit_rmlp_pico_rw_256": {},
    "regnetx_002": {},
    "test_efficientnet": {},
    "test_mambaout": {},
    "test_nfnet": {},
    "mobilevit_xxs": {},
    "pvt_v2_b0": {},
    "hgnetv2_b0": {},
    "edgenext_xx_small": {},
    "starnet_s050": {},
    "ghostnet_050": {},
    "repghostnet_050": {},
    "fasternet_t0": {},
    "efficientvit_b0": {},
    "dla46x_c": {},
    "densenet121": {"block_config": [1, 1, 1, 1]},
    "rexnet_100": {},
    "repvit_m1": {},
    "resnest14d": {},
    "sam2_hiera_tiny": {"embed_dim": 16},
    "mvitv2_tiny": {},
    "cspnext_tiny": {},
}
SAMPLED = ["swin_tiny_patch4_window7_224", "lcnet_035"]
EXPORTED = amount(SAMPLED[:1], [*FAMILIES])  # attention in windows is what an export knows least


def typed(name: str) -> list[str]:
    return [
        "backbone=timm",
        f"backbone.name={name}",
        *(f"+backbone.arguments.{key}={value}" for key, value in FAMILIES[name].items()),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", amount(SAMPLED, [*FAMILIES]))
def test_a_family_is_trained_resumed_predicted_and_exported(
    train_small: Callable[..., RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked = [*typed(name), "debug.images=4", "recipe.batch_size=2", "decoder.kernel=3"]
    whole = train_small(*asked, runs=tmp_path / "whole")
    step = TrainingCosts.on_train_batch_end

    def interrupted(self: TrainingCosts, trainer: object, *rest: object) -> None:
        step(self, trainer, *rest)  # type: ignore[arg-type]
        if trainer.global_step == 3:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingCosts, "on_train_batch_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_small(*asked, runs=tmp_path / "resumed")
    resumed = train_small(*asked, runs=tmp_path / "resumed")
    ends = [torch.load(run.last, weights_only=True)["state_dict"] for run in (whole, resumed)]
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
    record = resumed.record()
    assert record is not None
    assert record.done
    assert record.costs.gigamacs

    pixels = np.random.default_rng(0).integers(0, 256, (75, 103, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    predict(str(resumed.path), [str(tmp_path / "photo.png")], str(tmp_path / "masks"), "cpu")
    model, _, _ = load_checkpoint(resumed.path)
    with torch.inference_mode():
        assert np.asarray(Image.open(tmp_path / "masks" / "photo.png")).shape == (75, 103)
        for size in ((64, 64), (75, 103)):
            image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
            plain, fused = model.eval()(image).scores, fuse(model)(image).scores
            assert plain.shape[-2:] == size
            assert (plain - fused).abs().max() < 1e-4 * plain.abs().max()
    if name in EXPORTED:
        assert export(str(resumed.path), "torch", (64, 96), str(tmp_path / "model.pt2")).exists()  # it compares the scores


def test_the_command_that_pretrains_a_family_composes_and_budgets_name_the_model() -> None:
    typed = ["backbone=timm", "backbone.name=test_convnext", "backbone.init=pretrained"]
    overrides = pretrain_overrides(describe_run(typed))
    assert overrides[:2] == ["backbone=timm", "backbone.name=test_convnext"]
    assert describe_backbone(overrides).backbone.name == "test_convnext"
    (budget,) = plan_budget([*typed[:2], "data=voc", "recipe.augmentation.crop=64"], lambda *_: None)
    assert budget.backbone == "test_convnext"
    (row,) = budget.rows.values()
    assert row.cost.gigaflops > 0


def test_images_of_any_size_give_maps_of_the_right_sizes_in_the_usual_order() -> None:
    for name, multiple in (("test_convnext", 32), ("swin_tiny_patch4_window7_224", 4), ("lcnet_035", 1)):
        with torch.device("meta"):
            backbone = Backbone(name, arguments=FAMILIES[name])
            maps = backbone(torch.zeros(2, 3, 65, 97))
        assert backbone.multiple == multiple
        assert [tuple(level.shape[1:]) for level in maps] == [
            (channels, -(-65 // stride), -(-97 // stride))
            for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
        ]


def test_what_is_padded_changes_no_map_of_an_image_that_needs_none() -> None:
    backbone = Backbone("test_convnext").eval()
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for ours, theirs in zip(backbone(image), backbone.features(image), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "test_convnext"])
def test_weights_are_written_and_read_under_the_names_of_the_whole_model(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    state = timm.create_model(name, **FAMILIES[name]).state_dict()
    torch.save(state, tmp_path / "whole.pth")
    backbone = Backbone(name, arguments=FAMILIES[name])
    load_backbone_weights(backbone, str(tmp_path / "whole.pth"))
    assert all(torch.equal(value, state[backbone.whole[key]]) for key, value in backbone.features.state_dict().items())
    save_backbone_weights(tmp_path / "ours.safetensors", backbone, IMAGENET)
    assert read_state_dict(tmp_path / "ours.safetensors").keys() <= state.keys()
    again = Backbone(name, arguments=FAMILIES[name])
    load_backbone_weights(again, str(tmp_path / "ours.safetensors"))
    assert all(torch.equal(value, again.features.state_dict()[key]) for key, value in backbone.features.state_dict().items())


def test_what_timm_keeps_from_decay_learns_at_the_encoders_rate_without_it() -> None:
    with torch.device("meta"):
        backbone = Backbone("swin_tiny_patch4_window7_224", arguments=SWIN)
        model = torch.nn.ModuleDict({"backbone": backbone, "rest": torch.nn.Linear(2, 2)})
    groups = {group["name"]: group for group in parameter_groups(model, 1.0, 0.1, 0.5, "backbone")}
    tables = [value for key, value in backbone.named_parameters() if key.endswith("relative_position_bias_table")]
    assert len(tables) == 5
    free = groups["encoder_no_decay"]
    assert (free["lr"], free["weight_decay"]) == (0.1, 0.0)
    assert all(any(table is one for one in free["params"]) for table in tables)
