"""Encoders from timm: the maps of res-2..res-5."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import timm
import torch
from timm.models import FeatureInfo
from torch import Tensor, nn

from exfuse.errors import ConfigError

Depths = tuple[int, ...] | None
# timm lists a feature per halving of the resolution: index 0 is the stem's (stride 2), so res-l stands at l - 1.
_FIRST_LEVEL = 1


class Backbone(nn.Module):
    """A timm encoder that returns its maps shallow to deep.

    Args:
        name: a timm model with a feature per stride 4, 8, 16, 32.
        levels: which of res-2..res-5 to return; ends with 5.
        output_stride: 32 as in the paper, or 16 / 8 with dilated convolutions in the last stages.
        rearrange: LR, a function from the depths of res-2..res-5 (``None`` for an encoder without residual stages) to new
            ones with the same sum.
        arguments: further arguments of the timm model.

    Shapes:
        input (B, 3, H, W); output one (B, channels[i], ceil(H / reductions[i]), ceil(W / reductions[i])) map per level.

    Raises:
        ConfigError: if timm does not know the model or cannot make it like this, or the model has no such levels or no
            residual stages to rearrange.
    """

    def __init__(
        self,
        name: str,
        levels: Sequence[int] = (2, 3, 4, 5),
        output_stride: int = 32,
        rearrange: Callable[[Depths], Depths] = lambda depths: depths,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_name(name)
        if list(levels) not in ([2, 3, 4, 5], [3, 4, 5], [4, 5], [5]):
            raise ConfigError(f"decoder.levels={list(levels)}: expected [2,3,4,5], [3,4,5], [4,5] or [5].")
        if output_stride not in (8, 16, 32):
            raise ConfigError(f"backbone.output_stride={output_stride}: expected 32, 16 or 8.")
        self.name, self.levels, self.output_stride = name, tuple(levels), output_stride
        self.arguments = dict(arguments or {})
        try:
            self._set_depths(rearrange)
            self.features = self.create()
        except (AssertionError, IndexError, RuntimeError, TypeError) as error:  # each family of timm refuses in its own way
            raise ConfigError(
                f"backbone.name={name}: timm cannot make it with features res-{list(levels)}, output_stride={output_stride} "
                f"and arguments={self.arguments} ({type(error).__name__}: {error}). Change these or choose another backbone."
            ) from error
        info: FeatureInfo = self.features.feature_info  # type: ignore[assignment]  # timm sets it on every extractor
        self.channels: tuple[int, ...] = tuple(info.channels())
        self.reductions: tuple[int, ...] = tuple(info.reduction())
        expected = tuple(min(2**level, output_stride) for level in levels)
        if self.reductions != expected:
            raise ConfigError(
                f"backbone.name={name} has strides {self.reductions}; expected {expected} for res-{list(levels)}."
            )

    def create(self, **extra: Any) -> nn.Module:
        """The timm feature extractor of this backbone's layout; ``pretrained=True`` asks the model hub for weights."""
        out_indices = tuple(level - _FIRST_LEVEL for level in self.levels)
        if self.output_stride != 32:
            extra["output_stride"] = self.output_stride
        return timm.create_model(self.name, features_only=True, out_indices=out_indices, **self.arguments, **extra)

    def _set_depths(self, rearrange: Callable[[Depths], Depths]) -> None:
        with torch.device("meta"):  # shapes only: no memory, no random numbers
            plain = timm.create_model(self.name, **self.arguments)
        stages = [getattr(plain, f"layer{stage}", None) for stage in range(1, 5)]
        # Other families (EfficientNet, ...) spend different multiply-adds on blocks of different stages.
        residual = all(isinstance(stage, nn.Sequential) for stage in stages)
        depths = tuple(len(stage) for stage in stages if stage is not None) if residual else None
        try:
            wanted = rearrange(depths)
        except ValueError as error:
            raise ConfigError(f"backbone.name={self.name}: {error}") from error
        if wanted != depths:
            self.arguments["layers"] = wanted

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.features(image)


def check_name(name: str) -> None:
    """Refuse what is no model of timm's.

    Raises:
        ConfigError: naming the nearest ones.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3) or ["resnet50"]
        raise ConfigError(
            f"backbone.name={name}: timm has no such model. Did you mean {' or '.join(close)}? "
            "One of your own comes with --config-dir."
        )
