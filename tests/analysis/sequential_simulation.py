"""Sequential studies simulated over and over: ``python -m tests.analysis.sequential_simulation`` prints the table of the docs.

A study has seven rows in the order of the paper's table 3. A run's score is its row's, and noise of its row on the
images, the same for all seeds, and noise of its own training. What the images' noise is, a study knows; of the
trainings' it sees what its seeds show. Looks take the half-width of `exfuse.analysis.resampling.Noise`, as real ones
do.
"""

import sys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exfuse.analysis.resampling import Noise
from exfuse.analysis.sequential import ALPHA, Deciding, level
from exfuse.store.sequential import DIFFERENT, SMALLER, Rule

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


def drawn(regime: Regime, studies: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimates (studies, pairs, MOST) over the first 1..MOST seeds, and half-widths at the levels of looks, from FIRST on."""
    rng = np.random.default_rng(seed)
    of_images = regime.images * rng.standard_normal((studies, len(ROWS), 1))
    scores = of_images + regime.training * rng.standard_normal((studies, len(ROWS), MOST))
    index = [(ROWS.index(row), ROWS.index(base)) for row, base in PAIRS]
    differences = np.stack([scores[:, row] - scores[:, base] for row, base in index], 1) + np.array(regime.effects)[:, None]
    numbers = np.arange(1, MOST + 1)
    means = differences.cumsum(-1) / numbers
    halves = np.full(means.shape, np.nan)
    for number in range(FIRST, MOST + 1):
        of_seeds = differences[..., :number].var(-1, ddof=1) / number
        common = np.full_like(of_seeds, 2 * regime.images**2)
        noise = Noise(common, np.inf, of_seeds, number - 1)
        halves[..., number - 1] = noise.half_width(1 - level(number, RULE))
    return means, halves


def sequential(regime: Regime, studies: int, seed: int = 0) -> Outcome:
    """What the procedure does in so many studies."""
    means, halves = drawn(regime, studies, seed)
    bounds = np.stack([means - halves, means + halves], -1).tolist()
    wrong = decided = runs = 0
    for study in range(studies):
        deciding = Deciding(RULE)
        deciding.have = dict.fromkeys(ROWS, FIRST)
        while True:
            deciding.look(lambda pair, number, _: bounds[study][PAIRS.index(pair)][number - 1])  # noqa: B023 - called at once
            if not (wanted := deciding.following()):
                break
            for row, _ in wanted:
                deciding.have[row] += 1
        wrong += any(_is_wrong(verdict, regime.effects[PAIRS.index(pair)]) for pair, verdict in deciding.verdicts.items())
        decided += len(deciding.verdicts)
        runs += sum(deciding.have.values())
    return Outcome(wrong / studies, decided / studies / len(PAIRS), runs / studies)


def fixed(regime: Regime, studies: int, number: int, seed: int = 0) -> Outcome:
    """What one look after a fixed number of seeds of every row does, at Bonferroni's level."""
    means, _ = drawn(regime, studies, seed)
    rng = np.random.default_rng(seed)
    of_images = regime.images * rng.standard_normal((studies, len(ROWS), 1))
    scores = of_images + regime.training * rng.standard_normal((studies, len(ROWS), MOST))
    index = [(ROWS.index(row), ROWS.index(base)) for row, base in PAIRS]
    spread = np.stack([scores[:, row, :number] - scores[:, base, :number] for row, base in index], 1).var(-1, ddof=1) / number
    common = np.full_like(spread, 2 * regime.images**2)
    half = Noise(common, np.inf, spread, number - 1).half_width(ALPHA / len(PAIRS))
    mean = means[..., number - 1]
    decided = (abs(mean) > half) | (abs(mean) + half < SIZE)
    return Outcome(0.0, float(decided.mean()), number * len(ROWS))


def as_good(regime: Regime, studies: int, decided: float) -> int | None:
    """The smallest fixed number of seeds that decides as many comparisons, to within 1 %; None if ``MOST`` do not."""
    return next((n for n in range(FIRST, MOST + 1) if fixed(regime, studies, n).decided >= decided - 0.01), None)


def _is_wrong(verdict: str, effect: float) -> bool:
    return (verdict == DIFFERENT and effect == 0) or (verdict == SMALLER and abs(effect) >= SIZE)


def main(studies: int) -> None:
    """Print the table."""
    print(f"{studies:,} studies of {len(PAIRS)} comparisons, {FIRST} to {MOST} seeds, size {SIZE:g}\n")
    print("| | studies with a false alarm | decided | seeds a row | a fixed number as good | seeds saved |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, regime in (REGIMES | EFFECTS).items():
        found = sequential(regime, studies)
        seeds, other = found.runs / len(ROWS), as_good(regime, min(studies, 5000), found.decided)
        saved = f"{100 * (1 - seeds / other):.0f} %" if other else f"over {100 * (1 - seeds / MOST):.0f} %"
        good = str(other or f"over {MOST}")
        print(f"| {name} | {100 * found.wrong:.1f} % | {100 * found.decided:.0f} % | {seeds:.1f} | {good} | {saved} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
