"""Subjects taking turns, and what is left of their turns: medians and quartiles."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from exfuse.reports.costs.subject import Turn
from exfuse.store.measured_costs import Quartiles


class TakesTurns(Protocol):
    """What `take_rounds` needs of a subject."""

    def turn(self, device: torch.device, repeats: int) -> Turn: ...


def take_rounds(
    subjects: Sequence[TakesTurns], rounds: int, repeats: int, device: torch.device, advance: Callable[[], object]
) -> list[list[Turn]]:
    """The turns of each subject, one a round; a round before the first warms all of them up and is not kept.

    Args:
        subjects: all of them take a turn in each round, in this order.
        rounds: that are kept.
        repeats: timings of a turn.
        device: to measure on.
        advance: called after each turn.
    """
    kept: list[list[Turn]] = [[] for _ in subjects]
    for number in range(1 + rounds):
        for subject, turns in zip(subjects, kept, strict=True):
            turn = subject.turn(device, repeats)
            if number:
                turns.append(turn)
            advance()
    return kept


def quartiles(values: Sequence[float]) -> Quartiles:
    """Median and quartiles."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return Quartiles(median, low, high)
