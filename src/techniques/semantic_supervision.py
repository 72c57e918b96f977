"""Semantic supervision (SS), ExFuse section 3.1 and figure 3: auxiliary classifiers on every stage of the encoder.

The branches (3x3 conv, 3x3 conv, global pool, fully connected, fully connected) act while the backbone is pretrained for
classification. What they leave for segmentation is one of the modules below; each wraps an encoder and offers
the same interface: ``levels``, ``channels``, ``reductions`` and ``forward(image) -> maps``, shallow to deep.
"""

from torch import Tensor, nn

from src.models.backbone import Backbone


class StageTails(nn.Module):
    """No semantic supervision: segmentation reads the tail of each stage.

    Shapes:
        input (B, 3, H, W); output one (B, C_l, H_l, W_l) map per level of the encoder.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.levels, self.channels, self.reductions = backbone.levels, backbone.channels, backbone.reductions

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.backbone(image)


class HeadsRemoved(StageTails):
    """The backbone was pretrained with SS branches, which are then thrown away (the paper's first form of SS).

    The segmentation model has exactly the parameters of one without SS: only the weights it starts from differ.
    """


class SecondConvFeatures(nn.Module):
    """Keep the two 3x3 convolutions of each branch and feed segmentation from the second (the paper's second form).

    Args:
        backbone: the encoder whose stages carry the branches.
        width_ratio: channels of both convolutions as a share of the stage's; the paper's widths are unknown.
        minimum_width: least number of channels, so that narrow encoders keep some.

    Shapes:
        input (B, 3, H, W); output one (B, max(minimum_width, width_ratio * C_l), H_l, W_l) map per level.
    """

    def __init__(self, backbone: Backbone, width_ratio: float, minimum_width: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.levels, self.reductions = backbone.levels, backbone.reductions
        self.channels = tuple(max(minimum_width, round(width_ratio * channels)) for channels in backbone.channels)
        self.branches = nn.ModuleDict(
            {
                f"res{level}": branch_convolutions(channels, width)
                for level, channels, width in zip(self.levels, backbone.channels, self.channels, strict=True)
            }
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = self.backbone(image)
        return [branch(level) for branch, level in zip(self.branches.values(), maps, strict=True)]


def branch_convolutions(channels: int, width: int) -> nn.Sequential:
    """The two 3x3 convolutions at the head of an SS branch (figure 3): (B, channels, H, W) -> (B, width, H, W).

    Batch norm and ReLU after each are chosen: the paper draws the convolutions alone.
    """
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
