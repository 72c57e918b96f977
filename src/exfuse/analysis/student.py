"""Student's interval of a few values, such as a difference in each of a few seeds."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import stdtr, stdtrit

from exfuse.analysis.comparisons import ALPHA


class Student(NamedTuple):
    """The mean of independent, normally distributed values.

    Attributes:
        mean: of the values.
        low, high: its 95 % interval.
        p: of no difference from zero, unadjusted.
    """

    mean: float
    low: float
    high: float
    p: float


def student(values: Sequence[float]) -> Student:
    """Student's interval and test.

    Args:
        values: at least two.
    """
    mean, error = statistics.mean(values), statistics.stdev(values) / math.sqrt(len(values))
    reach = float(stdtrit(len(values) - 1, 1 - ALPHA / 2)) * error
    p = float(2 * stdtr(len(values) - 1, -abs(mean) / error)) if error else float(mean == 0)
    return Student(mean, mean - reach, mean + reach, p)
