"""A network of the sizes of the one ExFuse that is public and runs, pywick's GCNFuse: its layers in place of its code.

A ResNet with a stem of three convolutions; SEBs of one 3x3 convolution over all deeper maps, enlarged and concatenated; GCNs of
kernel 7, 4C wide at res-5, C at res-4 and 9C at res-3 and res-2; the first deconvolution widens C to 9C, and three keep 9C to
full resolution; no BR, no auxiliary loss. Its DAP averages the nine groups of channels in place and shifts none.
"""

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exfuse.models.gcn import GlobalConvolution

_KERNEL, _WINDOW = 7, 3


class PublicExFuse(nn.Module):
    """(B, 3, H, W) -> scores (B, classes, H, W); sides are multiples of 32.

    Args:
        classes: C.
        backbone: a ResNet of timm.
    """

    def __init__(self, classes: int, backbone: str = "resnet50") -> None:
        super().__init__()
        self.encoder = timm.create_model(
            backbone, features_only=True, out_indices=(1, 2, 3, 4), stem_type="deep", stem_width=64, pretrained=False
        )
        channels: list[int] = self.encoder.feature_info.channels()  # type: ignore[union-attr, operator]
        wide = classes * _WINDOW**2
        self.embeddings = nn.ModuleList(
            nn.Conv2d(sum(channels[place + 1 :]), width, 3, padding=1) for place, width in enumerate(channels[:-1])
        )
        widths = (wide, wide, classes, 4 * classes)
        self.convolutions = nn.ModuleList(
            GlobalConvolution(inputs, outputs, _KERNEL) for inputs, outputs in zip(channels, widths, strict=True)
        )
        self.upsamplings = nn.ModuleList(
            nn.ConvTranspose2d(inputs, wide, 4, stride=2, padding=1, bias=False) for inputs in (classes, wide, wide, wide)
        )

    def forward(self, image: Tensor) -> Tensor:
        maps = self.encoder(image)
        embedded = [
            low * F.interpolate(embedding(_together(maps[place + 1 :])), scale_factor=2, mode="bilinear")
            for place, (low, embedding) in enumerate(zip(maps[:-1], self.embeddings, strict=True))
        ]
        *others, deepest = [convolution(one) for convolution, one in zip(self.convolutions, [*embedded, maps[-1]], strict=True)]
        scores = F.pixel_shuffle(deepest, 2)
        for upsampling, other in zip(self.upsamplings, reversed(others), strict=False):
            scores = upsampling(scores + other)
        scores = self.upsamplings[-1](scores)
        return F.avg_pool2d(F.pixel_shuffle(scores, _WINDOW), _WINDOW)


def _together(maps: list[Tensor]) -> Tensor:
    """Maps of one level and those below it, at the first one's size."""
    larger = [
        one if place == 0 else F.interpolate(one, scale_factor=2**place, mode="bilinear") for place, one in enumerate(maps)
    ]
    return torch.cat(larger, 1)
