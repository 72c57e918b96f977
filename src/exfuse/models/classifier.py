"""The classifier whose backbone segmentation starts from: stage maps, a head, and SS's branches if there are any."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from exfuse.models.backbone import Backbone
from exfuse.models.initialise import initialise


class ClassifierScores(NamedTuple):
    """Class scores before softmax, (B, classes), of the head and of each branch by name."""

    main: Tensor
    branches: dict[str, Tensor]


class Classifier(nn.Module):
    """A backbone, a linear head over the global mean of res-5, and branches over every stage.

    Args:
        backbone: with maps of res-2..res-5.
        branches: SS, from maps to scores by name; None without SS.
        classes: number of classes.

    Shapes:
        input (B, 3, H, W); output `ClassifierScores`.
    """

    def __init__(self, backbone: Backbone, branches: nn.Module | None, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.channels[-1], classes)
        self.branches = branches

    def forward(self, image: Tensor) -> ClassifierScores:
        maps = self.backbone(image)
        return ClassifierScores(self.head(maps[-1].mean((2, 3))), self.branches(maps) if self.branches is not None else {})


def build_classifier(backbone: Backbone, branches: Callable[..., nn.Module] | None, classes: int, seed: int) -> Classifier:
    """Put a classifier together; parts of one name start the same with and without branches.

    Args:
        backbone: with maps of res-2..res-5.
        branches: makes SS's branches from ``levels=``, ``channels=`` and ``classes=``; None without SS.
        classes: number of classes.
        seed: of the random weights.
    """
    made = branches(levels=backbone.levels, channels=backbone.channels, classes=classes) if branches else None
    model = Classifier(backbone, made, classes)
    initialise(model, seed, "backbone")
    return model
