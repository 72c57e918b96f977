"""Embedded default data set: deterministic textured scenes in PASCAL VOC layout.

It needs no download and still asks what the paper asks of a segmentation network: fine structures, occlusion and
object boundaries want resolution; look-alikes, drawn by one function and told apart only by the region around them,
want context.
"""

from exfuse.data.scenes.composition import draw_scene
from exfuse.data.scenes.devkit import generate_scenes
from exfuse.data.scenes.objects import CLASSES

__all__ = ["CLASSES", "draw_scene", "generate_scenes"]
