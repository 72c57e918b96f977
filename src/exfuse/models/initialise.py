"""First weights that depend on (seed, module name) alone, so that variants of one seed share what they share."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from exfuse.randomness import torch_seeded


def initialise(
    model: nn.Module, seed: int, backbone: str, leave: Collection[str] = (), foreign: Iterable[nn.Module] = ()
) -> None:
    """Draw every layer's parameters anew, in place, but for what somebody else's code has made.

    Each module's numbers come from a generator seeded by ``seed`` and the module's name: a part that two variants have in
    common starts from the same weights in both, whatever else was built before it. Containers come after what they contain, so
    that a block can set its own layers' scale.

    Args:
        model: with a backbone somewhere inside.
        seed: of the draw.
        backbone: the name of that submodule, whose convolutions get He's initialisation and whose norms stay as timm set them;
            one that is ``foreign``, by an attribute, stays as it is.
        leave: names of submodules that stay as they are, with all that they contain.
        foreign: modules that keep what their constructors gave them.
    """
    encoder = model.get_submodule(backbone)
    in_encoder = {id(module) for module in encoder.modules()}
    made = {*map(id, foreign)} | (in_encoder if getattr(encoder, "foreign", False) else set())
    for name, module in sorted(model.named_modules(), key=lambda item: -item[0].count(".")):
        if id(module) in made or is_within(name, leave):
            continue
        with torch_seeded(seed, "weights", name), torch.no_grad():
            if id(module) in in_encoder and isinstance(module, nn.Conv2d):
                _he(module)
            elif hasattr(module, "reset_parameters") and not (id(module) in in_encoder and _is_norm(module)):
                module.reset_parameters()


@contextmanager
def seeded_by_shape(seed: int, typed: str) -> Iterator[None]:
    """What layers made inside draw follows from their kind, their shapes and how many like them were made before.

    They have no names yet. A layer that two variants have in common starts the same, whatever else a constructor makes.
    """
    made = Counter[tuple[str, str]]()

    def seeded(reset: Callable[[nn.Module], None]) -> Callable[[nn.Module], None]:
        def reset_alike(layer: nn.Module) -> None:
            shapes = [(name, *(() if is_lazy(value) else value.shape)) for name, value in layer.named_parameters()]
            like = type(layer).__qualname__, str(shapes)
            made[like] += 1
            with torch_seeded(seed, "built", typed, *like, made[like]):
                reset(layer)

        return reset_alike

    usual = {kind: vars(kind)["reset_parameters"] for kind in _kinds(nn.Module) if "reset_parameters" in vars(kind)}
    for kind, reset in usual.items():
        setattr(kind, "reset_parameters", seeded(reset))  # noqa: B010 - which types do not allow
    try:
        yield
    finally:
        for kind, reset in usual.items():
            setattr(kind, "reset_parameters", reset)  # noqa: B010


def _kinds(kind: type) -> set[type]:
    return {kind}.union(*map(_kinds, kind.__subclasses__()))


def is_within(name: str, modules: Collection[str]) -> bool:
    """Whether a parameter or module of this name is one of ``modules`` or within one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _he(convolution: nn.Conv2d) -> None:
    """He initialisation by fan-out, as ResNets are trained from scratch (depthwise: per channel)."""
    fan_out = convolution.kernel_size[0] * convolution.kernel_size[1] * convolution.out_channels // convolution.groups
    nn.init.normal_(convolution.weight, std=(2.0 / fan_out) ** 0.5)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


def _is_norm(module: nn.Module) -> bool:
    # timm sets the last norm of a residual block to zero, a constant that a reset would lose
    return isinstance(module, (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm))
