"""Is a difference of mIoU more than chance? Confidence intervals over validation images and over training seeds."""

from collections.abc import Collection, Hashable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from exfuse.errors import UserError
from exfuse.metrics.iou import Areas

Counts = NDArray[np.int64]  # of one run: (images, C, C), row = true class, column = predicted class, void left out
Scored = (
    Counts | Areas
)  # of one run: areas (images, C) are all that IoU takes from counts, and all there is of a part of an image
Cell = TypeVar("Cell", bound=Hashable)  # a variant's name

_DRAWS_AT_ONCE = 1 << 20  # image draws held in memory at a time: 8 MiB, in a few arrays of that size
_NOTHING = 1e-12  # differences of IoU below this are rounding errors


class Interval(NamedTuple):
    """An estimate with its confidence interval, in units of IoU (0.01 is one point).

    ``p_value < 1 - level`` exactly where the interval leaves out zero. ``resampled`` says what chance stands for:
    "images" (the very models that were trained, on other images) or "seeds and images" (other trainings as well).
    """

    estimate: float
    low: float
    high: float
    p_value: float
    seeds: int
    images: int
    resampled: str


class _Seeds(NamedTuple):
    """A contrast by seed: ``scores`` (S,) and ``resampled`` (resamples, S)."""

    scores: NDArray[np.float64]
    resampled: NDArray[np.float64]


class TooFewLabelledError(UserError):
    """A resample of the images may hold no labelled pixel at all."""


class Resampled(Generic[Cell]):
    """Dataset mIoU of every run on the same bootstrap resamples of the images, for any number of contrasts.

    A resample draws as many images as there are, with replacement, adds their counts and takes the mean IoU of the sums,
    over the classes that occur in the truth of the drawn images. All runs share the draws.

    Args:
        cells: by the variant's name, the counts or areas of its runs by seed. All runs were scored on the same images in
            the same order.
        resamples: how many.
        seed: of the draws.

    Raises:
        UserError: if there is no cell, a cell has no run, runs differ in images, classes or truth, or there are less than
            two images or resamples. A `TooFewLabelledError`, if so few images have labelled pixels that a resample may miss
            them all.

    **Method.** The contrast d_s of a seed s varies with the drawn images, partly alike for all seeds (variance A) and partly
    for this seed alone, and with the training. With S seeds, and * for resamples, the variance of their mean is estimated as

        V = A + B,    A = var*(mean_s d_s) - mean*(var_s(d_s* - d_s)) / S,    B = var_s(d_s) / S

    A, never taken below 0, is the images' noise less what the spread over seeds holds of it already. The interval is
    ``estimate -+ t * sqrt(V)`` with ``(S - 1) * V / B`` degrees of freedom: S - 1 where all noise differs by seed, ever
    more where it is common to all. It is never shorter than half the interval of the images alone (``1.96 * sd*``),
    which a few seeds that agree by luck would undercut. One seed has that interval of the images.

    **Why.** Resampling 3 seeds finds two thirds of their variance and takes that for certain: far too narrow. Bounding B
    below by the images' share, or Satterthwaite's ``(S - 1) * (V / B)**2`` degrees of freedom, which trust a B that is
    small by luck, gave up to 7.4 and 8.0 % false alarms in normal noise with 3 seeds, over all ratios of the three noises.
    This method gives 3.6 to 6.0 % with 3 seeds and 3.8 to 5.2 % with 5: less than 5 % where images and seeds weigh alike,
    more where training makes most of the noise. With **2 seeds it is too short** there, **up to 9.5 %**: take three.
    Few images are another matter: the bootstrap misses some of their variance. With one seed and objects in 30 % of the
    images each, 50 or 100 images gave 7 to 9 % false alarms, 200 gave 5 to 6 %.
    ``tests/analysis/test_calibration.py`` measures this, and the whole chain on simulated segmentations.
    """

    def __init__(self, cells: Mapping[Cell, Mapping[int, Scored]], resamples: int = 10_000, seed: int = 0) -> None:
        if resamples < 2:
            raise UserError(f"{resamples} resamples have no spread: take thousands.")
        scored = {
            cell: {run: _areas(each, f"{cell}, seed {run}") for run, each in by_seed.items()} for cell, by_seed in cells.items()
        }
        true, images = _check(scored)
        runs = [(cell, number, areas) for cell, by_seed in scored.items() for number, areas in by_seed.items()]
        hit_and_predicted = [np.concatenate([areas.hit, areas.predicted], axis=1).astype(np.float64) for _, _, areas in runs]
        resampled = np.empty((resamples, len(runs)))
        start = 0
        for drawn in draws(images, resamples, seed):  # float64 holds sums of counts exactly, in whatever order they are added
            rows = slice(start, start := start + len(drawn))
            true_sums = drawn @ true
            for column, sums in enumerate(hit_and_predicted):
                resampled[rows, column] = _mean_iou(true_sums, drawn @ sums)
        if np.isnan(resampled).any():
            raise TooFewLabelledError("A resample of the images has no labelled pixel at all: too few images are labelled.")
        self.images = images
        self._score: dict[Cell, dict[int, float]] = {cell: {} for cell in cells}
        self._resampled: dict[Cell, dict[int, NDArray[np.float64]]] = {cell: {} for cell in cells}
        for column, (cell, number, areas) in enumerate(runs):
            self._score[cell][number] = float(areas.total().mean_iou())
            self._resampled[cell][number] = resampled[:, column]

    def contrast(
        self,
        weights: Mapping[Cell, float],
        level: float = 0.95,
        paired_seeds: bool = True,
        seeds: Collection[int] | None = None,
    ) -> Interval:
        """Interval of the sum of ``weights[cell] * mIoU(cell)``, a cell's mIoU being the mean over its seeds.

        Args:
            weights: by cell; cells that are not named, or weigh 0, do not take part.
            level: of confidence.
            paired_seeds: runs of one seed share their random numbers, so the seeds that **all** the cells have are
                compared one by one, and others are left out. False takes each cell with all its seeds and its noise as
                independent of the others': the interval that runs without common random numbers would get. ``seeds``
                is then the smallest number of a cell.
            seeds: take no others; None for all.

        Raises:
            UserError: if a cell is unknown, the cells have no seed in common, or unpaired cells have one seed and several.
        """
        weights = {cell: weight for cell, weight in weights.items() if weight}
        unknown = ", ".join(str(cell) for cell in weights if cell not in self._score)
        if unknown or not weights:
            raise UserError(f"No runs of {unknown or 'any cell'} to compare. There are: {', '.join(map(str, self._score))}.")
        together = [weights] if paired_seeds else [{cell: weight} for cell, weight in weights.items()]
        groups = [self._by_seed(part, seeds) for part in together]
        sizes = [len(group.scores) for group in groups]
        if min(sizes) == 1 < max(sizes):
            single = [str(cell) for cell, size in zip(weights, sizes, strict=True) if size == 1]
            raise UserError(
                f"Unpaired seeds need two runs or more of each variant: {', '.join(single)} has one. Train another seed of it."
            )
        return _interval(groups, level, self.images)

    def by_seed(self, weights: Mapping[Cell, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A contrast of each seed that all its cells have, (S,), and what it is on every resample, (resamples, S)."""
        return self._by_seed(weights)

    def _by_seed(self, weights: Mapping[Cell, float], among: Collection[int] | None = None) -> _Seeds:
        seeds = sorted(set.intersection(*(set(self._score[cell]) for cell in weights)))
        seeds = [seed for seed in seeds if among is None or seed in among]
        if not seeds:
            having = "; ".join(f"{cell}: {', '.join(map(str, sorted(self._score[cell])))}" for cell in weights)
            raise UserError(f"No seed that all compared variants have ({having}). Train them with a common seed.")
        scores = [sum(weight * self._score[cell][seed] for cell, weight in weights.items()) for seed in seeds]
        resampled = [sum(weight * self._resampled[cell][seed] for cell, weight in weights.items()) for seed in seeds]
        return _Seeds(np.array(scores), np.stack(resampled, 1))


def contrast(
    cells: Mapping[str, Mapping[int, Counts]],
    weights: Mapping[str, float],
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """`Resampled.contrast` of one contrast: where there are several, resample once."""
    return Resampled({cell: cells[cell] for cell in cells if cell in weights}, resamples, seed).contrast(weights, level)


def difference(
    row: Mapping[int, Counts],
    base: Mapping[int, Counts],
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    paired_seeds: bool = True,
) -> Interval:
    """Interval of mIoU(row) - mIoU(base), each given by seed: see `Resampled.contrast`."""
    cells = Resampled({"row": row, "base": base}, resamples, seed)
    return cells.contrast({"row": 1, "base": -1}, level, paired_seeds)


def draws(images: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each resample draws each image, (some resamples, images) at a time, each row adding up to ``images``.

    The size of a part bounds the memory and changes no number.
    """
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // images)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = generator.integers(images, size=(rows, images))  # five times as fast as Generator.multinomial
        drawn += images * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)


class Noise(NamedTuple):
    """Variances of a contrast's mean over S seeds, floats or arrays: see the method of `Resampled`."""

    images: NDArray[np.float64]  # var*: resampling the images
    common: NDArray[np.float64]  # A: the part of it that moves all seeds alike
    seeds: NDArray[np.float64]  # B: the spread over seeds, divided by S; 0 for one seed
    degrees: NDArray[np.float64]  # S - 1, of B

    def errors(self) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]:
        """Standard error and degrees of freedom of the interval, and of the one that it must not undercut."""
        variance = self.common + self.seeds
        infinite = np.full_like(variance, np.inf)
        freedom = np.divide(self.degrees * variance, self.seeds, out=infinite.copy(), where=self.seeds > 0)
        return (np.sqrt(variance), freedom), (np.sqrt(self.images) / 2, infinite)

    def half_width(self, level: float) -> NDArray[np.float64]:
        """Half the length of the interval of this level."""
        halves = [stdtrit(freedom, (1 + level) / 2) * error for error, freedom in self.errors()]
        return np.maximum(*halves)

    def p_value(self, estimate: float) -> NDArray[np.float64]:
        """1 - the level at which the interval of ``estimate`` just reaches zero."""
        tails = []
        for error, freedom in self.errors():
            low = np.divide(-abs(estimate), error, out=np.full_like(error, -np.inf), where=error > 0)
            tails.append(2 * stdtr(freedom, low))
        return np.maximum(*tails)


def _interval(groups: list[_Seeds], level: float, images: int) -> Interval:
    """The interval of the sum of independent groups of seeds, each the mean over its seeds."""
    estimate = float(sum(group.scores.mean() for group in groups))
    of_images = np.var(sum(group.resampled.mean(1) for group in groups), ddof=1)
    common, of_seeds, squares = of_images, np.float64(0), np.float64(0)
    for scores, resampled in groups:
        if (size := len(scores)) > 1:
            common -= np.var(resampled - scores, axis=1, ddof=1).mean() / size
            of_seeds += (part := np.var(scores, ddof=1) / size)
            squares += part**2 / (size - 1)
    degrees = of_seeds**2 / squares if squares else np.float64(0)  # Welch's for several groups, S - 1 for one
    noise = Noise(*map(np.asarray, (of_images, max(common, 0.0), of_seeds, degrees)))
    estimate = estimate if abs(estimate) > _NOTHING else 0.0
    half = float(noise.half_width(level))
    if half > _NOTHING:
        p_value = float(noise.p_value(estimate))
    else:  # the rows agree, or differ alike, in every resample
        half, p_value = 0.0, float(estimate == 0)
    seeds = min(len(group.scores) for group in groups)
    chance = "seeds and images" if seeds > 1 else "images"
    return Interval(estimate, estimate - half, estimate + half, p_value, seeds, images, chance)


def _mean_iou(true: NDArray[np.float64], hit_and_predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """`exfuse.metrics.iou.mean_iou` of resampled sums: true (N, C) and hit | predicted (N, 2C) -> (N,)."""
    hit, predicted = np.split(hit_and_predicted, 2, axis=-1)
    present = true > 0
    ious = np.divide(hit, true + predicted - hit, out=np.zeros_like(hit), where=present)
    classes = present.sum(-1)
    return np.divide(ious.sum(-1), classes, out=np.full(len(hit), np.nan), where=classes > 0)


def _areas(scored: Scored, name: str) -> Areas:
    if isinstance(scored, Areas):
        return scored
    if scored.ndim != 3 or scored.shape[1] != scored.shape[2]:
        raise UserError(f"Counts of {name} have shape {scored.shape}, expected (images, classes, classes).")
    return Areas.of_counts(scored.astype(np.int64, copy=False))


def _check(cells: Mapping[Cell, Mapping[int, Areas]]) -> tuple[NDArray[np.float64], int]:
    """True pixels per image and class (images, C) and the number of images, the same for all runs."""
    if not cells:
        raise UserError("No variant to resample: give at least one with a finished run.")
    if empty := [str(cell) for cell, by_seed in cells.items() if not by_seed]:
        raise UserError(f"No finished run of {', '.join(empty)}: train it, or leave it out.")
    first, reference = None, None
    for cell, by_seed in cells.items():
        for seed, areas in by_seed.items():
            name, true = f"{cell}, seed {seed}", areas.true
            if reference is None:
                first, reference = name, true
            if true.shape != reference.shape:
                raise UserError(
                    f"Runs must be scored on the same images and classes: {first} has {len(reference)} images and "
                    f"{reference.shape[1]} classes, {name} has {len(true)} and {true.shape[1]}. Score them on the same data."
                )
            if not np.array_equal(true, reference):
                raise UserError(
                    f"Runs must be scored on the same images in the same order: the true classes of {name} differ from "
                    f"those of {first}, first in image {np.argmax((true != reference).any(1))}. Score them on the same data."
                )
    assert reference is not None  # every cell has a run
    if len(reference) < 2:
        raise UserError(f"{len(reference)} image cannot be resampled: score the runs on two or more.")
    if not reference.any():
        raise TooFewLabelledError("No labelled pixel in any image: there is nothing to score. Check the masks.")
    return reference.astype(np.float64), len(reference)
