"""What numbers were before they were mended, and what they are now:  python -m tests.corrections [TRIALS]

Prints the table of ``docs/corrections.md``, line by line; TRIALS are simulated studies of frames and groups each, 2,000 if not
given. What is done no more stands here, beside what is done now, so that both are measured by one command.
"""

import math
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import chi2, t as student
from torch import Tensor

from exfuse.analysis.noise import Noise
from exfuse.composition.segmentation import build_data, build_model
from exfuse.config.overrides import describe_run
from exfuse.data.loading import TrainSampler
from exfuse.palette import VOID
from exfuse.runs.backbones import resolve_normalisation
from exfuse.runs.plan import plan_run
from exfuse.techniques.adjacent_prediction import AdjacentPrediction
from tests.analysis.test_calibration import LEVELS, RATIOS, REGIMES, SEQUENCES, alarms
from tests.models.test_starts import CLASSES, SEB, before_and_after, image

HalfWidth = Callable[[NDArray[np.float64], NDArray[np.float64], int, float], NDArray[np.float64]]


def half_before(images: NDArray[np.float64], seeds: NDArray[np.float64], freedom: int, level: float) -> NDArray[np.float64]:
    """Of an interval: Student's t of all variance, with as many degrees of freedom as its share of the seeds has."""
    together = images + seeds
    quantiles = student.isf(level / 2, freedom * together / np.maximum(seeds, 1e-12))
    return np.asarray(quantiles * together**0.5)


def half_now(images: NDArray[np.float64], seeds: NDArray[np.float64], freedom: int, level: float) -> NDArray[np.float64]:
    return np.asarray(Noise(images, np.inf, seeds, freedom).half_width(level))


def actual_over_nominal(half: HalfWidth, seeds: int, level: float) -> float:
    """Alarms of a contrast without a difference, of those promised, at the worst ratio of the noises."""
    nodes = chi2.ppf((np.arange(20_000) + 0.5) / 20_000, seeds - 1) / (seeds - 1)
    widths = ((half(np.full_like(nodes, ratio), nodes, seeds - 1, level), ratio) for ratio in RATIOS)
    return max(float(np.mean(2 * ndtr(-width / (1 + ratio) ** 0.5))) / level for width, ratio in widths)


def tables_with_an_alarm(half: HalfWidth, seeds: int, studies: int = 20_000) -> float:
    """The share of tables of seven rows and nothing to find in which something is found, at the worst ratio of the noises."""
    shares = []
    for ratio in (0.1, 0.4, 1.0, 4.0):
        rng = np.random.default_rng(2)
        scores = rng.standard_normal((studies, 8, seeds))
        found = scores.mean(2) + ratio**0.5 * rng.standard_normal((studies, 8)) / seeds**0.5
        seen = (scores[:, 1:] - scores[:, :1]).var(2, ddof=1) / seeds
        width = half(np.full(seen.shape, 2 * ratio / seeds), seen, seeds - 1, 0.05 / 7)
        shares.append((np.abs(found[:, 1:] - found[:, :1]) > width).any(1).mean())
    return float(max(shares))


def error_of_averaging() -> tuple[float, float]:
    """Of DAP's average of bfloat16 scores, summed in bfloat16 and as it is: relative to the same in float64."""
    dap = AdjacentPrediction(21, 3).eval()
    scores = torch.randn(1, 9 * 21, 32, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = dap(scores.double())
    padded = torch.nn.functional.pad(scores, (1, 1, 1, 1)).unflatten(1, (9, 21))
    running = torch.zeros(1, 21, 32, 32, dtype=torch.bfloat16)
    for place in range(9):
        row, column = divmod(place, 3)
        running += padded[:, place, :, row : row + 32, column : column + 32]

    def error(found: Tensor) -> float:
        inside = (..., slice(1, -1), slice(1, -1))
        return float((found.double() - exact)[inside].norm() / exact[inside].norm())

    return error(running / 9), error(dap(scores))


def weights_of_pixels(steps: int = 50, batch: int = 8) -> tuple[str, str]:
    """Of a labelled pixel of scenes in micro-batches of one image, relative to its batch: the least and the most, before."""
    run = describe_run(["recipe=small"])
    plan = plan_run(run)
    crops = build_data(resolve_normalisation(plan.run), plan.splits["train"], plan.splits["val"]).train_set
    numbers = [int((crops[0, place]["mask"] != VOID).sum()) for place in range(steps * batch)]
    batches = np.array(numbers).reshape(steps, batch)
    found = batches.mean(1, keepdims=True) / batches
    return f"{found.min():.1f}", f"{found.max():.1f}"


Measured = tuple[str, Callable[[], tuple[str, str]]]  # what, and what measures it before and now


def quick() -> Iterator[Measured]:
    """What is measured in seconds."""
    recipe = describe_run(["recipe=voc"]).recipe
    yield "rate of SS's pretrained branches, of the encoder's, recipe=voc", lambda: (f"{1 / recipe.encoder_lr_factor:g}", "1")
    steps = len(list(TrainSampler(range(437), 3, 1, 0, 8))) // 8
    parts = 437 // 4  # of four images, the last step of a single one
    yield "steps an epoch of 437 images, batch 8 in two parts", lambda: (f"{math.ceil(parts / 2)}", f"{steps}")
    yield "error of DAP's average of bfloat16 scores in evaluation", lambda: _percent(*error_of_averaging(), digits=2)
    for seeds in (2, 3, 5):
        for level in LEVELS:
            yield (
                f"alarms, of those promised at {level:.2g}, {seeds} seeds, worst ratio of noises",
                partial(
                    lambda *case: _plain(*(actual_over_nominal(half, *case) for half in (half_before, half_now))), seeds, level
                ),
            )
    for seeds in (2, 3, 5):
        yield (
            f"tables of seven rows with a false alarm, 5 % promised, {seeds} seeds",
            partial(lambda case: _percent(*(tables_with_an_alarm(half, case) for half in (half_before, half_now))), seeds),
        )


def slow(trials: int) -> Iterator[Measured]:
    """What needs real weights, images, or many simulated studies."""
    for option in SEB:
        if option != "none":
            yield (
                f"relative change of res-2 by SEB {option} at its start, EfficientNet-Lite0",
                partial(lambda name: _plain(*_starts()[name], digits=2), option),
            )
    yield "weight of a pixel in parts of one image, of its batch's mean", lambda: (" to ".join(weights_of_pixels()), "1")
    for name, regime in (SEQUENCES | {name: one for name, one in REGIMES.items() if one.group}).items():
        yield (
            f"false alarms at 0.05, {name}",
            partial(lambda one: _percent(*(alarms(one, trials, minded=minded) for minded in (False, True))), regime),
        )


@cache
def _starts() -> dict[str, tuple[float, float]]:
    with torch.no_grad():
        maps = build_model(describe_run(["backbone=efficientnet_lite0"]), CLASSES, "package").eval().encoder(image())
    return before_and_after(maps)


def _plain(before: float, now: float, digits: int = 1) -> tuple[str, str]:
    return f"{before:.{digits}f}", f"{now:.{digits}f}"


def _percent(before: float, now: float, digits: int = 1) -> tuple[str, str]:
    return f"{100 * before:.{digits}f} %", f"{100 * now:.{digits}f} %"


def line(what: str, before: str, now: str) -> str:
    return f"| {what} | {before} | {now} |"


if __name__ == "__main__":
    print(line("what", "before", "now"), "|---|---:|---:|", sep="\n")
    for what, measure in (*quick(), *slow(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)):
        print(line(what, *measure()), flush=True)
