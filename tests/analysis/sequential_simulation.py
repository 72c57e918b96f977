"""Sequential studies simulated over and over: ``python -m tests.analysis.sequential_simulation`` prints the table of the docs.

A study has seven rows in the order of the paper's table 3. A run's score is its row's, and noise of its row on the
images, the same for all seeds, and noise of its own training. What the images' noise is, a study knows; of the
trainings' it sees what its seeds show. Looks take the half-width of `exfuse.analysis.resampling.Noise`, as real ones
do.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exfuse.analysis.noise import Noise
from exfuse.analysis.sequential import ALPHA, Deciding, Pair, level
from exfuse.store.sequential import DIFFERENT, SMALLER, Look, Rule

ROWS = [f"row{number}" for number in range(7)]
PAIRS = [(ROWS[row], ROWS[base]) for row, base in ((1, 0), (2, 1), (3, 2), (4, 2), (5, 4), (6, 5))]
MOST, FIRST, SIZE = 10, 3, 1.0
RULE = Rule(seeds=list(range(MOST)), first=FIRST, pairs=PAIRS, size=SIZE)


class Regime(NamedTuple):
    """True differences of the comparisons and standard deviations of a row's noise, all in points of mIoU."""

    effects: tuple[float, ...]
    images: float
    training: float


NULL, AT_SIZE = (0.0,) * 6, (SIZE,) * 6
REGIMES = {  # in which every verdict that can be wrong would be
    "no difference, noise of training": Regime(NULL, 0.0, 0.5),
    "no difference, noise of both": Regime(NULL, 0.5, 0.5),
    "half none, half of the size": Regime((0.0, SIZE) * 3, 0.15, 0.3),
    "all of the size, noise of training": Regime(AT_SIZE, 0.0, 0.4),
}
EFFECTS = {  # in which there is something to find
    "clear, small and no differences": Regime((3.0, 0.1, 0.8, 2.0, 0.0, 0.3), 0.1, 0.4),
    "large differences": Regime((3.0, 2.0, 2.0, 3.0, 2.0, 3.0), 0.1, 0.4),
}


class Outcome(NamedTuple):
    """Of all studies: shares with a wrong verdict and of decided comparisons, mean runs."""

    wrong: float
    decided: float
    runs: float


class Drawn(NamedTuple):
    """Studies of a regime after 1..MOST seeds of each row: estimates (studies, pairs, MOST) and variances over seeds."""

    images: float
    means: NDArray[np.float64]
    of_seeds: NDArray[np.float64]

    def half_widths(self, seeds: int, miss: float) -> NDArray[np.float64]:
        """Of the intervals over so many seeds that miss with this probability: (studies, pairs)."""
        of_seeds = self.of_seeds[..., seeds - 1]
        return Noise(np.full_like(of_seeds, 2 * self.images**2), np.inf, of_seeds, seeds - 1).half_width(miss)


def drawn(regime: Regime, studies: int, seed: int) -> Drawn:
    """So many studies, each with its own images and trainings."""
    rng = np.random.default_rng(seed)
    of_images = regime.images * rng.standard_normal((studies, len(ROWS), 1))
    scores = of_images + regime.training * rng.standard_normal((studies, len(ROWS), MOST))
    index = [(ROWS.index(row), ROWS.index(base)) for row, base in PAIRS]
    differences = np.stack([scores[:, row] - scores[:, base] for row, base in index], 1) + np.array(regime.effects)[:, None]
    of_seeds = np.stack(
        [differences[..., :number].var(-1, ddof=min(1, number - 1)) / number for number in range(1, MOST + 1)], -1
    )
    return Drawn(regime.images, differences.cumsum(-1) / np.arange(1, MOST + 1), of_seeds)


def sequential(regime: Regime, studies: int, seed: int = 0) -> Outcome:
    """What the procedure does in so many studies."""
    found = drawn(regime, studies, seed)
    means, halves = found.means.tolist(), {}  # of all studies at once; `Deciding` then looks at a few
    for number in range(FIRST, MOST + 1):
        for confidence in (level(number, RULE), 2 * level(number, RULE) - 1):
            halves[number, confidence] = found.half_widths(number, 1 - confidence).tolist()
    place = {pair: number for number, pair in enumerate(PAIRS)}
    wrong = decided = runs = 0
    for study in range(studies):

        def bounds(pair: Pair, number: int, confidence: float, study: int = study) -> tuple[float, float]:
            mean, half = means[study][place[pair]][number - 1], halves[number, confidence][study][place[pair]]
            return mean - half, mean + half

        deciding = Deciding(RULE)
        deciding.have = dict.fromkeys(ROWS, FIRST)
        while True:
            deciding.look(bounds)
            if not (wanted := deciding.following()):
                break
            for row, _ in wanted:
                deciding.have[row] += 1
        wrong += any(_is_wrong(look, regime.effects[place[look.row, look.base]]) for look in deciding.looks)
        decided += len(deciding.verdicts)
        runs += sum(deciding.have.values())
    return Outcome(wrong / studies, decided / studies / len(PAIRS), runs / studies)


def fixed(regime: Regime, studies: int, number: int, seed: int = 0) -> Outcome:
    """What one look after a fixed number of seeds of every row does, by the same tests at Bonferroni's level."""
    found, miss = drawn(regime, studies, seed), ALPHA / len(PAIRS)
    mean = abs(found.means[..., number - 1])
    decided = (mean > found.half_widths(number, miss)) | (mean + found.half_widths(number, 2 * miss) < SIZE)
    return Outcome(0.0, float(decided.mean()), number * len(ROWS))


def as_good(regime: Regime, studies: int, decided: float) -> int | None:
    """The smallest fixed number of seeds that decides as many comparisons, to within 1 %; None if ``MOST`` do not."""
    return next((n for n in range(FIRST, MOST + 1) if fixed(regime, studies, n).decided >= decided - 0.01), None)


def _is_wrong(look: Look, effect: float) -> bool:
    """Whether it calls a difference that there is not, one of the other sign included, or small what is not."""
    if look.verdict == DIFFERENT:
        return effect == 0 or (look.low > 0) != (effect > 0)
    return look.verdict == SMALLER and abs(effect) >= SIZE


def table(studies: int) -> Iterator[str]:
    """Line by line, as `docs/statistics.md` shows it."""
    yield "| | studies with a false alarm | decided | seeds a row | a fixed number as good | seeds saved |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, regime in (REGIMES | EFFECTS).items():
        found = sequential(regime, studies)
        seeds, other = found.runs / len(ROWS), as_good(regime, min(studies, 5000), found.decided)
        saved = f"{100 * (1 - seeds / other):.0f} %" if other else f"over {100 * (1 - seeds / MOST):.0f} %"
        good = str(other or f"over {MOST}")
        yield f"| {name} | {100 * found.wrong:.1f} % | {100 * found.decided:.0f} % | {seeds:.1f} | {good} | {saved} |"


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    print(f"{number:,} studies of {len(PAIRS)} comparisons, {FIRST} to {MOST} seeds, size {SIZE:g}\n")
    for line in table(number):
        print(line, flush=True)
