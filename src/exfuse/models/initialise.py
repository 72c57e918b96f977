"""First weights that depend on (seed, module name) alone, so that variants of one seed share what they share."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from exfuse.randomness import torch_seeded

_KEPT = "set_by_constructor"  # attribute of a parameter


def initialise(model: nn.Module, seed: int, backbone: str, leave: Collection[str] = ()) -> None:
    """Draw every layer's parameters anew, in place, but for those of `values_kept`.

    Each module's numbers come from a generator seeded by ``seed`` and the module's name: a part that two variants have in
    common starts from the same weights in both, whatever else was built before it. Containers come after what they contain, so
    that a block can set its own layers' scale.

    Args:
        model: with a backbone somewhere inside.
        seed: of the draw.
        backbone: the name of that submodule, whose convolutions get He's initialisation and whose norms stay as timm set them.
        leave: names of submodules that stay as they are, with all that they contain.
    """
    modules = sorted(model.named_modules(), key=lambda item: -item[0].count("."))
    in_encoder = {id(module) for module in model.get_submodule(backbone).modules()}
    blocks = [name for name, module in modules if hasattr(module, "reset_parameters") and [*module.children()]]
    for name, module in modules:
        if is_within(name, leave):
            continue
        values = [] if is_within(name, blocks) else module.parameters(recurse=False)  # a block gives its layers theirs again
        own = [(value, value.detach().clone()) for value in values if hasattr(value, _KEPT)]
        with torch_seeded(seed, "weights", name), torch.no_grad():
            if id(module) in in_encoder and isinstance(module, nn.Conv2d):
                _he(module)
            elif hasattr(module, "reset_parameters") and not (id(module) in in_encoder and _is_norm(module)):
                module.reset_parameters()
            for value, its_own in own:
                value.copy_(its_own)


@contextmanager
def values_kept() -> Iterator[None]:
    """What code inside gives the parameters of torch's layers, other than these give themselves, `initialise` leaves alone.

    Those of a block with a ``reset_parameters`` of its own are given theirs by that.
    """
    kinds = {base for kind in vars(nn.modules).values() if isinstance(kind, type) for base in kind.__mro__}
    usual = {kind: vars(kind)["reset_parameters"] for kind in kinds if "reset_parameters" in vars(kind)}
    first: dict[int, tuple[nn.Module, dict[str, Tensor]]] = {}

    def watched(reset: Callable[[nn.Module], None]) -> Callable[[nn.Module], None]:
        def reset_and_remember(layer: nn.Module) -> None:
            reset(layer)
            first[id(layer)] = layer, {name: value.detach().clone() for name, value in _parameters(layer)}

        return reset_and_remember

    for kind, reset in usual.items():
        setattr(kind, "reset_parameters", watched(reset))  # noqa: B010 - which types do not allow
    try:
        yield
    finally:
        for kind, reset in usual.items():
            setattr(kind, "reset_parameters", reset)  # noqa: B010
    for layer, values in first.values():
        for name, value in _parameters(layer):
            if name not in values or not torch.equal(value, values[name]):
                setattr(value, _KEPT, True)


def _parameters(layer: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [*layer.named_parameters(recurse=False)]


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
