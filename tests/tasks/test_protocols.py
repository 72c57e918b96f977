"""Averaged views against sums written out, and windows that cover everything and no more."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from exfuse.composition.segmentation import build_model, build_protocol, open_windows
from exfuse.config.overrides import describe_run
from exfuse.errors import ConfigError, NotFiniteError
from exfuse.models.segmenter import Prediction
from exfuse.store.description import Option
from exfuse.tasks import prediction
from exfuse.tasks.confusion import ConfusionMatrix
from exfuse.tasks.scoring import AveragedProbabilities, SlidingWindows, Whole
from exfuse.tasks.segmentation import predict_ids
from tests.conftest import REPOSITORY
from tests.described import arguments_of

CLASSES = 4
PROTOCOLS = sorted(path.stem for path in (REPOSITORY / "conf/protocol").glob("*.yaml"))


class Watched(nn.Module):
    """A network of one convolution that notes the sizes it was shown; scores come at half the size, as if not upsampled."""

    def __init__(self, reach: int = 3, stride: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, CLASSES, reach, stride, reach // 2)
        self.seen: list[tuple[int, int, int]] = []

    def forward(self, image: Tensor) -> Prediction:
        self.seen.append((len(image), *image.shape[-2:]))
        return Prediction(5 * self.convolution(image), {})


def picture(height: int, width: int, seed: int = 1) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def protocol_of(*overrides: str) -> Option:
    return arguments_of("evaluate", "checkpoint=nowhere", *overrides)["protocol"]


@pytest.mark.parametrize("length", [1, 5, 15, 16, 17, 31, 32, 33, 100])
@pytest.mark.parametrize("overlap", [0.0, 1 / 3, 0.5, 0.9])
def test_windows_reach_from_edge_to_edge_overlap_as_asked_and_are_no_more_than_needed(length, overlap):
    window = 16
    positions = SlidingWindows(window, overlap).positions(length)
    assert positions[0] == 0
    assert positions[-1] == max(0, length - window)
    steps = [after - before for before, after in itertools.pairwise(positions)]
    stride = max(1, math.floor(window * (1 - overlap)))
    assert all(0 < step <= stride for step in steps)
    assert len(steps) == (math.ceil((length - window) / stride) if length > window else 0)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(40, 23), (16, 50), (33, 33)])
@pytest.mark.parametrize("overlap", [0.0, 0.4])
def test_windows_are_averaged_by_how_often_a_pixel_was_seen(size, overlap):
    image, model = picture(*size), Watched()
    windows = SlidingWindows(16, overlap)
    total, counts = torch.zeros(CLASSES, *size), torch.zeros(size)
    for row in windows.positions(size[0]):
        for column in windows.positions(size[1]):
            part = model(image[:, :, row : row + 16, column : column + 16]).scores.softmax(1)[0]
            total[:, row : row + 16, column : column + 16] += part
            counts[row : row + 16, column : column + 16] += 1
    assert counts.min() >= 1
    model.seen.clear()
    found = AveragedProbabilities([1.0], False, windows, 1024).probabilities(model, image, size)
    torch.testing.assert_close(found[0], total / counts)
    assert set(model.seen) == {(1, 16, 16)}  # one at a time, none larger than needed


@torch.inference_mode()
def test_where_a_network_sees_one_pixel_windows_change_nothing():
    image, model = picture(45, 70), Watched(reach=1)
    whole = AveragedProbabilities([1.0], False, Whole(), 1024).probabilities(model, image, (45, 70))
    found = AveragedProbabilities([1.0], False, SlidingWindows(32, 0.3), 1024).probabilities(model, image, (45, 70))
    torch.testing.assert_close(found, whole)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(16, 16), (9, 13)])
def test_an_image_that_fits_into_the_window_is_seen_whole_and_once(size):
    image, model = picture(*size), Watched()
    windows = AveragedProbabilities([1.0], False, SlidingWindows(16, 0.5), 1024)
    assert torch.equal(windows(model, image, size), predict_ids(model, image, size))
    assert model.seen == [(1, *size)] * 2


@torch.inference_mode()
@pytest.mark.parametrize("size", [(24, 30), (50, 61)])
@pytest.mark.parametrize("stride", [1, 2])
def test_scales_and_mirror_images_are_averaged_as_probabilities(size, stride):
    image, model = picture(24, 30), Watched(stride=stride)
    scales = (0.5, 1.0, 1.25)
    expected = torch.zeros(1, CLASSES, *size)
    for scale in scales:
        sides = (round(24 * scale), round(30 * scale))
        scaled = F.interpolate(image, sides, mode="bilinear")
        for mirror in (False, True):
            scores = model(scaled.flip(3) if mirror else scaled).scores
            scores = F.interpolate(scores, sides, mode="bilinear").softmax(1)
            expected += F.interpolate(scores.flip(3) if mirror else scores, size, mode="bilinear") / 6
    found = AveragedProbabilities(scales, True, Whole(), 1024).probabilities(model, image, size)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(1), torch.ones(1, *size))


@torch.inference_mode()
def test_with_flips_the_mirror_image_gets_the_mirrored_decision_bit_for_bit():
    image, model = picture(40, 33), Watched()
    both = AveragedProbabilities([0.75, 1.0], True, SlidingWindows(20, 0.4), 1024)
    there, back = both.probabilities(model, image, (40, 33)), both.probabilities(model, image.flip(3), (40, 33)).flip(3)
    torch.testing.assert_close(there, back)
    one = AveragedProbabilities([1.0], True, Whole(), 1024)
    assert torch.equal(one.probabilities(model, image, (40, 33)), one.probabilities(model, image.flip(3), (40, 33)).flip(3))


@torch.inference_mode()
@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def test_probabilities_that_take_too_much_of_the_device_are_added_up_on_the_cpu(device):
    image, model = picture(40, 33).to(device), Watched().to(device)
    for windows in (Whole(), SlidingWindows(20, 0.4)):
        kept = AveragedProbabilities([0.75, 1.0, 1.5], True, windows, 1024).probabilities(model, image, (40, 33))
        moved = AveragedProbabilities([0.75, 1.0, 1.5], True, windows, 0).probabilities(model, image, (40, 33))
        assert (kept.device.type, moved.device.type) == (device, "cpu")
        torch.testing.assert_close(moved, kept.cpu())


@torch.inference_mode()
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_of_the_configs_decides_for_every_pixel(name: str, tmp_path: Path):
    trained = describe_run(["trainer=cpu", "recipe.augmentation.crop=32", f"data.root={tmp_path}"])
    protocol = protocol_of(f"protocol={name}")
    decide = build_protocol(protocol, trained)
    model = build_model(trained, CLASSES).eval()
    ids = decide(model, picture(50, 41), (50, 41))
    assert ids.shape == (1, 50, 41)
    assert ids.dtype == torch.int64
    assert protocol.name == name
    if name == "sliding":
        assert open_windows(protocol, trained).settings["windows"]["window"] == 32  # stated with the scores


@pytest.mark.parametrize("name", PROTOCOLS)
def test_an_image_is_waited_for_when_the_next_is_on_its_way(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And no value is asked for: a GPU never idles until the computer has decided what comes next."""
    decide = build_protocol(
        protocol_of(f"protocol={name}"), describe_run(["recipe.augmentation.crop=32", f"data.root={tmp_path}"])
    )
    done: list[str] = []
    wait = prediction._Copied.wait
    monkeypatch.setattr(prediction._Copied, "wait", lambda copied: done.append("waited") or wait(copied))  # type: ignore[func-returns-value]

    class Asked(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
                done.append("asked")
            return func(*args, **(kwargs or {}))

    def decided(model: Any, image: Tensor, size: tuple[int, int]) -> Tensor:
        with Asked():
            ids = decide(model, image, size)
        done.append("decided")
        return ids

    images = ((picture(50, 41, seed), (50, 41), seed) for seed in range(3))
    found = [along for _, along in prediction.predict(Watched(), images, torch.device("cpu"), decided)]  # type: ignore[arg-type]
    assert found == [0, 1, 2]
    assert done == ["decided", "decided", "waited", "decided", "waited", "waited"]


def test_protocols_that_make_no_sense_are_refused():
    trained = describe_run([])
    for override, complaint in (
        ("protocol.windows.overlap=1", "overlap"),
        ("protocol.windows.window=0", "window"),
        ("protocol.scales=[]", "scales"),
        ("protocol.scales=[0]", "scales"),
    ):
        with pytest.raises(ConfigError, match=f"protocol.*{complaint}"):
            build_protocol(protocol_of("protocol=sliding", override), trained)


@torch.inference_mode()
@pytest.mark.parametrize("name", [*PROTOCOLS, None])
def test_scores_that_are_no_numbers_are_no_prediction(name: str | None, tmp_path: Path):
    model = Watched()
    assert model.convolution.bias is not None
    model.convolution.bias[1] = math.nan
    trained = describe_run(["trainer=cpu", "recipe.augmentation.crop=32", f"data.root={tmp_path}"])
    decide = predict_ids if name is None else build_protocol(protocol_of(f"protocol={name}"), trained)
    metric = ConfusionMatrix(CLASSES)
    ids = decide(model, picture(40, 50), (40, 50))
    metric.update(ids, torch.zeros(1, 40, 50, dtype=torch.uint8))
    for ask in (metric.compute, lambda: [*prediction.predict(model, [(picture(40, 50), (40, 50), 0)], ids.device, decide)]):  # type: ignore[list-item]
        with pytest.raises(NotFiniteError, match="scores are no numbers"):  # by which a run counts as diverged
            ask()
