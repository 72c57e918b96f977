"""What a module of somebody else's must give in its place of the model, tried on a small image before anything is trained."""

import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from exfuse.errors import ConfigError, UserError, first_line
from exfuse.models.backbone import image_channels
from exfuse.models.initialise import DrawnByShape
from exfuse.models.modes import alike, check_sizes, tried
from exfuse.palette import VOID
from exfuse.randomness import all_seeded, derive_seed, torch_seeded

_SIDE, _IMAGES = 72, 2  # of the image, no multiple of the usual strides; batch norms want more than one
_SEE = "See docs/extend.md."
_FAILED = object()
Shape = tuple[int | None, ...] | None  # None: whatever it is


class Filled(NamedTuple):
    """A module of somebody else's.

    Attributes:
        module: in its place.
        place: see `exfuse.models.segmenter.build_segmenter`.
        typed: what names its technique.
        named: by which keywords it was made.
    """

    module: nn.Module
    place: str
    typed: str
    named: Mapping[str, Any]


# what is asked of a module beside its forward pass, by its place
_ASKED = {
    "features": ("channels", "levels", "reductions", "backbone"),
    "upsampling": ("auxiliary_weight",),
    "decoder": ("auxiliary_weight",),
    "head": ("decoder_channels",),  # and auxiliary, where ECRE supervises: see `check_auxiliary`
}


def fill(
    foreign: list[Filled], seed: int, place: str, typed: str, option: Callable[..., Any], *given: Any, **named: Any
) -> Any:
    """Call an option with what its place gives it; one whose code is none of this package's goes to the ``foreign``.

    What is drawn here follows from the seed and what names the technique, whatever else the model has, see
    `exfuse.models.initialise.DrawnByShape`.

    Raises:
        ConfigError: naming the technique, if it does not take that, or what it gives lacks what is asked of it later.
    """
    settings = option.keywords if isinstance(option, partial) else {}
    if twice := sorted(settings.keys() & named.keys()):
        raise ConfigError(f"{typed}.{twice[0]}: the model itself says it: take it out of the option's file. {_SEE}")
    with all_seeded(derive_seed(seed, "built", typed)), DrawnByShape():
        module = _make(place, typed, option, *given, **named)
    if place == "blocks":
        return module
    _check_module(place, typed, option, module)
    if missing := [name for name in _ASKED.get(place, ()) if not hasattr(module, name)]:
        raise ConfigError(
            f"{typed}: place: {place} wants a module with {' and '.join(missing)}, which {_called(option)} lacks. {_SEE}"
        )
    if _is_foreign(option):
        check_sizes(module, f"{typed}: {_called(option)}")
        foreign.append(Filled(module, place, typed, named))
    return module


def make_loss(typed: str, option: Callable[..., Any], counts: Sequence[int]) -> nn.Module:
    """Call a loss's option with train's labelled pixels by class; one of somebody else's is tried once.

    Args:
        typed: what names it.
        option: waits for the counts.
        counts: one for each class.

    Raises:
        ConfigError: naming it, if it does not take them, or does not make a number of scores and a truth.
    """
    settings = option.keywords if isinstance(option, partial) else {}
    for name, part in (settings.get("parts") or {}).items():  # of a sum
        if callable(part) and _is_foreign(part) and settings.get("weights", {}).get(name):
            make_loss(f"loss.parts.{name}", part, counts)
    with all_seeded(derive_seed("loss", typed)):
        loss: nn.Module = _make("loss", typed, option, counts)
    _check_module("loss", typed, option, loss)
    if learnt := next((name for name, value in loss.named_parameters() if value.requires_grad), None):
        raise ConfigError(
            f"{typed}: {_called(option)} has a parameter, {learnt}, but the optimiser learns the model's alone. Make it a "
            f"buffer or a setting, or let a technique have it. {_SEE}"
        )
    if _is_foreign(option):
        try:
            inspect.signature(loss.forward).bind(None, None)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{typed}: a loss is called with scores and truth, but {_called(option)}.forward is not: {error}. {_SEE}"
            ) from error
        found, changed = _tried(loss, len(counts))
        if changed:
            raise ConfigError(
                f"{typed}: {_called(option)} changes the {changed} that it is given, which other losses have too. Let it work "
                f"on a copy. {_SEE}"
            )
        if found is _FAILED:
            return loss
        if not (isinstance(found, Tensor) and found.ndim == 0 and found.requires_grad and found.is_floating_point()):
            gave = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) and found.ndim else f"{found!r:.60}"
            raise ConfigError(
                f"{typed}: a loss gives a tensor of one number that has a gradient, but {_called(option)} gave {gave}. {_SEE}"
            )
    return loss


def _tried(loss: nn.Module, classes: int) -> tuple[Any, str]:
    """What a copy of a loss makes of small random scores and a truth, and which of them it changes, if any.

    `_FAILED` where its own code raises: of the small maps alone, or the training says it.
    """
    found, changed = _FAILED, ""
    for void in (True, False):
        with torch_seeded(0, "places"):
            scores = torch.randn(_IMAGES, classes, _SIDE, _SIDE, requires_grad=True) * 1
            truth = torch.randint(classes, (_IMAGES, _SIDE, _SIDE), dtype=torch.uint8)
            truth[:, : _SIDE // 4 if void else 0] = VOID
            given = {"scores": (scores, scores.detach().clone()), "truth": (truth, truth.clone())}
            with suppress(Exception):
                found = copy.deepcopy(loss)(scores, truth)
        changed = changed or next((name for name, (now, then) in given.items() if not torch.equal(now, then)), "")
    return found, changed


def _make(place: str, typed: str, option: Callable[..., Any], *given: Any, **named: Any) -> Any:
    if isinstance(option, nn.Module):
        raise ConfigError(f"{typed}: its file makes a module before its place gives it anything: add _partial_: true. {_SEE}")
    try:
        if getattr(_code(option), "__init__", None) is nn.Module.__init__:  # which says that it takes anything, and does not
            raise TypeError("it has no __init__ of its own")
        inspect.signature(option).bind(*given, **named)
    except (TypeError, ValueError) as error:
        words = ", ".join(f"{name}=" for name in named) or "one argument"
        raise ConfigError(
            f"{typed}: place: {place} calls it with {words}, but {_called(option)} does not: {error}. {_SEE}"
        ) from error
    try:
        return option(*given, **named)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever somebody else's code does
        raise ConfigError(f"{typed}: {_called(option)} fails: {type(error).__name__}: {first_line(error)}.") from error


def _check_module(place: str, typed: str, option: Callable[..., Any], module: Any) -> None:
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{typed}: place: {place} wants a torch.nn.Module, but {_called(option)} gave {module!r:.80}. {_SEE}")


def _is_foreign(option: Callable[..., Any]) -> bool:
    return bool(_code(option).__module__.partition(".")[0] != __name__.partition(".")[0])


def check_auxiliary(model: nn.Module, typed: str) -> None:
    """Refuse a head that makes no scores of the first upsampling's maps where these are supervised.

    Args:
        model: a `Segmenter`.
        typed: what names the technique whose module is its head.

    Raises:
        ConfigError: naming it.
    """
    if model.auxiliary_weights and not hasattr(model.head, "auxiliary"):
        raise ConfigError(
            f"{typed}: the first upsampling is supervised (ECRE), for which place: head wants a module with auxiliary, which "
            f"{type(model.head).__qualname__} lacks. {_SEE}"
        )


def _code(option: Callable[..., Any]) -> Any:
    while isinstance(option, partial):
        option = option.func
    return option


def _called(option: Callable[..., Any]) -> str:
    code = _code(option)
    return f"{code.__module__}.{code.__qualname__}"


def check_places(model: nn.Module, classes: int, foreign: Sequence[Filled]) -> None:
    """Let a model predict once and hold what these of its modules give against what their places promise.

    Args:
        model: a `Segmenter`, of which a copy is tried.
        classes: number of classes C.
        foreign: see `fill`.

    Raises:
        ConfigError: naming the technique, what was expected and what came. What the module's own code raises it may raise of
            the small image alone: the training, where it would come again, is left to say it.
    """
    named = {id(module): name for name, module in model.named_modules()}
    image = torch.randn(_IMAGES, image_channels(model), _SIDE, _SIDE)
    gave: list[list[Any]] = [[], []]  # what each gives in turn, in either pass
    with tried(model) as copied, torch.no_grad():
        hooks = [
            hook
            for one in foreign
            if id(one.module) in named  # one that nobody registered is asked by the training
            for hook in _held(copied.get_submodule(named[id(one.module)]), one, _expected(one, model, classes), gave)
        ]
        for _ in gave:
            gave.reverse()
            try:
                copied(image.clone())  # which an encoder may change
            except ConfigError:
                raise
            except Exception:  # what came before it counts
                pass
        for hook in hooks:
            hook.remove()
    _check_repeats(*gave)


def _expected(one: Filled, model: Any, classes: int) -> Callable[[Any], list[Shape] | Shape]:
    """Shapes of what a module is to give, several of maps per level, from what it is called with.

    Scores may be smaller than the image: the loss and whoever predicts enlarge them.
    """
    if one.place == "features":
        encoder = model.encoder
        sides = [math.ceil(_SIDE / reduction) for reduction in encoder.reductions]
        return lambda _: [(_IMAGES, width, side, side) for width, side in zip(encoder.channels, sides, strict=True)]
    if one.place == "upsampling":
        return lambda maps: (*maps.shape[:2], *(side * one.named["scale"] for side in maps.shape[2:]))
    if one.place == "decoder":
        width = one.named["width"]
        first = (_IMAGES, width, None, None) if one.module.auxiliary_weight else None  # else nobody reads it
        return lambda _: [(_IMAGES, width, None, None), first]
    if one.place == "levels":
        return lambda maps: [tuple(each.shape) for each in maps]
    return lambda maps: (len(maps), classes, None, None)


def _check_repeats(second: list[Any], first: list[Any]) -> None:
    """Of one image twice the same comes out: the first module of which it does not is random, or counts its calls."""
    for (typed, before), (_, after) in zip(first, second, strict=False):
        if not all(map(alike, before, after)):
            raise ConfigError(
                f"{typed} gives other values for the same image each time, though the model is in evaluation mode: scores "
                f"would be drawn by chance. Draw in training alone (if self.training), or make it without. {_SEE}"
            )


def _held(
    module: nn.Module, filled: Filled, expected: Callable[[Any], list[Shape] | Shape], gave: list[list[Any]]
) -> list[RemovableHandle]:
    """Hooks by which a module is held against its place, however it is called; what it gives is taken down in ``gave[0]``."""
    if isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
        return []
    typed, place = filled.typed, filled.place
    wanted: list[tuple[list[Shape] | Shape, torch.dtype]] = []

    def given(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        first = next(iter([*args, *named.values()]))
        wanted.append((expected(first), _tensors(first)[0].dtype))  # before it may change a list in place

    def found(_: nn.Module, __: Any, ___: Any, result: Any) -> None:
        gave[0].append((typed, [one.clone() for one in _tensors(result) if isinstance(one, Tensor)]))
        form, dtype = wanted.pop()
        shapes = [_shape(each) for each in result] if isinstance(result, list | tuple) else _shape(result)
        if not _fit(shapes, form):
            raise ConfigError(
                f"{typed} gave {_told(shapes)} where place: {place} wants {_told(form)}, (batch, channels, height, width). "
                f"{_SEE}"
            )
        if other := next((one.dtype for one in _tensors(result) if isinstance(one, Tensor) and one.dtype != dtype), None):
            raise ConfigError(f"{typed} gave {other} where place: {place} wants {dtype}, which it was given. {_SEE}")

    return [
        module.register_forward_pre_hook(given, with_kwargs=True),
        module.register_forward_hook(found, with_kwargs=True),
    ]


def _tensors(found: Any) -> Sequence[Any]:
    return found if isinstance(found, list | tuple) else [found]


def _shape(found: Any) -> Shape:
    return tuple(found.shape) if isinstance(found, Tensor) else ()


def _fit(shapes: list[Shape] | Shape, wanted: list[Shape] | Shape) -> bool:
    if wanted is None:
        return True
    if isinstance(wanted, list):
        return isinstance(shapes, list) and len(shapes) == len(wanted) and all(map(_fit, shapes, wanted))
    return isinstance(shapes, tuple) and len(shapes) == len(wanted) and all(map(_fits, shapes, wanted))


def _fits(length: int | None, wanted: int | None) -> bool:
    return wanted is None or length == wanted


def _told(shapes: list[Shape] | Shape) -> str:
    if isinstance(shapes, list):
        return f"[{', '.join(map(_told, shapes))}]"
    if shapes is None:
        return "anything"
    return f"({', '.join('*' if one is None else str(one) for one in shapes)})" if shapes else "no tensor"
