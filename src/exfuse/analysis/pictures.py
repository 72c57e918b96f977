"""Pictures of predictions: image, truth and prediction side by side, and overlays for a user's own photographs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from rich.cells import cell_len

from exfuse.analysis.letters import families, letters_told
from exfuse.files import write_atomically
from exfuse.palette import VOID, class_palette, is_background, palette_image

matplotlib.use("Agg")
matplotlib.rcParams["text.parse_math"] = False  # a dollar in a name is a dollar
matplotlib.rcParams["font.family"] = families()

Ids = NDArray[np.uint8]
_OPACITY = 0.55
_TALLEST = 4  # times its width that a picture is high at most: what is narrower has white beside it; chosen
_CELL, _GAP, _LINE = 2.6, 0.03, 0.16  # inches: a picture's place, white around it, a line of text
_COLUMNS = 6  # of a legend


def overlay(image: NDArray[np.uint8], ids: Ids, classes: Sequence[str]) -> NDArray[np.uint8]:
    """Colour an image (H, W, 3) by its ids (H, W); a class called background, and void, stay as they are."""
    coloured = class_palette(classes)[ids]
    blend = (1 - _OPACITY) * image + _OPACITY * coloured
    keep = (ids == VOID) | ((ids == 0) & is_background(classes[0]))
    return np.where(keep[..., None], image, blend).astype(np.uint8)


def save_mask(path: Path, ids: Ids, classes: Sequence[str]) -> None:
    """Write ids (H, W) as a palette PNG in the colours that these classes have in every picture, atomically."""
    write_atomically(path, lambda scratch: palette_image(ids, palette=class_palette(classes)).save(scratch))


def save_overlay(path: Path, image: NDArray[np.uint8], ids: Ids, classes: Sequence[str]) -> None:
    """Write the overlay of one photograph with a legend of the classes in it, atomically."""
    height, width = ids.shape
    figure = Figure(figsize=(6, 6 * min(height / width, _TALLEST) + 0.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.imshow(overlay(image, ids, classes), interpolation="nearest")
    axes.set_axis_off()
    draw_legend(figure, [ids], classes)
    _save(path, figure)


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
    whole = [image.shape[0] / image.shape[1] for image in images]
    ratios = [min(ratio, _TALLEST) for ratio in whole]  # rows as high as their images, without white between them
    shown = [*(truth for truth in truths if truth is not None), *(ids for many in predictions.values() for ids in many)]
    width = _CELL * columns
    below = 0.1 + _LINE * -(
        -len(_used(shown)) // _legend_columns(width, [_class_name(classes, id) for id in _used(shown)])
    )  # of the legend
    above = 0.1 + _LINE * max(name.count("\n") + 1 for name in ["image", *predictions])
    height = above + sum(_CELL * ratio for ratio in ratios) + below
    figure = Figure(figsize=(width, height), dpi=120)
    axes = figure.add_axes((0, 0, 1, 1))  # one for all, measured in inches: one a picture takes most of a short training's end
    axes.set_axis_off()
    top, colours = above, class_palette(classes)
    for row, (image, truth, ratio) in enumerate(zip(images, truths, ratios, strict=True)):
        half = (_CELL / 2 - _GAP) * ratio / whole[row]  # of its width
        cells = [("image", image)]
        if with_truth:
            cells.append(("truth", image if truth is None else colours[truth]))
        cells += [(name, colours[ids[row]]) for name, ids in predictions.items()]
        for left, (title, picture) in zip(np.arange(columns) * _CELL, cells, strict=True):
            bottom = top + _CELL * ratio - _GAP
            place = (left + _CELL / 2 - half, left + _CELL / 2 + half, bottom, top + _GAP)
            axes.imshow(picture, interpolation="nearest", aspect="auto", extent=place)
            if row == 0:
                axes.text(left + _CELL / 2, top - _GAP, title, fontsize=9, ha="center", va="bottom")
        top += _CELL * ratio
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    draw_legend(figure, shown, classes)
    _save(path, figure)


def _save(path: Path, figure: Figure) -> None:
    with letters_told(path.name):
        write_atomically(path, lambda scratch: figure.savefig(scratch))


def draw_legend(figure: Figure | SubFigure, ids: Sequence[Ids], classes: Sequence[str]) -> None:
    """Name the classes that occur in any of ``ids`` below the figure."""
    used = _used(ids)
    colours = class_palette(classes) / 255
    names = [_class_name(classes, id) for id in used]
    patches = [Patch(facecolor=colours[id], edgecolor="0.5", label=name) for id, name in zip(used, names, strict=True)]
    columns = _legend_columns(figure.bbox.width / figure.dpi, names)
    figure.legend(handles=patches, loc="outside lower center", ncols=columns, fontsize=7, frameon=False)


def _legend_columns(width: float, names: Sequence[str]) -> int:
    """How many of the names stand side by side in so many inches, each as wide as the longest."""
    widest = 0.55 + 0.06 * max(map(cell_len, names), default=0)  # a patch with its space, and letters of 7 points
    return max(1, min(_COLUMNS, len(names), int(width / widest)))


def _used(ids: Sequence[Ids]) -> list[int]:
    return sorted(np.unique(np.concatenate([part.ravel() for part in ids])).tolist())


def _class_name(classes: Sequence[str], id: int) -> str:
    return "void (not scored)" if id == VOID else classes[id]
