"""Numbers of maps against plain numpy, and on maps whose answer is known."""

import math

import numpy as np
import pytest
import torch

from exfuse.palette import VOID
from exfuse.reports.features.statistics import (
    BRANCH,
    MAP,
    Regions,
    branch_statistics,
    class_moments,
    map_statistics,
    variance_shares,
)

CLASSES = 4


def split_in_two(height: int = 8, width: int = 8) -> Regions:
    """Class 1 on the left, class 2 on the right, the two columns where they meet being the band."""
    classes = torch.ones(height, width, dtype=torch.long)
    classes[:, width // 2 :] = 2
    band = torch.zeros(height, width, dtype=torch.bool)
    band[:, width // 2 - 1 : width // 2 + 1] = True
    return Regions(classes, band)


def random_regions(generator: np.random.Generator, height: int, width: int) -> Regions:
    classes = generator.choice([0, 1, 3, VOID], (height, width), p=[0.4, 0.3, 0.2, 0.1])
    return Regions(torch.from_numpy(classes), torch.from_numpy(generator.random((height, width)) < 0.4))


def by_the_book(values: np.ndarray, classes: np.ndarray, band: np.ndarray) -> dict[str, float]:
    """Every statistic of a map as its definition reads."""
    energy = np.linalg.norm(values, axis=0)
    labelled = classes != VOID
    found = {}
    regions = {"band": band & labelled, "interior": ~band & labelled}
    for region, cells in regions.items():
        found[f"energy_{region}"] = energy[cells].mean()
        between, within = [], []
        for channel in values:
            here, ids = channel[cells], classes[cells]
            between.append(sum((ids == id).sum() * (here[ids == id].mean() - here.mean()) ** 2 for id in np.unique(ids)))
            within.append(sum(((here[ids == id] - here[ids == id].mean()) ** 2).sum() for id in np.unique(ids)))
        found[f"fisher_{region}"] = sum(between) / sum(within)
        found[f"class_share_{region}"] = np.mean([b / (b + w) for b, w in zip(between, within, strict=True)])
    found["energy_ratio"] = found["energy_band"] / found["energy_interior"]
    across, alike, inside = [], [], []
    height, width = classes.shape
    for row in range(height):
        for column in range(width):
            for other in ((row + 1, column), (row, column + 1)):
                if other[0] == height or other[1] == width or VOID in (classes[row, column], classes[other]):
                    continue
                step = abs(energy[row, column] - energy[other])
                same = classes[row, column] == classes[other]
                (alike if same else across).append(step)
                if same and not band[row, column] and not band[other]:
                    inside.append(step)
    found["contrast"] = np.mean(across) / np.mean(alike)
    found["roughness"] = np.mean(inside) / found["energy_interior"]
    return found


@pytest.mark.parametrize("shape", [(5, 12, 17), (1, 9, 9), (16, 20, 11)])
def test_a_map_has_the_numbers_that_its_definitions_give(shape: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(shape[0])
    values = generator.normal(1, 2, shape).astype(np.float32)
    regions = random_regions(generator, *shape[1:])
    found, _ = map_statistics(torch.from_numpy(values), regions, CLASSES)
    assert set(found) == set(MAP)
    expected = by_the_book(values.astype(np.float64), regions.classes.numpy(), regions.band.numpy())
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_map_of_nothing_but_edges() -> None:
    regions = split_in_two()
    found, _ = map_statistics(regions.band.float().expand(3, -1, -1), regions, CLASSES)
    assert found["energy_band"] == pytest.approx(math.sqrt(3))
    assert found["energy_interior"] == 0
    assert math.isnan(found["energy_ratio"])
    assert math.isnan(found["roughness"])
    assert math.isnan(found["fisher_band"])  # both classes give the same answer there: no variance at all
    assert found["contrast"] == 0  # its step is beside the classes' border, not across it


def test_a_map_of_nothing_but_interiors() -> None:
    regions = split_in_two()
    noise = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) + 1
    found, _ = map_statistics(noise * ~regions.band, regions, CLASSES)
    assert found["energy_band"] == found["energy_ratio"] == 0
    assert found["energy_interior"] > 1
    assert found["roughness"] > 0


def test_a_map_that_is_its_truth_has_all_its_variance_between_classes() -> None:
    regions = split_in_two()
    found, _ = map_statistics(torch.stack([regions.classes == 1, regions.classes == 2]).float() * 3 + 1, regions, CLASSES)
    assert found["class_share_band"] == found["class_share_interior"] == 1
    assert math.isnan(found["fisher_band"])  # nothing varies within: no finite ratio
    assert found["roughness"] == 0


def test_removing_noise_and_moving_classes_apart_are_told_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    regions = split_in_two(40, 40)
    signal = (regions.classes == 2).double().expand(6, -1, -1)
    noise = torch.randn(6, 40, 40, generator=generator, dtype=torch.float64)
    noisy, smooth, apart = (
        map_statistics(4 + map_, regions, CLASSES)[0] for map_ in (signal + noise, signal + noise / 4, 4 * signal + noise)
    )
    assert smooth["roughness"] < noisy["roughness"] / 3
    assert apart["roughness"] > noisy["roughness"] / 2
    for better in (smooth, apart):
        assert better["fisher_interior"] > 5 * noisy["fisher_interior"]
        assert better["contrast"] > 2 * noisy["contrast"]


def test_noise_alone_has_the_fisher_ratio_that_the_docstring_says() -> None:
    generator = torch.Generator().manual_seed(0)
    regions = split_in_two(20, 20)
    found, _ = map_statistics(torch.randn(400, 20, 20, generator=generator), regions, CLASSES)
    for region, cells in regions.named().items():
        assert found[f"fisher_{region}"] == pytest.approx(1 / (int(cells.sum()) - 2), rel=0.2)


def test_rescaled_channels_change_fishers_ratio_but_no_class_share() -> None:
    generator = np.random.default_rng(1)
    regions = random_regions(generator, 12, 12)
    values = torch.from_numpy(generator.normal(size=(4, 12, 12)))
    scaled = values * torch.tensor([1.0, 10.0, -0.1, 3.0])[:, None, None]
    before, after = (map_statistics(map_, regions, CLASSES)[0] for map_ in (values, scaled))
    assert after["class_share_band"] == pytest.approx(before["class_share_band"])
    assert after["fisher_band"] != pytest.approx(before["fisher_band"], rel=0.01)


def test_pooled_moments_are_those_of_all_cells_together() -> None:
    generator = np.random.default_rng(2)
    maps = [torch.from_numpy(generator.normal(size=(3, 6, width))) for width in (5, 8)]
    regions = [random_regions(generator, 6, width) for width in (5, 8)]
    one, other = (class_moments(map_, place, place.labelled, CLASSES) for map_, place in zip(maps, regions, strict=True))
    both = Regions(*(torch.cat([getattr(place, name) for place in regions], 1) for name in ("classes", "band")))
    together = class_moments(torch.cat(maps, 2), both, both.labelled, CLASSES)
    assert one.plus(other).fisher() == pytest.approx(together.fisher())
    assert one.plus(other).class_share() == pytest.approx(together.class_share())


def test_numbers_that_an_image_does_not_give_are_no_numbers() -> None:
    one_class = Regions(torch.zeros(4, 5, dtype=torch.long), torch.zeros(4, 5, dtype=torch.bool))
    found, _ = map_statistics(torch.rand(2, 4, 5), one_class, CLASSES)
    assert {name for name, value in found.items() if not math.isnan(value)} == {"energy_interior", "roughness"}
    void = Regions(torch.full((1, 1), VOID), torch.zeros(1, 1, dtype=torch.bool))
    found, _ = map_statistics(torch.rand(2, 1, 1), void, CLASSES)
    assert all(math.isnan(value) for value in found.values())
    assert all(math.isnan(value) for value in branch_statistics(None, one_class, CLASSES).values())


def test_a_masks_a_rescalings_and_a_mixed_branchs_variance_are_told_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(1, 6, 7, generator=generator, dtype=torch.float64)
    scale = torch.rand(5, 1, 1, generator=generator, dtype=torch.float64)
    only_mask, only_scale = variance_shares(mask.expand(5, 6, 7)), variance_shares(scale.expand(5, 6, 7))
    assert only_mask == pytest.approx({"branch_channel": 0, "branch_mask": 1, "branch_specific": 0})
    assert only_scale == pytest.approx({"branch_channel": 1, "branch_mask": 0, "branch_specific": 0})
    assert variance_shares(mask + scale)["branch_specific"] == pytest.approx(0, abs=1e-9)
    crossed = torch.tensor([1.0, -1.0])[:, None, None] * torch.tensor([1.0, -1.0])
    assert variance_shares(crossed.double())["branch_specific"] == pytest.approx(1)
    assert all(math.isnan(share) for share in variance_shares(torch.ones(3, 4, 4)).values())


def test_a_branch_that_depends_on_the_class_alone_says_so() -> None:
    regions = split_in_two()
    branch = torch.stack([regions.classes.float(), 3 - regions.classes.float()])
    found = branch_statistics(branch, regions, CLASSES)
    assert set(found) == set(BRANCH)
    assert found["branch_class"] == 1
    assert found["branch_band"] == found["branch_interior"] == pytest.approx(1.5)
    assert found["branch_specific"] == pytest.approx(1)
