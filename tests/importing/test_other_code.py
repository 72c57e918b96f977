"""The examples of docs/other_code.md run as they are printed, and what they write is imported."""

import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml

from exfuse.importing.stated import FolderFile
from tests.conftest import REPOSITORY
from tests.importing.writing import import_folder

torch = pytest.importorskip("torch")
CLASSES = ["sky", "boat", "cart"]
PAGE = (REPOSITORY / "docs" / "other_code.md").read_text()


def printed(heading: str) -> str:
    """The Python below a heading."""
    return re.findall(r"```python\n(.*?)```", PAGE.partition(f"## {heading}\n")[2], flags=re.S)[0]


def defined(heading: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(printed(heading), names)
    return names


def batches() -> list[tuple[Any, Any, list[str]]]:
    """Two batches of three images whose channels are the scores; the last column of the masks is void."""
    draw = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 3, (2, 3, 8, 9), generator=draw)
    images = torch.nn.functional.one_hot(masks, 3).movedim(-1, 2) + torch.randn((2, 3, 3, 8, 9), generator=draw)
    masks[..., -1] = 255
    return [(images[batch], masks[batch], [f"image{batch}{place}" for place in range(3)]) for batch in range(2)]


def of_mmsegmentation(monkeypatch: pytest.MonkeyPatch) -> type:
    """The example's class over a stand-in that keeps results as mmsegmentation 1.2 does."""

    class IoUMetric:
        def __init__(self, prefix: str | None = None) -> None:
            self.results, self.prefix, self.dataset_meta = list[Any](), prefix, {"classes": tuple(CLASSES)}

        def process(self, data_batch: Any, data_samples: Any) -> None:  # noqa: ARG002
            for sample in data_samples:
                guess, truth = sample["pred"][sample["gt"] != 255], sample["gt"][sample["gt"] != 255]
                areas = [torch.bincount(one, minlength=3).float() for one in (guess[guess == truth], guess, truth)]
                self.results.append((areas[0], areas[1] + areas[2] - areas[0], areas[1], areas[2]))

        def compute_metrics(self, results: Any) -> dict[str, float]:
            return {"images": float(len(results))}

    class Registry:
        def register_module(self) -> Callable[[type], type]:
            return lambda kind: kind

    for name, held in {"evaluation": {"IoUMetric": IoUMetric}, "registry": {"METRICS": Registry()}}.items():
        module = ModuleType(f"mmseg.{name}")
        vars(module).update(held)
        monkeypatch.setitem(sys.modules, f"mmseg.{name}", module)
    monkeypatch.setitem(sys.modules, "mmseg", ModuleType("mmseg"))
    return defined("mmsegmentation")["SavedIoU"]


def test_the_examples_write_what_is_imported_and_agree(tmp_path, monkeypatch):
    pytest.importorskip("segmentation_models_pytorch")
    folders = {name: tmp_path / name for name in ("plain", "smp", "mmseg")}
    kind = of_mmsegmentation(monkeypatch)
    for folder in folders.values():
        folder.mkdir()
    for row, weight in (("plain", 1.0), ("wide", 3.0)):
        model = torch.nn.Conv2d(3, 3, 1, bias=False)
        torch.nn.init.constant_(model.weight, 0.1)
        model.weight.data += weight * torch.eye(3)[:, :, None, None] * torch.tensor([1.0, 1.0, weight])[:, None, None, None]
        run = {"row": row, "seed": 0, "settings": {"width": weight}}
        defined("Plain PyTorch")["save_run"](folders["plain"] / row, model, batches(), CLASSES, **run)
        defined("segmentation_models.pytorch")["save_run"](folders["smp"] / row, model, batches(), CLASSES, **run)
        metric = kind(path=str(folders["mmseg"] / row), **run)
        for images, masks, names in batches():
            guesses = model(images).argmax(1)
            samples = zip(guesses, masks, names, strict=True)
            metric.process(None, [{"pred": pred, "gt": gt, "img_path": f"/data/{name}.jpg"} for pred, gt, name in samples])
        assert metric.compute_metrics(metric.results) == {"images": 6.0}
    studies = [import_folder(folder, tmp_path / f"study_{name}", name="same") for name, folder in folders.items()]
    scores = [[record.scores.iou for _, _, record in study.done()] for study in studies]
    assert scores[0] == scores[1] == scores[2]
    assert scores[0][0] != scores[0][1]
    for study in studies[1:]:
        np.testing.assert_array_equal(study.rows[0].runs[0].additive().own, studies[0].rows[0].runs[0].additive().own)


def test_the_printed_study_file_has_every_key():
    block = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.S)[0]
    every = re.sub(r"^# (?=\w+:)", "", block, flags=re.M)  # with those that exclude others
    assert {*yaml.safe_load(every)} | {"name"} == {*FolderFile.__struct_fields__}
    msgspec.convert(yaml.safe_load(block), FolderFile)


@pytest.mark.parametrize("heading", ["Plain PyTorch", "segmentation_models.pytorch", "mmsegmentation"])
def test_an_example_is_short(heading):
    lines = [line for line in printed(heading).splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 15
