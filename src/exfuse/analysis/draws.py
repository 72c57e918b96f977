"""What is drawn when images are resampled: images, whole groups, or blocks of frames."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exfuse.analysis.noise import Floats

IMAGES, GROUPS, FRAMES, NOTHING = "images", "groups", "frames", "nothing"
_DRAWS_AT_ONCE = 1 << 20  # image draws held in memory at a time: 8 MiB, in a few arrays of that size


class Units(NamedTuple):
    """What is drawn when images are resampled.

    Attributes:
        kind: `IMAGES`; `GROUPS`, whole ones; `FRAMES`, in blocks of an ordered sequence; or `NOTHING`, where all images are one
            group without order and say nothing of others.
        number: of images, of groups, or of blocks that make up all frames; for groups of different sizes, of as many equal
            ones as weigh alike. 0 for nothing.
        grown: by what the resampled variance is multiplied.
        freedom: Student's degrees of freedom of that variance.
        length: frames of a block; 1 for anything else.
    """

    kind: str
    number: float
    grown: float
    freedom: float
    length: int = 1


def draws(sequences: Sequence[NDArray[np.int64]], resamples: int, seed: int, length: int = 1) -> Iterator[Floats]:
    """How often each resample draws each unit, (some resamples, units) at a time.

    Every sequence gives as many units as it has, in blocks of ``length`` units that follow each other, from random places on;
    after its last unit comes its first. Blocks of 1 are single units.

    Args:
        sequences: positions of units; together each of them once.
        resamples: how many.
        seed: of the draws.
        length: of a block.

    The size of a part bounds the memory and changes no number.
    """
    generator = np.random.default_rng(seed)
    units = sum(map(len, sequences))
    at_once = max(1, _DRAWS_AT_ONCE // units)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = np.concatenate([_draw_blocks(each, rows, length, generator) for each in sequences], axis=1)
        drawn += units * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)


def _draw_blocks(sequence: NDArray[np.int64], rows: int, length: int, generator: np.random.Generator) -> NDArray[np.int64]:
    size = len(sequence)
    starts = generator.integers(size, size=(rows, -(-size // length)))  # five times as fast as Generator.multinomial
    if length == 1:
        return sequence[starts]
    places = (starts[:, :, None] + np.arange(length)) % size
    return sequence[places.reshape(rows, -1)[:, :size]]


def frame_blocks(series: Sequence[Floats], sequences: Sequence[NDArray[np.int64]]) -> Units:
    """How long a block of frames is, and what such blocks leave out of the noise of a sequence.

    - The integrated autocorrelation time, 1 + 2 * (sum of the autocorrelations), by Geyer's (1992) initial monotone sequence.
      In a sequence of n frames it comes out as T / (1 + 4.3 T / n) where it is T (measured: 50 to 1,449 frames, T from 3 to
      99), so that is undone, up to T = n / 4: a sequence cannot show more.
    - A block is T / 2 frames long, at least 1.3 * sqrt(n), the rule of Lazarus, Lewis, Stock & Watson (2018) for tests.
      (Politis & White's length, which makes the squared error of the variance least, is too short for a test: in 100 frames
      with an autocorrelation of 0.95 it gave 33 % false alarms.)
    - Such blocks find only a part of the variance of a series whose autocorrelations add up to T and fall off as its own do,
      or like those of an autoregression; the variance is divided by that part.
    - Degrees of freedom: n / (2.75 T), at most one less than the blocks that make up n frames.

    Args:
        series: what each frame adds to a difference, and other things of it (frames,) that show how much alike neighbours are
            where the former hides it: the longest memory counts.
        sequences: positions of the frames, in order.
    """
    frames = len(series[0])
    times, decays = zip(*(_memory(each, sequences) for each in series), strict=True)
    time, decay = max(times), max(decays)
    length = math.ceil(min(max(time / 2, 1.3 * math.sqrt(frames)), max(1, frames / 4)))
    within = (1 + (time - 1) * (1 - (1 - decay**length) / (length * (1 - decay)))) / time
    blocks = frames / length
    grown = 1 / max(within - len(sequences) / blocks, 0.05)
    return Units(FRAMES, blocks, grown, max(1.0, min(blocks - 1, frames / time / 2.75)), length)


def _memory(series: Floats, sequences: Sequence[NDArray[np.int64]]) -> tuple[float, float]:
    """The autocorrelation time T, and by what factor the autocorrelation falls off from frame to frame."""
    frames = len(series)
    products = np.zeros(frames)  # by the distance of two frames
    for sequence in sequences:
        padded = np.fft.rfft(series[sequence] - series[sequence].mean(), 2 * len(sequence))
        products[: len(sequence)] += np.fft.irfft(np.abs(padded) ** 2)[: len(sequence)]
    alike = products / products[0] if products[0] > 0 else np.eye(1, frames)[0]
    pairs = alike[: frames // 2 * 2].reshape(-1, 2).sum(1)
    seen = max(1.0, 2 * float((np.minimum.accumulate(pairs) * np.cumprod(pairs > 0)).sum()) - 1)
    time = max(1.0, min(seen / max(1 - 4.3 * seen * len(sequences) / frames, 0.02), frames / 4))
    decay = (time - 1) / (time + 1)
    if frames > 3 and alike[1] > 2 / math.sqrt(frames):
        reach = min(max(3, int(seen)), frames - 2)
        decay = max(decay, min(0.97, float(alike[2 : reach + 2].sum()) / max(0.05, float(alike[1 : reach + 1].sum()))))
    return time, decay
