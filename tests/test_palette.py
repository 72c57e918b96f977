import numpy as np

from exfuse.palette import VARIANTS, VOC_CLASSES, class_palette, variant_colours, voc_palette


def test_palette_holds_the_colours_of_the_voc_devkit():
    palette = voc_palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    devkit = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 4: (0, 0, 128), 7: (128, 128, 128), 8: (64, 0, 0)}
    devkit |= {15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {index: tuple(palette[index].tolist()) for index in devkit} == devkit


def test_no_two_ids_share_a_colour():
    assert len(np.unique(voc_palette(), axis=0)) == 256


def test_vocs_colours_are_for_voc_alone_and_others_are_told_apart():
    np.testing.assert_array_equal(class_palette(VOC_CLASSES), voc_palette())
    names = ["background", *"abcdefghijk"]
    shown = class_palette(names)[: len(names)].astype(int)
    assert (shown[0] < 50).all()
    apart = np.abs(shown[:, None] - shown[None]).sum(-1) + 999 * np.eye(len(names), dtype=int)
    assert apart.min() > 80
    np.testing.assert_array_equal(shown, class_palette(names)[: len(names)])


def test_grey_is_the_first_rows_alone():
    colours = variant_colours(20)
    assert colours[:7] == list(VARIANTS)
    assert VARIANTS[0] not in colours[1:]
    assert colours[7:13] == colours[1:7]
