"""What a score is called, in which unit people read it, and which direction is better."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from exfuse.limits import BARE

MINUS = "\N{MINUS SIGN}"  # easily mistaken for -
MetricName = Annotated[str, Meta(min_length=1, max_length=40, pattern=BARE)]
MetricUnit = Annotated[str, Meta(min_length=1, max_length=20, pattern=BARE)]


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A score of whole data sets.

    Attributes:
        name: such as ``mIoU``.
        unit: ``fraction``, of 1, which people read in % and whose differences are points; ``percent``, of 100; anything else is
            the name of a unit, such as ``px``.
        better: which scores are the better ones.
        digits: behind the point, as people read it.
    """

    name: MetricName = "mIoU"
    unit: MetricUnit = "fraction"
    better: Literal["higher", "lower"] = "higher"
    digits: Annotated[int, Meta(ge=0, le=9)] = 1

    @property
    def top(self) -> float | None:
        """The largest score that there can be, 0 being the smallest; None where there is no such thing."""
        return {"fraction": 1.0, "percent": 100.0}.get(self.unit)

    @property
    def scale(self) -> float:
        """By what a score is multiplied where people read it."""
        return 100.0 / self.top if self.top else 1.0

    @property
    def sign(self) -> str:
        """The unit as people read it."""
        return "%" if self.top else self.unit

    @property
    def points(self) -> str:
        """Of what differences are made."""
        return "points" if self.top else self.unit

    @property
    def header(self) -> str:
        """Of a table's column: ``mIoU %``."""
        return f"{self.name} {self.sign}" if self.top else f"{self.name} ({self.unit})"

    @property
    def axis(self) -> str:
        """Of a figure: ``mIoU (%)``, saying so where lower is better."""
        return f"{self.name} ({self.sign}){self.lower}"

    @property
    def lower(self) -> str:
        """What to say where people could take the better for the worse."""
        return ", lower is better" if self.better == "lower" else ""

    @property
    def differences(self) -> str:
        """How a sentence about them begins: ``Points of mIoU``."""
        return f"{'Points' if self.top else self.unit} of {self.name}{self.lower}"

    @property
    def key(self) -> str:
        """Of the columns for programs."""
        return "miou" if self == MIOU else "score"

    def gains(self, difference: float) -> bool:
        """Whether a difference is one for the better."""
        return difference > 0 if self.better == "higher" else difference < 0

    def text(self, score: float, signed: bool = False) -> str:
        """A score or difference as people read it, without its unit."""
        return number(self.scale * score, self.digits, signed)

    def precisely(self, score: float) -> str:
        """A score with its unit and one digit more than tables show."""
        return f"{number(self.scale * score, self.digits + 1)} {self.sign}"


MIOU = Metric()


def number(value: float, digits: int = 1, signed: bool = False) -> str:
    """A rounded number with a true minus sign."""
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)
