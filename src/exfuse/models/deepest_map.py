"""Decoders of encoders that keep their resolution by dilation ("atrous"): they read the deepest map alone.

They are what ExFuse's U-shaped decoder is held against: with ``backbone.output_stride`` 16 or 8 the deepest map is large enough
to be classified directly and enlarged bilinearly.
"""

from collections.abc import Callable, Sequence

import torch.distributed
from torch import Tensor, fx, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from exfuse.errors import ConfigError
from exfuse.limits import Levels, Positive, Share
from exfuse.models.upsample import Deconvolution, enlarge

fx.wrap("enlarge")  # what traces a decoder sees one call: it asks for the dtype of the map, which only an input has


class _DeepestMapDecoder(nn.Module):
    """Scores from the deepest map, enlarged bilinearly to the image; same interface as `exfuse.models.decoder.Decoder`.

    Args:
        levels: which of res-2..res-5 come in; only the last is read, so ask for it alone.
        channels: their channels.
        reductions: their strides.
        width: channels of the scores.
        first_upsampling: ECRE's slot, which must be the baseline's: there is no learned upsampling to replace.

    Shapes:
        input one (B, channels[-1], h, w) map in a list and the image's (H, W); output (B, width, H, W) and (B, width, h, w).

    Raises:
        ConfigError: if more levels come in than are read, or ECRE is chosen.
    """

    auxiliary_weight = 0.0

    def __init__(
        self,
        levels: Levels,
        channels: Sequence[int],
        reductions: Sequence[int],
        width: int,
        first_upsampling: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        if list(levels) != [5]:
            raise ConfigError(f"decoder.levels={list(levels)}: a decoder that reads the deepest map alone expects [5].")
        first = first_upsampling(channels=1, scale=2)
        if not isinstance(getattr(first, "upsampling", None), Deconvolution) or first.auxiliary_weight:
            raise ConfigError(
                "technique/ecre replaces the first upsampling of the U-shaped decoder, but this decoder enlarges bilinearly. "
                "Choose technique/ecre=deconv, or one of decoder=levels_*."
            )
        self.head = self.make_head(channels[-1], reductions[-1], width)

    def make_head(self, channels: int, stride: int, width: int) -> nn.Module:
        """The layers from the deepest map (B, channels, h, w) of this stride to scores (B, width, h, w)."""
        raise NotImplementedError

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        scores = self.head(maps[-1])
        return enlarge(scores, size), scores


class PlainDecoder(_DeepestMapDecoder):
    """One 1x1 convolution: what the encoder's resolution alone is worth."""

    def make_head(self, channels: int, stride: int, width: int) -> nn.Module:  # noqa: ARG002
        return nn.Conv2d(channels, width, 1)


class AsppDecoder(_DeepestMapDecoder):
    """Atrous spatial pyramid pooling, DeepLabv3's head (torchvision's), then a 3x3 and a 1x1 convolution.

    Args:
        rates_at_16: dilations at output stride 16; scaled so that they reach as far at every stride, as DeepLabv3 does.
        hidden: channels of the pyramid; DeepLabv3 uses 256.
        dropout: after the pyramid; torchvision's 0.5 is for long trainings.
    """

    def __init__(
        self,
        levels: Levels,
        channels: Sequence[int],
        reductions: Sequence[int],
        width: int,
        first_upsampling: Callable[..., nn.Module],
        rates_at_16: Sequence[Positive],
        hidden: Positive,
        dropout: Share,
    ) -> None:
        self.rates_at_16, self.hidden, self.dropout = tuple(rates_at_16), hidden, dropout
        super().__init__(levels, channels, reductions, width, first_upsampling)

    def make_head(self, channels: int, stride: int, width: int) -> nn.Module:
        rates = [max(1, rate * 16 // stride) for rate in self.rates_at_16]
        pyramid = ASPP(channels, rates, self.hidden)
        for module in pyramid.modules():
            if isinstance(module, nn.Dropout):
                module.p = self.dropout
        return nn.Sequential(
            pyramid,
            nn.Conv2d(self.hidden, self.hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(self.hidden),
            nn.ReLU(),
            nn.Conv2d(self.hidden, width, 1),
        )

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        alone = not several or torch.distributed.get_world_size() == 1
        if self.training and len(maps[-1]) == 1 and (alone or any(type(one) is nn.BatchNorm2d for one in self.modules())):
            raise ConfigError(
                "decoder=aspp normalises a map pooled to one pixel over the batch, which one image cannot fill. "
                "Choose a recipe.batch_size of at least two images a process."
            )
        return super().forward(maps, size)
