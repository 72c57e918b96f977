"""Trying a model in one mode, training or evaluation, without a trace of it afterwards."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from exfuse.errors import ConfigError


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Afterwards each module is in the mode that it was in: one that keeps its statistics frozen says so by its own mode."""
    before = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def tried(model: nn.Module) -> Iterator[nn.Module]:
    """A copy in evaluation mode, since a module may keep something of the first image that it sees.

    A model that cannot be copied, for tensors that are no leaves say, is tried itself. It is in evaluation mode meanwhile: a
    copied function still calls the layers that it holds.
    """
    try:
        copied = copy.deepcopy(model)
    except Exception:
        copied = model
    with modes_kept(model):
        model.eval()
        yield copied.eval()


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
