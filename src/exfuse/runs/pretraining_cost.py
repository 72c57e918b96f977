"""What a pretraining costs, counted before it starts."""

from dataclasses import dataclass

from exfuse.models.classifier import Classifier
from exfuse.runs.costs import gigamacs


@dataclass(frozen=True)
class PretrainingCost:
    """Multiply-adds of convolutions and linear layers by torch's FlopCounterMode (two FLOPs each), norms left out.

    Attributes:
        size: side of the square image in pixels.
        gigamacs: of one image, forward.
        parameters: of backbone, head and branches.
        images: how many pass through over all epochs.
    """

    size: int
    gigamacs: float
    parameters: int
    images: int

    @property
    def exaflops(self) -> float:
        """Of the whole training: two FLOPs per multiply-add, a backward pass counted as two forward ones."""
        return 3 * 2 * self.gigamacs * 1e9 * self.images / 1e18

    def __str__(self) -> str:
        total = f"{self.exaflops:.1f} EFLOP" if self.exaflops >= 0.1 else f"{1e3 * self.exaflops:.2g} PFLOP"
        return (
            f"{self.parameters / 1e6:.2f} M parameters, {self.gigamacs:.3g} GMACs an image at {self.size} px, {self.images:,} "
            f"images in all, {total}"
        )


def count_cost(model: Classifier, size: int, images: int) -> PretrainingCost:
    """Count one forward pass of ``model`` for a (1, 3, size, size) image.

    Args:
        model: its mode is left as it was.
        size: side of the image.
        images: how many pass through over all epochs.
    """
    return PretrainingCost(size, gigamacs(model, size), sum(weight.numel() for weight in model.parameters()), images)
