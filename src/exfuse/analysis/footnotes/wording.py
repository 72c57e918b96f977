"""What several records say of one thing, in words."""

from collections.abc import Callable, Iterable
from typing import Any

from exfuse.analysis.document import SHOWN
from exfuse.errors import rounded, some
from exfuse.store.record import Record


def percent(share: float) -> str:
    """A share, 0.5 as ``50 %``."""
    return f"{100 * share:.3g} %"


def taken(records: Iterable[Record]) -> str:
    """Time of their trainings, one after the other."""
    seconds = sum(record.seconds for record in records)
    return f"{rounded(seconds / 3600)} h" if seconds >= 3600 else f"{rounded(seconds / 60)} min"


def values_of(records: Iterable[Record], of: Callable[[Record], Any]) -> list[str]:
    """Each value that is known, once, as text."""
    return list(dict.fromkeys(str(value) for record in records if (value := of(record)) is not None))


def distinct(records: Iterable[Record], of: Callable[[Record], Any], separator: str = " or ") -> str:
    """The first of `values_of`, and how many more there are."""
    return some(values_of(records, of), SHOWN, separator)


def span(numbers: Iterable[int]) -> str:
    """``5``, or ``3 to 8``."""
    found = sorted(set(numbers))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def joined(values: Iterable[str]) -> str:
    """Each text once, with ``or`` between them."""
    return " or ".join(dict.fromkeys(values))
