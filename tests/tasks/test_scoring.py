"""ScoredImages know nothing of batches, orders, workers or the other images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from exfuse.composition.segmentation import build_eval_transform, build_model, build_protocol
from exfuse.data.segmentation import SegmentationDataset
from exfuse.data.split import Item, Split, make_split
from exfuse.metrics.boundary import count_image, find_edges
from exfuse.metrics.iou import Areas
from exfuse.models.segmenter import Segmenter
from exfuse.palette import VOID
from exfuse.store.description import RunDescription
from exfuse.tasks.scoring import ScoredImages, score_images
from tests.described import HALF, changed
from tests.tasks.test_protocols import PROTOCOLS, protocol_of

CLASSES = ("background", "boat", "cart")
SIZES = [(40, 56), (56, 40), (40, 56), (33, 70), (64, 64)]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Images of several sizes, with void."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(3)
    items = []
    for number, (height, width) in enumerate(SIZES):
        coarse = rng.integers(0, len(CLASSES), (height // 8 + 1, width // 8 + 1)).astype(np.uint8)
        mask = coarse.repeat(8, 0).repeat(8, 1)[:height, :width].copy()
        pixels = (80 * mask[..., None] + rng.integers(0, 60, (height, width, 3))).astype(np.uint8)
        mask[rng.random(mask.shape) < 0.1] = VOID
        item = Item(f"image{number}", folder / f"image{number}.png", folder / f"mask{number}.png")
        Image.fromarray(pixels).save(item.image)
        Image.fromarray(mask).save(item.mask)
        items.append(item)
    return make_split("made up", items, CLASSES)


@pytest.fixture(scope="module")
def trained(compose_config: Callable[..., RunDescription], tmp_path_factory: pytest.TempPathFactory) -> RunDescription:
    folder: Path = tmp_path_factory.mktemp("data")
    run = compose_config("trainer=cpu", "recipe.augmentation.crop=32", f"data.root={folder}")
    return changed(run, "backbone.normalisation", HALF)


@pytest.fixture(scope="module")
def model(trained: RunDescription) -> Segmenter:
    return build_model(trained, len(CLASSES)).to(memory_format=torch.channels_last)


def pick(scored: ScoredImages, images: list[int]) -> ScoredImages:
    return ScoredImages(
        scored.counts[images], replace(scored.areas, areas=Areas(*(area[images] for area in scored.areas.areas)))
    )


def assert_same(one: ScoredImages, other: ScoredImages) -> None:
    np.testing.assert_array_equal(one.counts, other.counts)
    for area, same in zip(one.areas.areas, other.areas.areas, strict=True):
        np.testing.assert_array_equal(area, same)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_scores_depend_neither_on_order_nor_company_nor_workers(name, split, trained, model):
    decide = build_protocol(protocol_of(f"protocol={name}"), trained)

    def scored(items, workers=0):
        return score_images(
            model, SegmentationDataset(replace(split, items=items), build_eval_transform(trained)), CPU, workers, decide
        )

    whole = scored(split.items)
    assert len(np.unique(whole.counts.sum((0, 1)))) > 1  # the network does not say one thing everywhere
    shuffled = [3, 0, 4, 2, 1]
    assert_same(scored(tuple(split.items[place] for place in shuffled)), pick(whole, shuffled))
    for place, item in enumerate(split.items):
        assert_same(scored((item,)), pick(whole, [place]))
    if name == "single_scale":
        assert_same(scored(split.items, workers=2), whole)


@torch.inference_mode()
def test_scores_are_the_counts_and_areas_of_what_the_protocol_decides(split, trained, model):
    dataset = SegmentationDataset(split, build_eval_transform(trained))
    whole = score_images(model, dataset, CPU, 0)
    for place, sample in enumerate(dataset):
        truth = sample["mask"].numpy()
        ids = model(sample["image"][None]).scores.argmax(1)[0].numpy().astype(np.uint8)
        known = truth != VOID
        counts = np.zeros_like(whole.counts[0])
        np.add.at(counts, (truth[known], ids[known]), 1)
        np.testing.assert_array_equal(whole.counts[place], counts)
        expected = count_image(ids, truth, find_edges(truth), len(CLASSES)).areas
        for area, same in zip(expected, whole.areas.areas, strict=True):
            np.testing.assert_array_equal(same[place], area)
        if place == len(dataset) - 1:
            break


def test_bands_and_interiors_of_every_radius_add_up_to_the_whole(split, trained, model):
    scored = score_images(model, SegmentationDataset(split, build_eval_transform(trained)), CPU, 0)
    whole = Areas.of_counts(scored.counts)
    for radius in scored.areas.radii:
        for band, interior, all_ in zip(scored.areas.band(radius), scored.areas.interior(radius), whole, strict=True):
            np.testing.assert_array_equal(band + interior, all_)
    summary = scored.areas.summary()
    assert summary["edge"][2] == pytest.approx(scored.areas.band(3).total().mean_iou())
    with pytest.raises(ValueError, match="not in tuple"):
        scored.areas.band(4)


def test_scoring_leaves_the_global_settings_as_they_were(split, trained, model):
    torch.backends.cudnn.benchmark = True
    try:
        score_images(model, SegmentationDataset(replace(split, items=split.items[:1]), build_eval_transform(trained)), CPU, 0)
        assert torch.backends.cudnn.benchmark
        assert not torch.backends.cudnn.deterministic
    finally:
        torch.backends.cudnn.benchmark = False
