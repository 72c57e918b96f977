"""Semantic supervision (SS), ExFuse section 3.1 and figure 3: auxiliary classifiers on every stage of the encoder.

The branches, `SemanticBranches`, act while the backbone is pretrained for classification. What they leave for segmentation is
one of the two encoders below; each wraps a backbone and offers the same interface: ``levels``, ``channels``, ``reductions``,
``forward(image) -> maps``, shallow to deep, and ``load_branches(state)`` for what it keeps of them. The configs say with
``supervised`` whether the backbone is to be one that was pretrained with branches.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from exfuse.limits import Positive, PositiveFloat
from exfuse.models.backbone import Backbone


class SemanticBranches(nn.Module):
    """Figure 3's branch at the tail of each stage: 3x3 conv, 3x3 conv, global pool, fully connected, fully connected.

    Args:
        levels: the stages that carry one; the paper's are res-2..res-5.
        channels: of their maps.
        classes: number of classes of the pretraining.
        width_ratio, minimum_width: channels of the convolutions, see `branch_width`.
        hidden: units between the two fully connected layers.

    Shapes:
        input one (B, C_l, H_l, W_l) map per level; output class scores (B, classes) by level, ``res2``, ``res3``, ...

    Example:
        Beside a classifier's own head, on the maps of any encoder:

        >>> from torch import randn
        >>> branches = SemanticBranches((4, 5), (256, 512), classes=1000, width_ratio=0.25, minimum_width=16, hidden=64)
        >>> {name: tuple(scores.shape) for name, scores in branches([randn(2, 256, 16, 16), randn(2, 512, 8, 8)]).items()}
        {'res4': (2, 1000), 'res5': (2, 1000)}
    """

    def __init__(
        self,
        levels: Sequence[int],
        channels: Sequence[int],
        classes: int,
        width_ratio: PositiveFloat,
        minimum_width: Positive,
        hidden: int,
    ) -> None:
        super().__init__()
        widths = [branch_width(stage, width_ratio, minimum_width) for stage in channels]
        names = [f"res{level}" for level in levels]
        self.convolutions = nn.ModuleDict(
            {name: branch_convolutions(stage, width) for name, stage, width in zip(names, channels, widths, strict=True)}
        )
        self.classifiers = nn.ModuleDict(
            {name: _branch_classifier(width, hidden, classes) for name, width in zip(names, widths, strict=True)}
        )

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        return {
            name: self.classifiers[name](convolutions(level))
            for (name, convolutions), level in zip(self.convolutions.items(), maps, strict=True)
        }


class StageTails(nn.Module):
    """Segmentation reads the tail of each stage.

    With ``supervised`` this is the paper's first form of SS: the branches are thrown away, the model has exactly the
    parameters of one without SS, and only the weights that it starts from differ.

    Shapes:
        input (B, channels, H, W); output one (B, C_l, H_l, W_l) map per level of the encoder.
    """

    def __init__(self, backbone: Backbone, supervised: bool) -> None:
        super().__init__()
        self.backbone, self.supervised = backbone, supervised
        self.levels, self.channels, self.reductions = backbone.levels, backbone.channels, backbone.reductions

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.backbone(image)

    def load_branches(self, state: Mapping[str, Tensor]) -> None:
        """Nothing of the branches is kept."""


class SecondConvFeatures(nn.Module):
    """Keep the two 3x3 convolutions of each branch and feed segmentation from the second (the paper's second form).

    Args:
        backbone: the encoder whose stages carry the branches.
        width_ratio, minimum_width: channels of both convolutions, see `branch_width`; those of the pretraining's branches.

    Shapes:
        input (B, channels, H, W); output one (B, branch_width(C_l), H_l, W_l) map per level.
    """

    def __init__(
        self, backbone: Backbone, width_ratio: PositiveFloat, minimum_width: Positive, supervised: bool = True
    ) -> None:
        super().__init__()
        self.backbone, self.supervised = backbone, supervised
        self.levels, self.reductions = backbone.levels, backbone.reductions
        self.channels = tuple(branch_width(channels, width_ratio, minimum_width) for channels in backbone.channels)
        self.branches = nn.ModuleDict(
            {
                f"res{level}": branch_convolutions(channels, width)
                for level, channels, width in zip(self.levels, backbone.channels, self.channels, strict=True)
            }
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = self.backbone(image)
        return [branch(level) for branch, level in zip(self.branches.values(), maps, strict=True)]

    def load_branches(self, state: Mapping[str, Tensor]) -> None:
        """Take the convolutions of a pretrained backbone's branches.

        Args:
            state: tensors named as in `SemanticBranches.convolutions`, ``res2.0.weight`` and so on; levels that this encoder
                does not use are left out.

        Raises:
            RuntimeError: if one is missing or of another shape.
        """
        self.branches.load_state_dict({key: value for key, value in state.items() if key.split(".")[0] in self.branches})


def branch_width(channels: int, ratio: float, minimum: int) -> int:
    """Channels of a branch's convolutions: ``ratio`` of its stage's, at least ``minimum``; the paper's widths are unknown."""
    return max(minimum, round(ratio * channels))


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


def _branch_classifier(width: int, hidden: int, classes: int) -> nn.Sequential:
    """The rest of a branch: (B, width, H, W) -> (B, classes). ReLU between the fully connected layers is chosen."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, classes),
    )
