"""Encoders that somebody brings who needs no timm: a module of four maps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from exfuse.errors import ConfigError, first_line
from exfuse.models.backbone import Backbone, Depths, check_levels
from exfuse.models.initialise import DrawnByShape
from exfuse.models.modes import alike, check_sizes, modes_kept, tried
from exfuse.randomness import torch_seeded

_STRIDES = (4, 8, 16, 32)
_TRIAL = (65, 97)  # rows and columns, which no stride divides


class OwnBackbone(Backbone):
    """An encoder of other code, by what `exfuse.models.backbone.Backbone` promises; it keeps its constructor's first values.

    Args:
        make: makes the module from ``arguments``. Its ``channels`` are those of its four maps, shallow to deep, whose strides
            are 4, 8, 16 and 32: ceil(H / stride) rows and ceil(W / stride) columns of an image (B, inputs, H, W). Names of
            parameters in an attribute ``undecayed`` are kept from weight decay.
        name, levels, output_stride, rearrange, arguments, inputs: see `Backbone`; there is one output stride, 32, and nothing
            for LR. Other inputs than 3 become an argument ``inputs``.

    Raises:
        ConfigError: if it cannot be made, or its maps are others.
    """

    foreign = True

    def __init__(
        self,
        make: Callable[..., nn.Module],
        name: str,
        levels: Sequence[int] = (2, 3, 4, 5),
        output_stride: int = 32,
        rearrange: Callable[[Depths], Depths] = lambda depths: depths,
        arguments: Mapping[str, Any] | None = None,
        inputs: int = 3,
    ) -> None:
        nn.Module.__init__(self)
        check_levels(levels)
        if timm.is_model(name):
            raise ConfigError(f"backbone.name={name}: timm has a model of this name. Call your own otherwise.")
        if output_stride != _STRIDES[-1]:
            raise ConfigError(f"backbone.output_stride={output_stride}: {name} is code of its own, whose stride is 32.")
        self.name, self.levels, self.output_stride, self.inputs = name, tuple(levels), output_stride, inputs
        self.arguments, self.reductions = dict(arguments or {}), _STRIDES[-len(levels) :]
        try:
            rearrange(None)
            with DrawnByShape():
                self.features = make(**self.arguments, **({} if inputs == 3 else {"inputs": inputs}))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"backbone={name} cannot be made with arguments={self.arguments}: {error}") from error
        if not isinstance(self.features, nn.Module):
            raise ConfigError(f"backbone={name}: expected a torch.nn.Module, it makes {self.features!r:.80}.")
        check_sizes(self.features, f"backbone={name}")
        if odd := [key for key, value in self.features.state_dict().items() if not isinstance(value, Tensor)]:
            raise ConfigError(
                f"backbone={name}: {odd[0]} is no tensor, and files of weights hold tensors alone. Make it a buffer."
            )
        channels = getattr(self.features, "channels", None)
        listed = tuple(channels) if isinstance(channels, Sequence) else ()
        sizes = [tuple(-(-side // stride) for side in _TRIAL) for stride in _STRIDES]
        expected = [(wide, *size) for wide, size in zip(listed, sizes, strict=False)]
        if (found := self._trial()) != expected or len(expected) != len(_STRIDES):
            raise ConfigError(
                f"backbone={name}: of an image of {_TRIAL[0]}x{_TRIAL[1]} it makes maps of (channels, rows, columns) {found} "
                f"and says channels={channels}; expected four maps of these channels, of strides 4, 8, 16 and 32, rounded up."
            )
        self.channels = listed[-len(levels) :]
        self.whole, self.beyond = {key: key for key in self.features.state_dict()}, frozenset()
        self.undecayed = tuple(f"features.{name}" for name in getattr(self.features, "undecayed", ()))

    @torch.no_grad()
    def _trial(self) -> list[tuple[int, ...]] | str:
        """The maps' shapes; what else it makes, in words."""
        try:
            try:
                with tried(self.features) as features:
                    maps, again = self._two_looks(features)
            except Exception:  # a copied function may hold on to what it was made with
                with modes_kept(self.features):
                    maps, again = self._two_looks(self.features.eval())
        except Exception as error:  # its own code may raise anything
            raise ConfigError(
                f"backbone={self.name} stops at an image of {_TRIAL[0]}x{_TRIAL[1]} ({type(error).__name__}: "
                f"{first_line(error)}); expected one that takes images of any size."
            ) from error
        found = [*maps] if isinstance(maps, Iterable) and not isinstance(maps, Mapping | Tensor) else [maps]
        if isinstance(maps, Tensor) or not all(isinstance(each, Tensor) for each in found):
            return f"in a {type(maps).__name__}, which is no list of tensors"
        if not all(map(alike, found, again)):
            return "that differ each time, of one image in evaluation mode"
        return [tuple(each.shape[1:]) for each in found]

    def _two_looks(self, features: nn.Module) -> list[Any]:
        """What is made of one image twice."""
        with torch_seeded(0, "places"):
            image = torch.randn(1, self.inputs, *_TRIAL)
            return [features(image.clone()) for _ in range(2)]  # which it may change

    def create(self, **_: Any) -> nn.Module:
        """There are no public weights of it.

        Raises:
            ConfigError: that says so.
        """
        raise ConfigError(f"backbone.init=timm: {self.name} is code of its own. Choose random, a weight file or pretrained.")

    def forward(self, image: Tensor) -> list[Tensor]:
        return [*self.features(image)][-len(self.levels) :]
