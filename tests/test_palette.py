import numpy as np

from exfuse.palette import voc_palette


def test_palette_holds_the_colours_of_the_voc_devkit():
    palette = voc_palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    devkit = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 4: (0, 0, 128), 7: (128, 128, 128), 8: (64, 0, 0)}
    devkit |= {15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {index: tuple(palette[index].tolist()) for index in devkit} == devkit


def test_no_two_ids_share_a_colour():
    assert len(np.unique(voc_palette(), axis=0)) == 256
