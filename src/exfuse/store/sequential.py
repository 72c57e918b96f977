"""A sequential study as study.json keeps it: what was fixed before its first look, and every look since."""

import msgspec

from exfuse.limits import Positive, PositiveFloat, Seed

DIFFERENT, SMALLER, UNDECIDED = "different", "smaller", ""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What is fixed before the first look.

    Attributes:
        seeds: in the order in which every row takes them.
        first: how many of them every row has before the first look.
        pairs: the comparisons, row and the row it builds on, among which false alarms are shared.
        size: points of mIoU; a difference that is shown to be smaller than that is decided too. None: only one away from zero.
    """

    seeds: list[Seed]
    first: Positive
    pairs: list[tuple[str, str]]
    size: PositiveFloat | None = None


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look at one comparison: after how many seeds, its interval in points at that look's level, and what it decided."""

    row: str
    base: str
    seeds: int
    low: float
    high: float
    verdict: str = UNDECIDED


class Sequential(msgspec.Struct, frozen=True, kw_only=True):
    """A sequential study so far.

    Attributes:
        looks: in their order.
        runs: how many of its runs are finished.
        hours: that its runs took, those that failed included, over all starts.
        ended: why it goes on no more, or "" where it may.
    """

    rule: Rule
    looks: list[Look] = []
    runs: int = 0
    hours: float = 0.0
    ended: str = ""
