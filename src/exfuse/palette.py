"""Colours: of classes in masks and pictures, of a study's variants; and the id of void."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

VOID = 255  # the id of pixels that are neither trained on nor scored
VOC_CLASSES = [
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
]
# Okabe and Ito's colours without black and yellow, told apart with any kind of colour vision; grey for the baseline.
VARIANTS = ("#5f6b76", "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7")
_GROUND = (31, 35, 39)  # of a background class: nearly black, as VOC's
# Each the farthest of a thousand from those before it, from black, white, `_GROUND` and void's, to eyes with deuteranomaly too:
# distinctipy.get_colors(255, [black, white, void, ground], colorblind_type="Deuteranomaly", n_attempts=1000, rng=0) of 1.3.4.
_FAR_APART = np.frombuffer(
    bytes.fromhex(
        "0080fff26004d546b305f20d05daf70d0ee218812ebf0101f98b7608d494910571c004ebf3c015ff80ff008080df2660658addacf12c51ac43"
        "79f1f9ff00ff3b4c000b3b5f2ffea91a66b5b6b5b95d948396bb1ca42da88080009f93cbf75947ffff0070d36c7b0639ff0000189dfee4719f"
        "89566b125938e9bc9af1ba51a13f3623548a995df77cc7e107c50101a5aada02915870b9000080fbb0e95509009d02ba09c7cd827a3e9e96fd"
        "17ff3eba736d178d5ae70436dc08d3e99e08606301f94eef0dcb64e8e0fc00ffff77e711ffff80ac8a217dad88fd2489f871d13d5a67cf44fc"
        "f88c47720a8d07eec709b9f27673a09efd78a8a165e14729a5084d2ca12087face0132faffcc77c358dcbe41114b214cadbf4d8c070b050138"
        "3fe38f063d911102aff4919fba55878f09972e71da353b25753d2608ae5b04d4331e6c9e62f7064c6348a284aaaa178a9edbb7ff5570022002"
        "c7c571fb782816671a4fc5b5fda3c3b9c3fdb9e4076ee6d3d70fee2ee00004559cc0146a934adb11b78991e48d69354ef3e27df91fd5a4c192"
        "be9541715485787c6a09e6561c89d0b625cc118e02af9ee6cd5b49e4ab25fe01b4662bf8d100b1728cc040aeac61a668f44fc475bb3acbfcdc"
        "c096081facc7c26df657dff5641f6d00ff80ea9cdf59dd3c139e42778cfd0b8b99be002a0b3904c9084737004b52ddb719937cfd23436eaf05"
        "5701265e80fc512fc9b9d8e8a64796a9818ea3a4b8fe2f635b026fa5612604dcd8b3adfea554c07c99dda74ddd28fce3a25353fa3ea5faec0e"
        "714498c59d8605e874e2d00faccd03843e5f60c35f63782393360c03494baa8401fbbec0234a71ee602bebd3e022755b04a7e15e61266d5fa3"
        "164ffe60f55efddc01c93a3fcf57057570825bbfec9a8a457603569d022e9336b9d90823b1c3dcd813fdfc6e87358bea9df8f05496a1027cc4"
        "c3516d41cd81f17958e62d9bfe84bfbefba26ec49f7237806e161a062e4dcb68ca07b929d877fb3603fefa7b00bbca36a866fd51794a82dd56"
        "bd337c02eba5843d4027061c00ff00bba1a2388dc1eaa75e"
    ),
    np.uint8,
).reshape(-1, 3)


def variant_place(place: int) -> tuple[int, int]:
    """The colour in `VARIANTS` of a study's row, from 0, and how often all were used before; grey is the first row's alone."""
    turn, colour = divmod(place - 1, len(VARIANTS) - 1) if place else (0, -1)
    return colour + 1, turn


def variant_colours(rows: int) -> list[str]:
    """The colour of each row of a study, the same on its page, in its figures and at W&B."""
    return [VARIANTS[variant_place(place)[0]] for place in range(rows)]


def is_background(name: str) -> bool:
    """Whether a first class of this name is what no object covers."""
    return name.lower() in ("background", "backgrounds")


def class_palette(classes: Sequence[str]) -> np.ndarray:
    """Colours to show classes in, uint8 (256, 3), RGB by id: VOC's for VOC, else some that are far apart for any eye."""
    palette = voc_palette()
    if list(classes) != VOC_CLASSES:
        first = int(is_background(classes[0]))
        palette[first : len(classes)] = _FAR_APART[: len(classes) - first]
        palette[:first] = _GROUND
    return palette


def voc_palette() -> np.ndarray:
    """Return the VOC colour map, uint8 (256, 3), RGB: row ``i`` is the colour of class id ``i``, row 255 that of void.

    The devkit spreads the bits of an id over the channels: counted from bit 0, bits 0, 3, 6 go to red, 1, 4, 7 to
    green and 2, 5 to blue, the lowest of them to the most significant bit of the channel.
    """
    ids = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        palette[:, bit % 3] |= ((ids >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return palette


def palette_image(ids: np.ndarray, colours: int = 256, palette: np.ndarray | None = None) -> Image.Image:
    """A mask (H, W) of uint8 ids as an image of mode P, with the first ``colours`` of a palette (256, 3), VOC's for None."""
    mask = Image.fromarray(ids)
    mask.putpalette((voc_palette() if palette is None else palette)[:colours].tobytes())
    return mask
