"""Pictures of predictions: image, truth and prediction side by side, and overlays for a user's own photographs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from exfuse.files import write_atomically
from exfuse.palette import VOID, palette_image, voc_palette

matplotlib.use("Agg")
matplotlib.rcParams["text.parse_math"] = False  # a dollar in a name is a dollar

Ids = NDArray[np.uint8]
_OPACITY = 0.55


def overlay(image: NDArray[np.uint8], ids: Ids) -> NDArray[np.uint8]:
    """Colour an image (H, W, 3) by its ids (H, W); background and void stay as they are."""
    coloured = voc_palette()[ids]
    blend = (1 - _OPACITY) * image + _OPACITY * coloured
    keep = (ids == 0) | (ids == VOID)
    return np.where(keep[..., None], image, blend).astype(np.uint8)


def save_mask(path: Path, ids: Ids) -> None:
    """Write ids (H, W) as a palette PNG with VOC's colours, atomically."""
    write_atomically(path, lambda scratch: palette_image(ids).save(scratch))


def save_overlay(path: Path, image: NDArray[np.uint8], ids: Ids, classes: Sequence[str]) -> None:
    """Write the overlay of one photograph with a legend of the classes in it, atomically."""
    height, width = ids.shape
    figure = Figure(figsize=(6, 6 * height / width + 0.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    _show(axes, overlay(image, ids))
    draw_legend(figure, [ids], classes)
    write_atomically(path, lambda scratch: figure.savefig(scratch))


def save_comparison(
    path: Path,
    images: Sequence[NDArray[np.uint8]],
    truths: Sequence[Ids | None],
    predictions: Mapping[str, Sequence[Ids]],
    classes: Sequence[str],
) -> None:
    """Write a grid, one row an image: the image, its truth if there is one, and what each model predicts; atomically.

    Args:
        path: .png or .svg.
        images: (H, W, 3) each, of any size.
        truths: (H, W) ids with 255 for void, or None.
        predictions: by the model's name, (H, W) ids for each image.
        classes: names of the ids.
    """
    with_truth = any(truth is not None for truth in truths)
    columns = 1 + with_truth + len(predictions)
    ratios = [image.shape[0] / image.shape[1] for image in images]  # rows as high as their images, without white between them
    figure = Figure(figsize=(2.6 * columns, 2.6 * sum(ratios) + 0.6), dpi=120, layout="constrained")
    grid = figure.subplots(len(images), columns, squeeze=False, height_ratios=ratios)
    for row, (image, truth) in enumerate(zip(images, truths, strict=True)):
        cells = [("image", image)]
        if with_truth:
            cells.append(("truth", image if truth is None else voc_palette()[truth]))
        cells += [(name, voc_palette()[ids[row]]) for name, ids in predictions.items()]
        for axes, (title, picture) in zip(grid[row], cells, strict=True):
            _show(axes, picture, title if row == 0 else None)
    shown = [*(truth for truth in truths if truth is not None), *(ids for many in predictions.values() for ids in many)]
    draw_legend(figure, shown, classes)
    write_atomically(path, lambda scratch: figure.savefig(scratch))


def _show(axes: matplotlib.axes.Axes, picture: NDArray[np.uint8], title: str | None = None) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=9)


def draw_legend(figure: Figure | SubFigure, ids: Sequence[Ids], classes: Sequence[str]) -> None:
    """Name the classes that occur in any of ``ids`` below the figure."""
    used = sorted(set(np.unique(np.concatenate([part.ravel() for part in ids]))) - {VOID})
    colours = voc_palette() / 255
    patches = [Patch(facecolor=colours[id], edgecolor="0.5", label=classes[id]) for id in used]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(patches)), fontsize=7, frameon=False)
