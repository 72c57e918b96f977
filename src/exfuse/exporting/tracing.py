"""From a segmenter to a graph that needs none of this project's code; the only file that calls `torch.export.export`."""

import torch
from timm.layers import Conv2dSame
from torch.export import Dim, ExportedProgram

from exfuse.errors import UserError
from exfuse.fusing.fuse import fuse
from exfuse.limits import Size
from exfuse.models.backbone import image_channels
from exfuse.models.segmenter import ScoresAlone, Segmenter

LARGEST_SIDE = 16384
_LARGEST_BATCH = 1024
# No stride of an encoder divides these, so nothing that the graph does at other sizes is left out of it.
_EXAMPLE = (97, 130)
_ONE_SIZE = (
    "torch.export finds no graph of this model that holds at every size (an encoder that pads by the image's size has none). "
    "Add size=[HEIGHT,WIDTH] to export it for images of one size."
)


def smallest_side(model: Segmenter) -> int:
    """Pixels; below it the deepest map has a single row or column, for which torch makes another graph."""
    reductions: tuple[int, ...] = model.encoder.reductions  # type: ignore[assignment]
    return max(reductions) + 1


def trace(model: Segmenter, size: Size | None) -> ExportedProgram:
    """The fused model as a graph of torch's own operators, for any number of images.

    Args:
        model: in evaluation mode, on the CPU.
        size: the (H, W) that it will take; None for any from `smallest_side` on.

    Raises:
        UserError: if the graph would be true for some sizes alone.
    """
    fused = fuse(model, portable=True).to(memory_format=torch.contiguous_format)
    if size is None and any(isinstance(module, Conv2dSame) for module in fused.modules()):
        raise UserError(_ONE_SIZE)  # at once: torch.export would find out in minutes
    sides = {axis: Dim(name, min=smallest_side(model), max=LARGEST_SIDE) for axis, name in ((2, "height"), (3, "width"))}
    dimensions = {0: Dim("batch", min=1, max=_LARGEST_BATCH), **({} if size else sides)}
    example = torch.zeros(2, image_channels(model), *(size or _EXAMPLE))
    try:
        with torch.no_grad():
            return torch.export.export(ScoresAlone(fused).eval(), (example,), dynamic_shapes={"image": dimensions})
    except RuntimeError as error:
        if size is None:
            raise UserError(_ONE_SIZE) from error
        raise UserError(
            f"torch.export cannot take this model at {size[0]}x{size[1]}: {str(error).strip().splitlines()[0]}"
        ) from error
