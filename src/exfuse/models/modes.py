"""Trying a model in one mode, training or evaluation, without a trace of it afterwards."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from exfuse.errors import ConfigError

Modes = list[tuple[nn.Module, bool]]


def modes_of(model: nn.Module) -> Modes:
    """Each module with whether it is in training mode: one that keeps its statistics frozen says so by its own."""
    return [(module, module.training) for module in model.modules()]


def put_back(modes: Modes) -> None:
    """Bring each module into the mode that it had; one that does something of its own in ``train()`` is told of it."""
    for module, training in modes:  # parents first, who tell all that they contain
        if type(module).train is not nn.Module.train:
            module.train(training)
    for module, training in modes:
        module.training = training


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Afterwards each module is in the mode that it was in, see `put_back`."""
    before = modes_of(model)
    try:
        yield
    finally:
        put_back(before)


@contextmanager
def tried(model: nn.Module) -> Iterator[nn.Module]:
    """A copy in evaluation mode, since a module may keep something of the first image that it sees.

    The model says of itself meanwhile that it is in that mode, too: a copied function still calls the layers that it holds. One
    that cannot be copied, for tensors that are no leaves say, is tried itself.
    """
    try:
        copied = copy.deepcopy(model)
    except Exception:
        with modes_kept(model):
            yield model.eval()
        return
    before = modes_of(model)
    try:
        for module, _ in before:
            module.training = False
        yield copied.eval()
    finally:
        for module, training in before:
            module.training = training


def check_sizes(module: nn.Module, called: str) -> None:
    """Refuse layers whose sizes their first image tells.

    Raises:
        ConfigError: naming the first.
    """
    if lazy := [name for name, value in (*module.named_parameters(), *module.named_buffers()) if is_lazy(value)]:
        raise ConfigError(
            f"{called}: {lazy[0]} has no size before its first image. Make it of sizes that are known, not lazily. See "
            "docs/extend.md."
        )


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether two passes gave the same numbers, or none."""
    return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())
