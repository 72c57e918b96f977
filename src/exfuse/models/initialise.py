"""First weights that depend on (seed, module name) alone, so that variants of one seed share what they share."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from exfuse.randomness import derive_seed, torch_seeded


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


class DrawnByShape(TorchDispatchMode):
    """Each draw made inside follows from what draws, its arguments' shapes, and how many like it were made before.

    Somebody else's constructor has no names to seed by. So a layer that two variants have in common starts the same, whatever
    else the constructor makes. It begins from the seed of torch's CPU generator; who seeds that anew inside, or draws from a
    generator of their own, is left alone.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self._began = torch.initial_seed()
        self._ours = {self._began}  # seeds; a generator that was put back has one of them again
        self._made = Counter[str]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {**(kwargs or {})}
        draws = torch.Tag.nondeterministic_seeded in getattr(func, "tags", ())
        if draws and not given.get("generator") and torch.initial_seed() in self._ours:
            like = f"{func} {[_shape_of(one) for one in (*args, *given.values())]}"
            self._made[like] += 1
            seed = derive_seed(self._began, "drawn", like, self._made[like])
            self._ours.add(seed)
            torch.default_generator.manual_seed(seed)
        return func(*args, **given)


def _shape_of(given: Any) -> Any:
    return tuple(given.shape) if isinstance(given, Tensor) else given


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
