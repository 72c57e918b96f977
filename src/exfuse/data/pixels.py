"""Images and masks as arrays, and what is known of a file without keeping its pixels; the one place that decodes either.

Nothing is read by halves: 16 bits a channel, several frames and masks that blur or rescale ids are refused, never rounded. An
alpha channel is left out, colours stay as stored; grey, palette and CMYK images become RGB as Pillow converts them. For other
channels, and more bits by a stated rule, see `exfuse.data.bands`.
"""

import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from exfuse.errors import DataError
from exfuse.palette import VOID

T = TypeVar("T")
FORMATS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}  # of images, by the ends of their names
_MOST = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # pixels, Pillow's own limit
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # from half of them on
ORIENTATION = 0x0112  # EXIF's tag, and a TIFF's
_BITS, _SAMPLES, _EXTRA = 258, 277, 338  # a TIFF's tags: of each channel, and what those beyond colours are
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACK = {6: 8, 8: 6}  # the others undo themselves
_ENDS, _TAIL = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}, 16  # marks of a whole file, among its last bytes
_HEAD_OF_JPEG_2000 = 2**16  # bytes that hold what says how its pixels are coded
_LOSSLESS = {"PNG", "BMP", "TIFF", "GIF", "PPM", "TGA"}
RESTORE = "Restore the file from its source, or leave it out."


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """What the content of a file says.

    Attributes:
        size: width and height of the pixels as they are stored.
        orientation: EXIF's, 1 to 8; 1 where it says nothing.
        problem: why it cannot be used, behind the file's name; empty if it can.
        counts: of a mask, pixels by id.
        colours: of a palette mask, 0xRRGGBB by id that occurs.
    """

    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    problem: str = ""
    counts: dict[int, int] = {}
    colours: dict[int, int] = {}


class Unfit(Exception):
    """Says what is wrong with a file, behind its name."""


def look_through_image(path: Path) -> Facts:
    """What the header of an image says, and whether the file is whole: it is decoded unless its last bytes say so.

    Raises:
        DataError: if the file system refuses it.
    """

    def look(image: ImageFile.ImageFile) -> Facts:
        facts = _image_facts(image, path)
        end = _ENDS.get(image.format or "")
        if end is None or end not in _last_bytes(path):
            image.load()
        return facts

    return _facts(path, look)


def _last_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read()


def look_at_mask(path: Path) -> Facts:
    """What a mask holds, all of its pixels.

    Raises:
        DataError: if the file system refuses it.
    """
    return _facts(path, lambda image: _mask_facts(image, path))


def read_image(path: Path, upright: bool = False) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB.

    Args:
        path: of the image.
        upright: turn a photograph as its camera says; else its pixels come as they are stored.

    Raises:
        DataError: if the file cannot be decoded, or not without loss.
    """

    def decode(image: ImageFile.ImageFile) -> np.ndarray:
        orientation = _image_facts(image, path).orientation
        turned = image.format == "TIFF"  # Pillow turns these when it decodes them
        pixels: Image.Image = image.convert("RGB")
        if orientation > 1 and turned != upright:
            pixels = pixels.transpose(TURNS[_BACK.get(orientation, orientation) if turned else orientation])
        return np.asarray(pixels)

    return or_data_error(path, decode)


def image_size(path: Path, upright: bool = False) -> tuple[int, int]:
    """Width and height of what `read_image` gives, from the header.

    Raises:
        DataError: if the file is no such image.
    """
    facts = or_data_error(path, lambda image: _image_facts(image, path))
    return turned_size(facts) if upright else facts.size


def turned_size(facts: Facts) -> tuple[int, int]:
    """Width and height of an image turned upright."""
    return facts.size[::-1] if facts.orientation > 4 else facts.size


def read_mask(path: Path, classes: int, void_ids: Sequence[int] = (VOID,), ids: Sequence[int] = ()) -> np.ndarray:
    """Read a palette or grey-scale mask as (H, W) uint8 ids, void as 255.

    Args:
        path: of the mask.
        classes: how many there are.
        void_ids: ids in the file that mean void.
        ids: of the classes in the file, in their order; empty where these are 0..C-1.

    Raises:
        DataError: if the file cannot be decoded, holds no ids, or one that is neither a class nor void.
    """

    def decode(image: ImageFile.ImageFile) -> np.ndarray:
        _refuse_what_is_no_mask(image, path)
        return np.array(image)

    mask = or_data_error(path, decode)
    present = np.zeros(256, dtype=bool)
    present[mask] = True
    if problem := unknown_ids(np.flatnonzero(present).tolist(), classes, void_ids, ids):
        raise DataError(f"{path} {problem}")
    table = class_table(classes, void_ids, ids)
    return mask if np.array_equal(table[present], np.flatnonzero(present)) else table[mask]


def class_table(classes: int, void_ids: Sequence[int], ids: Sequence[int]) -> np.ndarray:
    """(256,) uint8, the class of each id in a mask file; 255 for void and for what is neither. See `read_mask`."""
    table = np.full(256, VOID, np.uint8)
    table[[*(ids or range(classes))]] = range(classes)
    table[[*void_ids]] = VOID
    return table


def unknown_ids(found: Sequence[int], classes: int, void_ids: Sequence[int], ids: Sequence[int] = ()) -> str:
    """What to say of ids that are neither class nor void; empty if there is none."""
    if unknown := sorted({*found} - {*(ids or range(classes)), VOID, *void_ids}):
        known = f"{classes} classes {', '.join(map(str, ids))}" if ids else f"{classes} classes 0..{classes - 1}"
        return (
            f"holds the ids {unknown}, but there are only the {known} and void "
            f"{sorted({VOID, *void_ids})}. Correct the mask or the data config's class list, or say which ids the classes have "
            "(data.ids)."
        )
    return ""


def _facts(path: Path, look: Callable[[ImageFile.ImageFile], Facts]) -> Facts:
    try:
        with opened(path) as image:
            return look(image)
    except Unfit as unfit:
        return Facts(problem=str(unfit))


def or_data_error(path: Path, work: Callable[[ImageFile.ImageFile], T]) -> T:
    """What ``work`` makes of an opened image.

    Raises:
        DataError: if the file cannot be decoded, or ``work`` finds it unfit.
    """
    try:
        with opened(path) as image:
            return work(image)
    except Unfit as unfit:
        raise DataError(f"{path} {unfit}") from unfit


@contextmanager
def opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """An image whose header Pillow has read; whatever it stumbles over inside says what is wrong with the file.

    Raises:
        Unfit: if it cannot be decoded.
        DataError: if the file system refuses it, or it does not fit into memory.
    """
    try:
        with Image.open(path) as image:
            yield image
    except Unfit:
        raise
    except UnidentifiedImageError as error:
        raise Unfit(f"cannot be decoded: it is not an image ({error}). {RESTORE}") from error
    except Image.DecompressionBombError as error:
        raise Unfit(f"has more than the {_MOST:,} pixels that an image may have. Scale it down, or cut it up.") from error
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory. Scale it down, or cut it up.") from error
    except Exception as error:  # a broken file makes Pillow raise whatever its parsers stumble over
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{path} cannot be read ({error.strerror}).") from error
        raise Unfit(f"cannot be decoded ({error}). {RESTORE}") from error


def _image_facts(image: ImageFile.ImageFile, path: Path) -> Facts:
    if image.mode[0] in "IF" or is_deep(image):
        raise Unfit(
            "has more than 8 bits a channel, which would be cut off. Convert it to 8 bits by a rule that fits it, or "
            "state one: data=folder data.range=[LOW,HIGH]."
        )
    if image.format == "TIFF" and 0 in image.tag_v2.get(_EXTRA, ()):  # type: ignore[attr-defined]
        raise Unfit(
            "has a channel that it does not call an alpha, which would be left out. State how many are read: data=folder "
            f"data.channels={image.tag_v2.get(_SAMPLES)}, or save it without."  # type: ignore[attr-defined]
        )
    refuse_frames(image)
    facts = Facts(image.size, orientation_of(image, path))
    # Pillow announces a TIFF's size as it will be once it is turned
    return Facts(turned_size(facts), facts.orientation) if image.format == "TIFF" else facts


def _mask_facts(image: ImageFile.ImageFile, path: Path) -> Facts:
    _refuse_what_is_no_mask(image, path)
    size, ids = image.size, np.asarray(image)
    counts = np.bincount(ids.ravel(), minlength=256)
    used = np.flatnonzero(counts).tolist()
    palette = (image.getpalette("RGB") or []) if image.mode == "P" else []
    colours = {id: int.from_bytes(bytes(palette[3 * id : 3 * id + 3]), "big") for id in used if 3 * id + 2 < len(palette)}
    return Facts(size, counts={id: int(counts[id]) for id in used}, colours=colours)


def _refuse_what_is_no_mask(image: ImageFile.ImageFile, path: Path) -> None:
    save = "Save masks as 8-bit palette or grey-scale PNG whose pixel values are the class ids."
    if image.mode not in ("P", "L"):
        raise Unfit(f"is a mask in PIL mode {image.mode}: expected class ids (mode P or L), not colours. {save}")
    if image.mode == "L" and (raw := raw_mode(image)) not in ("L", ""):
        raise Unfit(f"is a mask of grey levels that are scaled when they are read ({raw}): ids would change. {save}")
    if image.format not in _LOSSLESS or image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp"):
        raise Unfit(f"is a mask compressed as {image.format} does photographs: ids are blurred. {save}")
    refuse_frames(image)
    if orientation_of(image, path) > 1:
        raise Unfit(f"is a mask with an EXIF orientation, which programs follow or do not. Remove it. {save}")


def refuse_frames(image: ImageFile.ImageFile) -> None:
    """Refuse several images in one file.

    Raises:
        Unfit: if there are.
    """
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:  # an MPO is a photograph and its previews
        raise Unfit(f"holds {frames} frames, expected one image. Save each in a file of its own.")


def is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether an image of colours has more than 8 bits a channel in its file, which Pillow may cut off without a word."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS, 1)  # type: ignore[attr-defined]
        return bool(max(bits if isinstance(bits, tuple) else (bits,)) > 8)
    if image.format == "PPM" and image.tile:
        arguments = image.tile[0].args
        return isinstance(arguments, tuple) and isinstance(arguments[-1], int) and arguments[-1] > 255  # its brightest value
    if image.format == "JPEG2000":
        return bits_of_jpeg_2000(image) > 8
    raw = raw_mode(image)
    return ";16" in raw and not raw.startswith("BGR;16")  # 5, 6 and 5 bits, of a BMP


def bits_of_jpeg_2000(image: ImageFile.ImageFile) -> int:
    """Of the deepest channel, from the marker SIZ with which a codestream begins; 0 where the file is closed or has none."""
    if (file := image.fp) is None:
        return 0
    place = file.tell()
    file.seek(0)
    head = file.read(_HEAD_OF_JPEG_2000)
    file.seek(place)
    if (start := head.find(b"\xff\x4f\xff\x51")) < 0:
        return 0
    channels = int.from_bytes(head[start + 40 : start + 42], "big")
    return max((1 + (bits & 0x7F) for bits in head[start + 42 : start + 42 + 3 * channels : 3]), default=0)


def raw_mode(image: ImageFile.ImageFile) -> str:
    """How pixels are packed in the file, such as ``L;4``; empty where Pillow does not say."""
    arguments = image.tile[0].args if image.tile else None
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def orientation_of(image: ImageFile.ImageFile, path: Path) -> int:
    """EXIF's, 1 to 8; 1 where it says nothing."""
    if image.format == "PNG" and not {"exif", "XML:com.adobe.xmp"} & {*image.info} and not _png_has_exif(path):
        return 1  # Pillow would decode all of it to know
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # broken EXIF says nothing
        return 1
    return found if found in TURNS else 1


def _png_has_exif(path: Path) -> bool:
    """Whether a PNG has an EXIF chunk, which may stand behind the pixels."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"eXIf":
                return True
            file.seek(length + 4, 1)
    return False
