"""Pictures of predictions, of images of any shape."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exfuse.analysis.letters import families
from exfuse.analysis.pictures import save_comparison, save_overlay

CLASSES = ["ground", "tree"]


@pytest.mark.parametrize(("height", "width"), [(1200, 1), (400, 20), (20, 400), (1, 1200)])
def test_a_picture_of_a_strip_is_no_longer_than_a_few_pages_and_shows_it_whole(tmp_path: Path, height: int, width: int) -> None:
    image, ids = np.full((height, width, 3), 200, np.uint8), np.zeros((height, width), np.uint8)
    ids[height // 2 :, width // 2 :] = 1
    save_overlay(tmp_path / "overlay.png", image, ids, CLASSES)
    save_comparison(tmp_path / "compared.png", [image], [ids], {"a": [ids]}, CLASSES)
    for name in ("overlay.png", "compared.png"):
        drawn = np.asarray(Image.open(tmp_path / name).convert("L"))
        assert max(drawn.shape) < 5000
        assert drawn.std() > 0


def test_a_picture_keeps_the_shape_of_a_narrow_image(tmp_path: Path) -> None:
    image = np.zeros((800, 100, 3), np.uint8)
    save_comparison(tmp_path / "narrow.png", [image], [np.ones((800, 100), np.uint8)], {}, CLASSES)
    drawn = np.asarray(Image.open(tmp_path / "narrow.png").convert("L"))
    dark = drawn[40:, : drawn.shape[1] // 2] < 30  # below the title, beside the truth
    height, width = dark.any(1).sum(), dark.any(0).sum()
    assert height / width == pytest.approx(8, rel=0.1)


def test_classes_of_other_scripts_are_named_by_a_font_that_has_their_letters_or_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes, ids = ["background", "自行车", "犬"], np.arange(3, dtype=np.uint8)[None].repeat(2, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_overlay(tmp_path / "overlay.png", np.zeros((2, 3, 3), np.uint8), ids, classes)
    told = capsys.readouterr().err
    assert ("overlay.png: no font that is looked through has 自行车犬" in told) == (len(families()) == 1)
    assert told.count("\n") <= 1
