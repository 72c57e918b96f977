"""Kinds of numbers: in which range a value makes sense, for settings of every command and arguments of constructors.

Beside an argument they bound what a config may give it: ``def __init__(self, classes: int, window: Odd = 3)``. What commands
without a type of their own and the code of others take stands in tables at the end.
"""

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import Meta

MOST = 10**9  # no number of a config but a seed is larger: it would be a slip, and more than memory or arithmetic holds

Positive = Annotated[int, Meta(ge=1, le=MOST)]
NonNegative = Annotated[int, Meta(ge=0, le=MOST)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
FromMinusOne = Annotated[int, Meta(ge=-1, le=MOST)]  # -1: all
Odd = Annotated[int, Meta(ge=1, le=MOST, extra={"odd": True}, title="an odd whole number of at least 1")]
Workers = NonNegative | Literal["auto"]  # see `exfuse.process.loader_workers`
Id = Annotated[int, Meta(ge=0, le=255)]  # what a mask can hold
PositiveFloat = Annotated[float, Meta(gt=0, le=MOST)]
NonNegativeFloat = Annotated[float, Meta(ge=0, le=MOST)]
Amount = Annotated[float, Meta(ge=0, le=1e15)]  # of a record: whatever was measured, and no infinity
Count = Annotated[int, Meta(ge=0, le=2**53)]  # of a record: whatever a fraction tells apart
Share = Annotated[float, Meta(ge=0, le=1)]
PositiveShare = Annotated[float, Meta(gt=0, le=1)]
BelowOne = Annotated[float, Meta(ge=0, lt=1)]
Part = Annotated[float, Meta(gt=0, lt=1)]
Range = Annotated[list[PositiveFloat], Meta(min_length=2, max_length=2, extra={"rising": True})]
ShareRange = Annotated[list[PositiveShare], Meta(min_length=2, max_length=2, extra={"rising": True})]
Number = Annotated[float, Meta(ge=-MOST, le=MOST)]
Interval = Annotated[
    list[Number], Meta(min_length=2, max_length=2, extra={"strictly": True}, title="[LOW,HIGH], the first smaller")
]
Scales = Annotated[Sequence[PositiveFloat], Meta(min_length=1)]
Duration = Annotated[str, Meta(pattern=r"^\d+:\d\d:\d\d:\d\d$", title="days, hours, minutes and seconds, 00:12:00:00")]
Size = Annotated[list[Positive], Meta(min_length=2, max_length=2, title="[HEIGHT,WIDTH], two positive numbers of pixels")]
Text = Annotated[str, Meta(min_length=1, title="text")]
BARE = r"^\S(.*\S)?\Z"  # text without a blank at either end
Levels = Annotated[Sequence[Annotated[int, Meta(ge=2, le=5)]], Meta(min_length=1)]  # res-2..res-5
Counts = Mapping[str, Positive | None]  # of a complete copy, by split
Orientation = Literal["refuse", "stored", "upright"]  # see exfuse.data.split.make_split
Device = Annotated[str, Meta(pattern=r"^(auto|cpu|(cuda|mps)(:\d+)?)$", title="auto, cpu or cuda")]
Devices = Annotated[int, Meta(ge=-1, le=MOST, extra={"not_zero": True})]
DeviceList = Annotated[str, Meta(pattern=r"^(auto|-1|\d+(,\d+)*)$")]
_Batches = Positive | PositiveShare | None

# Arguments of code that is not ours, by its import path.
OF_OTHERS: Mapping[str, Mapping[str, Any]] = {
    "torch.optim.SGD": {"momentum": BelowOne, "dampening": Share, "lr": PositiveFloat, "weight_decay": NonNegativeFloat},
    "torch.optim.AdamW": {
        "betas": Annotated[list[BelowOne], Meta(min_length=2, max_length=2)],
        "eps": PositiveFloat,
        "lr": PositiveFloat,
        "weight_decay": NonNegativeFloat,
    },
    "pytorch_lightning.Trainer": {
        **dict.fromkeys(("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"), _Batches),
        "val_check_interval": _Batches,
        "overfit_batches": NonNegative | Share,
        "max_steps": FromMinusOne,
        **dict.fromkeys(("min_epochs", "min_steps"), Positive | None),
        "reload_dataloaders_every_n_epochs": NonNegative,
        "gradient_clip_algorithm": Literal["norm", "value"] | None,
        "profiler": Literal["simple", "advanced", "pytorch", "xla"] | None,
    },
}


def fits(value: Any, kind: Any) -> bool:
    """Whether a value of the right type and range also keeps what `Meta` has no word for: odd, rising (strictly), not zero."""
    flags = {flag for meta in getattr(kind, "__metadata__", ()) for flag in getattr(meta, "extra", None) or {}}
    inner = kind.__origin__ if hasattr(kind, "__metadata__") else kind
    if get_origin(inner) in (Union, UnionType):
        return all(fits(value, part) for part in get_args(inner) if isinstance(value, _base(part)))
    if "odd" in flags:
        return bool(value % 2)
    if "rising" in flags:
        return list(value) == sorted(value)
    if "strictly" in flags:
        return value[0] < value[1]
    return bool(value) if "not_zero" in flags else True


def _base(kind: Any) -> type:
    """``list`` of ``Annotated[list[int], ...]``."""
    inner = kind.__origin__ if hasattr(kind, "__metadata__") else kind
    found = get_origin(inner) or inner
    return found if isinstance(found, type) else object
