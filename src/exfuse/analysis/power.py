"""How many seeds and images tell a difference: the power of the interval that tables show, from a pilot's noise."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import chdtri, ndtr

from exfuse.analysis.comparisons import ALPHA
from exfuse.analysis.draws import NOTHING, Units
from exfuse.analysis.noise import Noise
from exfuse.analysis.resampling import Resampled
from exfuse.errors import UserError
from exfuse.store.consistency import find_deviations, processes_of
from exfuse.store.folder import find_finished
from exfuse.store.grouping import Grouping
from exfuse.store.metric import MIOU
from exfuse.store.record import Record
from exfuse.store.study import Run
from exfuse.store.study_file import FILE
from exfuse.store.study_reading import load_study

POWER = 0.8
MOST_SEEDS, MOST_TIMES = 200, 1000  # beyond which nothing is looked for: seeds, and how often as many images
_LEAST = 1e-12  # variance that is rounding's alone
_POINTS = (np.arange(400) + 0.5) / 400  # at which the spread over seeds, a chi-squared variable, is averaged over


@dataclass(frozen=True)
class Spread:
    """Variances of one comparison, in squared fractions of IoU.

    Attributes:
        common: of the images, alike for all seeds, with as many ``images`` as the pilot has.
        own: of the images, for each seed another.
        training: of one seed's training.
        seeds, images: of the pilot.
        units: what stands for the images there: with more images there are as many more of them.
    """

    common: float
    own: float
    training: float
    seeds: int
    images: int
    units: Units

    @property
    def is_seen(self) -> bool:
        """Whether there is any: runs that all predict one class show none, and would promise everything."""
        return self.common + self.own + self.training > _LEAST

    def noise(self, seeds: int, images: int, luck: "np.ndarray | float" = 1.0) -> Noise:
        """Of a study of that size; ``luck`` multiplies what its seeds show of their spread."""
        times = self.images / images
        of_seeds = (self.training + times * self.own) / seeds * np.asarray(luck, dtype=np.float64)
        common = np.full_like(of_seeds, times * self.common)
        return Noise(common, (self.units.freedom + 1) / times - 1, of_seeds, seeds - 1)


def spread_of(drawn: Resampled[str], row: str, base: str) -> Spread | None:
    """The noise of a comparison as the seeds that both rows have show it; None for one seed, which shows none of training."""
    weights = {row: 1, base: -1}
    scores, resampled = drawn.by_seed(weights)
    if (seeds := len(scores)) < 2:
        return None
    own = float(np.var(resampled - scores, axis=1, ddof=1).mean())
    common = max(float(np.var(resampled.mean(1), ddof=1)) - own / seeds, 0.0)
    return Spread(common, own, max(float(np.var(scores, ddof=1)) - own, 0.0), seeds, drawn.images, drawn.units(weights))


def power(difference: float, spread: Spread, seeds: int, images: int, level: float) -> float:
    """The chance that a study of that size gives an interval of this level without zero, where this is the true difference."""
    luck = chdtri(seeds - 1, _POINTS) / (seeds - 1)
    half = spread.noise(seeds, images, luck).half_width(1 - level)
    expected = spread.noise(seeds, images)
    error = float(np.sqrt(expected.images + expected.seeds))
    if error == 0:
        return float(difference > 0)
    return float(np.mean(ndtr((difference - half) / error) + ndtr((-difference - half) / error)))


def seeds_for(difference: float, spread: Spread, images: int, level: float) -> int | None:
    """The fewest seeds that tell it with `POWER`; None if `MOST_SEEDS` do not, so that only more images help."""
    return _first(range(2, MOST_SEEDS + 1), lambda seeds: power(difference, spread, seeds, images, level) >= POWER)


def images_for(difference: float, spread: Spread, seeds: int, level: float) -> int | None:
    """The fewest images that tell it with so many seeds; None if `MOST_TIMES` as many as the pilot's do not, or none can."""
    if spread.units.kind == NOTHING:
        return None
    numbers = range(2, MOST_TIMES * spread.images + 1)
    return _first(numbers, lambda images: power(difference, spread, seeds, images, level) >= POWER)


def told_by(spread: Spread, seeds: int, images: int, level: float) -> float:
    """The smallest difference that a study of that size tells with `POWER`, to a hundredth of a point."""
    steps = range(0, 10_001)
    found = _first(steps, lambda step: power(step / 10_000, spread, seeds, images, level) >= POWER)
    return 1.0 if found is None else found / 10_000


def _first(numbers: range, tells: Callable[[int], bool]) -> int | None:
    """The first number that tells, of numbers of which all after it do too."""
    place = bisect_left(numbers, True, key=tells)
    return numbers[place] if place < len(numbers) else None


@dataclass(frozen=True)
class Pilot:
    """Finished runs from which the noise is known.

    Attributes:
        runs: the finished ones, by row and seed.
        pairs: the comparisons, row and the row it builds on.
        grouping: which images are not independent; None where all are.
    """

    runs: Mapping[str, Mapping[int, Run]]
    pairs: Sequence[tuple[str, str]]
    grouping: Grouping | None = None

    @property
    def level(self) -> float:
        """Of the interval that each of the comparisons needs, so that all together raise a false alarm in 5 % at most."""
        return 1 - ALPHA / len(self.pairs)

    def spreads(self) -> dict[tuple[str, str], Spread | None]:
        """The noise of every comparison, from one set of resamples."""
        names = {name for pair in self.pairs for name in pair}
        cells = {name: {seed: run.additive() for seed, run in self.runs[name].items()} for name in names}
        drawn = Resampled(cells, grouping=self.grouping)
        return {pair: spread_of(drawn, *pair) for pair in self.pairs}

    def hours(self) -> dict[str, float]:
        """Of one run of each row, as long as the pilot's took."""
        taken = {name: [run.done.seconds for run in runs.values() if run.done] for name, runs in self.runs.items()}
        return {name: sum(seconds) / len(seconds) / 3600 for name, seconds in taken.items() if seconds}


class Trained(NamedTuple):
    """What decides how fast a run's steps are, as far as a study knows.

    Attributes:
        row: its name.
        encoder: what people call it.
        crop: side of what it learns from, in pixels.
        precision: number format of its steps.
        on_cpu: whether a CPU trained it, else a GPU.
    """

    row: str
    encoder: str
    crop: int
    precision: str
    on_cpu: bool


def read_rates(folder: Path) -> dict[Trained, float]:
    """Images a second of training steps, of one GPU or one thread of a CPU, of the fastest run, which others disturbed least.

    Args:
        folder: of a study, or of runs.

    Raises:
        UserError: if it holds no finished run; one whose steps nobody timed, as other code's, is passed over.
    """
    found, finished = dict[Trained, float](), [*_finished(folder)]
    if not finished:
        raise UserError(f"{folder} holds no finished run: expected a study's folder, or one of runs.")
    for name, run in finished:
        on_cpu = run.environment.cuda is None
        sharing = 0 if run.imported else (processes_of(run) or 0) * ((run.environment.threads or 0) if on_cpu else 1)
        rate = run.cost("train_images_per_second")
        if rate and sharing:
            crop, precision = run.setting("recipe.augmentation.crop"), run.setting("trainer.precision")
            kind = Trained(name, run.encoder, int(crop), str(precision), on_cpu)
            found[kind] = max(rate / sharing, found.get(kind, 0.0))
    return found


def _finished(folder: Path) -> Iterator[tuple[str, Record]]:
    """The finished runs, each with its row's name."""
    if (folder / FILE).is_file():
        yield from ((row.name, run.done) for row in load_study(folder).rows for run in row.runs.values() if run.done)
    else:
        yield from ((record.title, record) for _, record in find_finished([folder]) if record.scored)


def read_pilot(folder: Path) -> Pilot:
    """Finished runs of a study's folder, or of a folder of runs, in which every variant is compared with the baseline.

    Raises:
        UserError: if the folder holds no two rows to compare that have a seed in common.
    """
    runs: dict[str, dict[int, Run]] = {}
    grouping: Callable[[Run], Grouping | None] = attrgetter("grouping")
    if (folder / FILE).is_file():
        study = load_study(folder)
        if study.metric != MIOU:
            raise UserError(f"{folder} is of {study.metric.name}: the runs that are planned here are scored by mIoU.")
        runs = {row.name: {seed: row.runs[seed] for seed in row.records} for row in study.rows}
        pairs = [(row.name, row.on) for row in study.rows if row.on is not None]
        grouping = study.grouping
    else:
        for run, record in find_finished([folder]):
            if not record.scored:
                continue
            of_row = runs.setdefault(record.title, {})
            if other := of_row.get(record.seed):
                raise UserError(
                    f"{folder}: runs {other.folder.key} and {run.key} are both {record.title}, seed {record.seed}. Name the "
                    "folder of one study."
                )
            of_row[record.seed] = Run(record.seed, record.status, record, run)
        for name, of_row in runs.items():
            named = [(name, seed, run.done) for seed, run in of_row.items() if run.done]
            if others := [one for one in find_deviations(named) if one.setting not in ("commit", "threads")]:
                raise UserError(
                    f"{folder}: the runs of {name} are no seeds of one setting, {others[0]}. Name a study's folder."
                )
        base = "baseline" if "baseline" in runs else next(iter(runs), "")
        pairs = [(name, base) for name in runs if name != base]
    shared = [pair for pair in pairs if {*runs[pair[0]]} & {*runs[pair[1]]}]
    if not shared:
        raise UserError(f"{folder} holds no two rows to compare that have finished a common seed: expected a study's folder.")
    compared = [run for pair in shared for name in pair for run in runs[name].values()]
    images = {run.done.manifests.get("val") for run in compared if run.done}
    if len(images) > 1:
        raise UserError(f"{folder}: the runs were scored on different images. Name the folder of one study.")
    return Pilot(runs, shared, grouping(compared[0]))
