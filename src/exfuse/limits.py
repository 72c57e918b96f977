"""Kinds of numbers: types that say in which range a value makes sense, for settings of a config and arguments of constructors.

Beside an argument they bound what a config may give it: ``def __init__(self, classes: int, window: Odd = 3)``.
"""

from typing import Annotated

from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[int, Meta(ge=0)]
Odd = Annotated[int, Meta(ge=1, extra={"odd": True})]
Id = Annotated[int, Meta(ge=0, le=255)]  # what a mask can hold
PositiveFloat = Annotated[float, Meta(gt=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
PositiveShare = Annotated[float, Meta(gt=0, le=1)]
