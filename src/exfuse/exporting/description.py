"""What travels inside an exported file, so that the file alone is enough to use it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from exfuse.palette import voc_palette
from exfuse.store.record import Record


@dataclass(frozen=True)
class Description:
    """An exported model's contract. In the file every value is text, as JSON.

    Attributes:
        run: key of the run whose weights these are.
        label: its variant.
        commit: of the code that trained it; None where git was not at hand.
        classes: names of the scores' channels.
        mean, std: per RGB channel, of pixels in [0, 1].
        long_side: pixels that an image's longer side is scaled to first; None leaves images as they are.
        palette: RGB of each class, 0..255, one after another, as PIL's ``putpalette`` takes them.
        sizes: which heights and widths the file takes.
        input, output: names, layouts and meanings.
    """

    run: str
    label: str
    commit: str | None
    classes: Sequence[str]
    mean: Sequence[float]
    std: Sequence[float]
    long_side: int | None
    palette: Sequence[int]
    sizes: str
    input: str = "image: float32 (batch, 3, height, width), RGB; (pixel / 255 - mean) / std"
    output: str = "scores: float32 (batch, classes, height, width), before softmax; a pixel's class is the argmax"

    def as_text(self) -> dict[str, str]:
        """Every attribute as JSON."""
        return {name: json.dumps(value) for name, value in vars(self).items()}


def describe(record: Record, classes: Sequence[str], sizes: str) -> Description:
    """The description of a finished run's model.

    Args:
        record: the run's.
        classes: names of its classes.
        sizes: which sizes the file takes.
    """
    normalisation = record.config["backbone"]["normalisation"]
    return Description(
        run=record.key,
        label=record.label,
        commit=record.environment.commit,
        classes=list(classes),
        mean=list(normalisation["mean"]),
        std=list(normalisation["std"]),
        long_side=record.config["recipe"]["long_side"],
        palette=voc_palette()[: len(classes)].ravel().tolist(),
        sizes=sizes,
    )
