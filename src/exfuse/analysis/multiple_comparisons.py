"""Many comparisons in one table: p-values that keep the chance of any false alarm at the level."""

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values by Holm's step-down method (1979), in the order given.

    Calling those below 0.05 significant finds a difference where there is none, anywhere in the family, with a chance of
    5 % at most, however the tests depend on each other. The k-th smallest of m values is multiplied by m - k + 1, and is never
    below the adjusted value of a smaller one, nor above 1.

    Raises:
        ValueError: if a p-value is not in [0, 1].
    """
    if wrong := [p for p in p_values if not 0 <= p <= 1]:
        raise ValueError(f"p-values lie in [0, 1], got {wrong[0]}")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
