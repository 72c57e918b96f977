"""Is a difference of scores more than chance? Confidence intervals over validation images and over training seeds."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from exfuse.analysis.draws import GROUPS, IMAGES, NOTHING, Units, draws, frame_blocks
from exfuse.analysis.noise import Floats, Noise
from exfuse.errors import UserError, plural
from exfuse.metrics.iou import Areas
from exfuse.metrics.means import Means
from exfuse.store.grouping import Grouping

Additive = Areas | Means  # of one run, what each image contributes
Cell = TypeVar("Cell", bound=Hashable)  # a variant's name
_NOTHING = 1e-12  # differences below this, of scores up to 1, are rounding errors
_SEQUENCES = 2  # as many ordered groups, at most, are drawn in blocks of frames; of more, whole ones are drawn


class Interval(NamedTuple):
    """An estimate with its confidence interval, in units of the score (0.01 is one point of IoU).

    ``p_value < 1 - level`` exactly where the interval leaves out zero. ``resampled`` says what chance stands for: "images" (the
    very models that were trained, on other images), "seeds and images" (other trainings as well) or "seeds" (other trainings
    on these very images). ``noise`` is what makes the interval.
    """

    estimate: float
    low: float
    high: float
    p_value: float
    seeds: int
    images: int
    resampled: str
    units: Units
    noise: "Noise"


class TooFewLabelledError(UserError):
    """A resample of the images may hold no labelled pixel at all."""


class OneGroupError(UserError):
    """All images are one group without order and there is one seed: there is nothing that chance could be estimated from."""


class Resampled(Generic[Cell]):
    """The score of every run on the same bootstrap resamples of the images, for any number of contrasts.

    A resample draws as many images as there are, with replacement, adds what they contribute and takes the score of the sums:
    of areas the mean IoU over the classes that occur in the truth of the drawn images, of `Means` the mean. All
    runs share the draws.

    Args:
        cells: by the variant's name, the areas or `Means` of its runs by seed. All runs were scored on the same images in the
            same order.
        resamples: how many.
        seed: of the draws.
        grouping: which images are not independent; None where all are.

    Raises:
        UserError: if there is no cell, a cell has no run, runs differ in images, classes or truth, the grouping is of other
            images, or there are less than two resamples.
        TooFewLabelledError: if so few images have labelled pixels that a resample may miss them all.

    **What is drawn**, see `Units`. Images that stand alone are drawn one by one. Groups (of a patient, a scan, a video) are
    drawn whole. One or two ordered sequences are drawn in blocks of consecutive frames, the end of a sequence going on at its
    beginning (Politis & Romano 1992), see `frame_blocks`: intervals then speak of these sequences alone. A single group without
    order is not drawn: intervals are then over seeds alone.

    **Method.** The contrast d_s of a seed s varies with the drawn images, partly alike for all seeds (variance A) and partly
    for this seed alone, and with the training (together variance B of the mean). With S seeds, and * for resamples,

        A = g * (var*(mean_s d_s) - mean*(var_s(d_s* - d_s)) / S),    B = var_s(d_s) / S

    g makes up for what resamples miss: q / (q - 1) for q images or groups, for frames see `frame_blocks`.

    A is the images' noise less what the spread over seeds holds of it already; it is never below a sixteenth of the former,
    which a few seeds that agree by luck would undercut. One seed has A alone. How A and B make an interval: see `Noise`.
    ``tests/analysis/test_calibration.py`` measures how often such intervals miss, and ``docs/statistics.md`` says it.
    """

    def __init__(
        self,
        cells: Mapping[Cell, Mapping[int, Additive]],
        resamples: int = 10_000,
        seed: int = 0,
        grouping: Grouping | None = None,
    ) -> None:
        if resamples < 2:
            raise UserError(f"{resamples} resamples have no spread: take thousands.")
        self.images = _check(cells)
        self._resamples, self._draws_seed = resamples, seed
        groups = _groups(grouping, self.images)
        ordered = grouping is not None and grouping.ordered
        self._frames = groups if ordered and len(groups) <= _SEQUENCES and self.images > 1 else None
        self._sizes = np.array([len(group) for group in groups], np.float64)
        self._seeds = {cell: sorted(by_seed) for cell, by_seed in cells.items()}
        runs = {(cell, number): each for cell, by_seed in cells.items() for number, each in by_seed.items()}
        self._column = {run: column for column, run in enumerate(runs)}
        drawn_whole = groups if self._frames is None and len(groups) < self.images else None
        first = next(iter(runs.values()))
        self._score, self._parts = first.score, first.parts
        # float64 holds sums of counts exactly, in whatever order they are added
        self._own = [_summed(each.own.astype(np.float64), drawn_whole) for each in runs.values()]
        self._shared = _summed(first.shared.astype(np.float64), drawn_whole)
        self._scores = self._score(self._shared.sum(0), np.array([own.sum(0) for own in self._own]))
        self._nothing = _NOTHING * max(1.0, float(np.abs(self._scores).max()))
        self._resampled: dict[int, Floats] = {}  # by the length of a block: (resamples, runs)

    def contrast(self, weights: Mapping[Cell, float], level: float = 0.95, seeds: Collection[int] | None = None) -> Interval:
        """Interval of the sum of ``weights[cell] * score(cell)``, a cell's score being the mean over its seeds.

        Runs of one seed share their random numbers: the seeds that **all** the cells have are compared one by one, and others
        are left out.

        Args:
            weights: by cell; cells that are not named, or weigh 0, do not take part.
            level: of confidence.
            seeds: take no others; None for all.

        Raises:
            UserError: if a cell is unknown, or the cells have no seed in common.
            OneGroupError: if neither images nor seeds say anything of chance.
        """
        weights = {cell: weight for cell, weight in weights.items() if weight}
        unknown = ", ".join(str(cell) for cell in weights if cell not in self._seeds)
        if unknown or not weights:
            raise UserError(f"No runs of {unknown or 'any cell'} to compare. There are: {', '.join(map(str, self._seeds))}.")
        part = self._by_seed(weights, seeds)
        units = self._units(part)
        if units.kind == NOTHING and part.seeds == 1:
            raise OneGroupError("One image, or one group, and one seed: train another seed, or score other images.")
        return self._interval(part, units, level)

    def by_seed(self, weights: Mapping[Cell, float]) -> tuple[Floats, Floats]:
        """A contrast of each seed that all its cells have, (S,), and what it is on every resample, (resamples, S).

        The latter spread as far as the images' noise is estimated to, which is farther than resamples do.
        """
        part = self._by_seed(weights)
        units, scores = self._units(part), part.of(self._scores)
        resampled = part.of(self._draw(units.length)) if units.kind != NOTHING else scores[None].repeat(2, axis=0)
        return scores, scores + units.grown**0.5 * (resampled - scores)

    def units(self, weights: Mapping[Cell, float]) -> Units:
        """What is drawn for a contrast of all seeds that its cells have."""
        return self._units(self._by_seed(weights))

    def _by_seed(self, weights: Mapping[Cell, float], among: Collection[int] | None = None) -> "_Part":
        """The runs that take part."""
        seeds = sorted(set.intersection(*(set(self._seeds[cell]) for cell in weights)))
        seeds = [seed for seed in seeds if among is None or seed in among]
        if not seeds:
            having = "; ".join(f"{cell}: {', '.join(map(str, self._seeds[cell]))}" for cell in weights)
            raise UserError(f"No seed that all compared variants have ({having}). Train them with a common seed.")
        return _Part([(weight, [self._column[cell, seed] for seed in seeds]) for cell, weight in weights.items()])

    def _units(self, part: "_Part") -> Units:
        if self._frames is None:
            if len(self._sizes) == 1:
                return Units(NOTHING, 0, 0, 0)
            alike = float((self._sizes**2).sum() ** 2 / (self._sizes**4).sum())
            kind = IMAGES if len(self._sizes) == self.images else GROUPS
            return Units(kind, alike, alike / (alike - 1), alike - 1)
        return frame_blocks([part.of(self._influence).mean(1), part.of(self._accuracy).mean(1)], self._frames)

    @cached_property
    def _influence(self) -> Floats:
        """By how much each unit, if it is left out, lowers each run's score: (units, runs)."""
        shared = self._shared.sum(0) - self._shared
        found = [score - self._score(shared, own.sum(0) - own) for score, own in zip(self._scores, self._own, strict=True)]
        return np.stack(found, axis=1)

    @cached_property
    def _accuracy(self) -> Floats:
        """The quotient of the parts of each unit's score, of pixels the share that a run hits: (units, runs).

        That of all where a unit has none.
        """
        parts = [self._parts(self._shared, own) for own in self._own]
        above, below = np.stack([one for one, _ in parts], axis=1), parts[0][1]
        return np.where(below[:, None] > 0, above / np.maximum(below, 1)[:, None], above.sum(0) / below.sum())

    def _draw(self, length: int) -> Floats:
        """Scores of all runs on the resamples (resamples, runs), units of so many images being drawn."""
        if length not in self._resampled:
            sequences = self._frames or [np.arange(len(self._shared))]
            found = np.empty((self._resamples, len(self._column)), order="F")  # a contrast reads a few columns
            start = 0
            for drawn in draws(sequences, self._resamples, self._draws_seed, length):
                rows = slice(start, start := start + len(drawn))
                shared = drawn @ self._shared
                for column, own in enumerate(self._own):
                    found[rows, column] = self._score(shared, drawn @ own)
            if np.isnan(found).any():
                raise TooFewLabelledError("A resample of the images has no labelled pixel at all: too few images are labelled.")
            self._resampled[length] = found
        return self._resampled[length]

    def _interval(self, part: "_Part", units: Units, level: float) -> Interval:
        """The interval of the mean over seeds."""
        scores, seeds = part.of(self._scores), part.seeds
        estimate = float(scores.mean())
        of_images = common = of_seeds = 0.0
        if units.kind != NOTHING:
            resampled = part.of(self._draw(units.length))
            of_images = common = float(np.var(resampled.mean(1), ddof=1))
            if seeds > 1:
                common -= float(np.var(resampled - scores, axis=1, ddof=1).mean()) / seeds
        if seeds > 1:
            of_seeds = float(np.var(scores, ddof=1)) / seeds
        freedom = seeds - 1 if of_seeds else 0.0
        noise = Noise(units.grown * max(common, of_images / 16), units.freedom, of_seeds, freedom)
        estimate = estimate if abs(estimate) > self._nothing else 0.0
        half = float(noise.half_width(1 - level))
        if half > self._nothing:
            p_value = noise.p_value(estimate)
        else:  # the rows agree, or differ alike, in every resample: as likely as that all units fall on one side by chance
            half, p_value = 0.0, min(1.0, 2.0 ** (1 - max(units.number, seeds))) if estimate else 1.0
        by_seeds = ["seeds"] if seeds > 1 else []
        chance = " and ".join(by_seeds + ([] if units.kind == NOTHING else ["images"]))
        return Interval(estimate, estimate - half, estimate + half, p_value, seeds, self.images, chance, units, noise)


class _Part(NamedTuple):
    """The runs of a contrast: of each cell its weight and its run's column for every seed."""

    cells: Sequence[tuple[float, Sequence[int]]]

    @property
    def seeds(self) -> int:
        return len(self.cells[0][1])

    def of(self, values: Floats) -> Floats:
        """The contrast of each seed, (..., S), of values of all runs, (..., runs)."""
        return sum((weight * values[..., columns] for weight, columns in self.cells), np.float64(0))


def _groups(grouping: Grouping | None, images: int) -> list[NDArray[np.int64]]:
    """Positions of every group's images, in order."""
    if grouping is None:
        return [np.array([position]) for position in range(images)]
    if len(grouping.groups) != images:
        raise UserError(f"The grouping is of {plural(len(grouping.groups), 'image')}, the runs were scored on {images}.")
    found: dict[str, list[int]] = {}
    for position, group in enumerate(grouping.groups):
        found.setdefault(group, []).append(position)
    return [np.array(positions) for positions in found.values()]


def _summed(of_images: Floats, groups: Sequence[NDArray[np.int64]] | None) -> Floats:
    """What images add (images, ...) summed by group; as it is without."""
    return of_images if groups is None else np.stack([of_images[group].sum(0) for group in groups])


def _check(cells: Mapping[Cell, Mapping[int, Additive]]) -> int:
    """The number of images, which like their true pixels per class is the same for all runs."""
    if not cells:
        raise UserError("No variant to resample: give at least one with a finished run.")
    if empty := [str(cell) for cell, by_seed in cells.items() if not by_seed]:
        raise UserError(f"No finished run of {', '.join(empty)}: train it, or leave it out.")
    first, reference = None, None
    for cell, by_seed in cells.items():
        for seed, each in by_seed.items():
            name, true = f"{cell}, seed {seed}", each.shared
            if reference is None:
                first, reference = name, true
            if true.shape != reference.shape:
                raise UserError(
                    f"Runs must be scored on the same images and classes: {first} has {plural(len(reference), 'image')} and "
                    f"{reference.shape[1]} classes, {name} has {len(true)} and {true.shape[1]}. Score them on the same data."
                )
            if not np.array_equal(true, reference):
                raise UserError(
                    f"Runs must be scored on the same images in the same order: the true classes of {name} differ from "
                    f"those of {first}, first in image {np.argmax((true != reference).any(1))}. Score them on the same data."
                )
    assert reference is not None  # every cell has a run
    if not reference.any():
        raise TooFewLabelledError("No labelled pixel in any image: there is nothing to score. Check the masks.")
    return len(reference)
