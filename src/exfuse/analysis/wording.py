"""How sentences below tables count and cut lists short."""

from collections.abc import Sequence

SHOWN = 6  # names in a list before "and N more"


def count(number: int, thing: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def and_more(found: Sequence[object]) -> str:
    """What follows the first `SHOWN` of a list: `` and 3 more``, or nothing."""
    return f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
