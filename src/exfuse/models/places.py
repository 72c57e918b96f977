"""What a module of somebody else's must give in its place of the model, tried on a small image before anything is trained."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from exfuse.errors import ConfigError
from exfuse.models.backbone import image_channels

_SIDE, _IMAGES = 72, 2  # of the image, no multiple of the usual strides; batch norms want more than one
_SEE = "See the table of places in docs/extend.md."
Shape = tuple[int, ...]


# what is asked of a module beside its forward pass, by its place
_ASKED = {
    "features": ("channels", "levels", "reductions", "backbone"),
    "upsampling": ("auxiliary_weight",),
    "head": ("decoder_channels",),  # and auxiliary, where ECRE supervises
}


def fill(place: str, typed: str, option: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Call an option with what its place gives it.

    Raises:
        ConfigError: naming the technique, if it does not take that, or what it gives lacks what is asked of it later.
    """
    settings = option.keywords if isinstance(option, partial) else {}
    if twice := sorted(settings.keys() & named.keys()):
        raise ConfigError(f"{typed}.{twice[0]}: the model itself says it: take it out of the option's file. {_SEE}")
    try:
        inspect.signature(option).bind(*given, **named)
    except TypeError as error:
        words = ", ".join(f"{name}=" for name in named) or "one argument"
        raise ConfigError(
            f"{typed}: place: {place} calls it with {words}, but {_called(option)} does not: {error}. {_SEE}"
        ) from error
    module = option(*given, **named)
    if missing := [name for name in _ASKED.get(place, ()) if not hasattr(module, name)]:
        raise ConfigError(
            f"{typed}: place: {place} wants a module with {' and '.join(missing)}, which {_called(option)} lacks. {_SEE}"
        )
    return module


def is_foreign(option: Callable[..., Any]) -> bool:
    """Whether an option's code is none of this package's."""
    return _code(option).__module__.partition(".")[0] != __name__.partition(".")[0]


def _code(option: Callable[..., Any]) -> Any:
    while isinstance(option, partial):
        option = option.func
    return option


def _called(option: Callable[..., Any]) -> str:
    code = _code(option)
    return f"{code.__module__}.{code.__qualname__}"


def check_places(model: nn.Module, classes: int, mine: Mapping[str, tuple[str, str]]) -> None:
    """Let a model predict once and hold what the named modules give against what their places promise.

    Args:
        model: a `Segmenter`, which keeps its weights, statistics and mode.
        classes: number of classes C.
        mine: by the submodule's path, its place, see `exfuse.models.segmenter.build_segmenter`, and what names the technique.

    Raises:
        ConfigError: naming the technique, what was expected and what came. What the module's own code raises it may raise of
            the small image alone: the training, where it would come again, is left to say it.
    """
    hooks = [
        model.get_submodule(path).register_forward_hook(partial(_hold, _expected(place, model, classes), typed, place))
        for path, (place, typed) in mine.items()
    ]
    was_training = model.training
    image = torch.zeros(_IMAGES, image_channels(model), _SIDE, _SIDE)
    try:
        with torch.no_grad():
            model.eval()(image)
    except ConfigError:
        raise
    except Exception:
        pass
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()


def _expected(place: str, model: Any, classes: int) -> Callable[[Any], list[Shape]]:
    """Shapes of what a module in this place is to give, from what it is called with."""
    if place == "features":
        encoder = model.encoder
        sides = [math.ceil(_SIDE / reduction) for reduction in encoder.reductions]
        return lambda _: [(_IMAGES, width, side, side) for width, side in zip(encoder.channels, sides, strict=True)]
    if place == "upsampling":
        scale = model.encoder.reductions[-1] // model.decoder.strides[0]
        return lambda maps: [(*maps.shape[:2], *(side * scale for side in maps.shape[2:]))]
    if place == "head":
        return lambda maps: [(len(maps), classes, *maps.shape[2:])]
    return lambda maps: _shapes(maps)


def _hold(
    expected: Callable[[Any], list[Shape]], typed: str, place: str, _: nn.Module, given: tuple[Any, ...], found: Any
) -> None:
    wanted, given_dtype = expected(given[0]), _tensors(given[0])[0].dtype
    if (shapes := _shapes(found)) != wanted:
        raise ConfigError(
            f"{typed} gave {_told(shapes)} where place: {place} wants {_told(wanted)}, (batch, channels, height, width). {_SEE}"
        )
    if other := next((one.dtype for one in _tensors(found) if one.dtype != given_dtype), None):
        raise ConfigError(f"{typed} gave {other} where place: {place} wants {given_dtype}, which it was given. {_SEE}")


def _tensors(found: Any) -> Sequence[Any]:
    return found if isinstance(found, list | tuple) else [found]


def _shapes(found: Any) -> list[Shape]:
    return [tuple(one.shape) if isinstance(one, Tensor) else () for one in _tensors(found)]


def _told(shapes: Sequence[Shape]) -> str:
    return ", ".join(str(shape) if shape else "no tensor" for shape in shapes) or "nothing"
