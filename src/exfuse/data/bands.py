"""Images of other channels than red, green and blue, or of more than 8 bits by a stated rule; once read they have 8 bits.

RGB of 8 bits, the usual, is read by `exfuse.data.pixels`. All other files are read as they are stored: arrays (``.npy``), TIFFs
of any number of bands, and what Pillow and OpenCV read. Channels come last; values of more than 8 bits need a range that
becomes 0 to 255.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile

from exfuse.data.pixels import (
    FORMATS,
    ORIENTATION,
    RESTORE,
    TURNS,
    Facts,
    Unfit,
    bits_of_jpeg_2000,
    image_size,
    is_deep,
    look_through_image,
    opened,
    or_data_error,
    orientation_of,
    read_image,
    refuse_frames,
    turned_size,
)
from exfuse.errors import DataError
from exfuse.limits import MOST

_TIFF = {".tif", ".tiff"}
_ARRAY = ".npy"
_NETPBM = {".pgm", ".ppm"}  # whose values mean something where a range says what
_OTHER_COLOURS = ("CMYK", "YCbCr", "LAB", "HSV")
_NO_BRIGHTNESS = ("PALETTE", "MINISWHITE", "CIELAB", "ICCLAB", "ITULAB")  # TIFF's photometric interpretations
_JPEG = "JPEG"  # in the name of a TIFF's compression, whose decoder gives red, green and blue
_SMALLER_OR_MASK = 0b101  # bits of its NewSubfileType: a reduced copy of the image, a mask of it
_SIXTEEN = ("RGB", "RGBA")  # Pillow would halve their bits


class MissingCodecError(DataError):
    """A TIFF is compressed by what needs a further package."""


class Bands(NamedTuple):
    """How files become channels of 8 bits.

    Attributes:
        channels: 3 for RGB, to which grey images are repeated; 1 for grey, to which colours of 8 bits are weighed as Pillow
            does; any other number must be in the file.
        range: the values that become 0 and 255; those between are rounded to the nearest step, those outside are cut. None for
            files of 8 bits, which stay as they are.
    """

    channels: int = 3
    range: tuple[float, float] | None = None

    @property
    def problem(self) -> str:
        """Why nothing can be read so; empty if it can."""
        channels, span = self.channels, [*self.range] if isinstance(self.range, tuple) else self.range
        if not isinstance(channels, Integral) or isinstance(channels, bool) or channels < 1:
            return f"channels={channels!r}: expected a whole number from 1."
        if span is not None and not (isinstance(span, list) and len(span) == 2 and all(map(_is_number, span))):
            return f"range={span!r}: expected [LOW,HIGH], the values that become 0 and 255, or null."
        if span is not None and span[0] >= span[1]:
            return f"range={span}: expected [LOW,HIGH], the first smaller."
        return ""

    @property
    def plain(self) -> "Bands":
        """The same in Python's own numbers, of which manifests are made."""
        one, *span = (value.item() if hasattr(value, "item") else value for value in (self.channels, *(self.range or ())))
        return Bands(one, (span[0], span[1]) if span else None)

    @property
    def usual(self) -> bool:
        return self == RGB

    @property
    def formats(self) -> set[str]:
        """Ends of the names of images that are read."""
        return FORMATS if self.usual else {*FORMATS, _ARRAY, *(_NETPBM if self.range else ())}

    def read(self, path: Path, upright: bool = False) -> np.ndarray:
        """An image as (H, W, channels) uint8.

        Args:
            path: of the image.
            upright: see `read_image`; arrays come as they are stored, and no such TIFF is to be turned.

        Raises:
            DataError: if the file cannot be decoded, has other channels, or values for which no range is stated.
        """
        if self.usual:
            return read_image(path, upright)
        return or_unfit(path, lambda: self.eight_bits(_stored(path, upright, self)))

    def size(self, path: Path, upright: bool = False) -> tuple[int, int]:
        """Width and height of what `read` gives."""
        if self.usual:
            return image_size(path, upright)
        facts = _header(path)
        return turned_size(facts) if upright else facts.size

    def look(self) -> Callable[[Path], Facts]:
        """What looks at an image of such bands, under a name of its own; see `exfuse.data.contents.contents`."""
        if self.usual:
            return look_through_image

        def look(path: Path) -> Facts:
            try:
                self.read(path)
            except MissingCodecError:
                raise  # which is no fault of the file's, and may be there tomorrow
            except DataError as error:
                return Facts(problem=str(error).removeprefix(f"{path} "))
            return _header(path)

        look.__name__ = f"look_at_bands 2 {self.channels} {self.range}"
        return look

    def eight_bits(self, image: np.ndarray) -> np.ndarray:
        """Values (H, W, C) as they are stored, as (H, W, channels) uint8.

        Raises:
            Unfit: if they are other channels, or of more bits without a range.
        """
        if (image.shape[2], self.channels, image.dtype) == (3, 1, np.uint8):
            image = np.asarray(Image.fromarray(image).convert("L"))[..., None]
        if image.shape[2] != self.channels:
            if (image.shape[2], self.channels) != (1, 3):
                raise Unfit(f"has {image.shape[2]} channels, data.channels={self.channels}. Correct one of them.")
            image = np.repeat(image, 3, axis=2)
        if self.range is None:
            if image.dtype != np.uint8:
                raise Unfit(
                    f"has values of {image.dtype}, which would be cut off. Say which of them become 0 and 255: "
                    "data.range=[LOW,HIGH]."
                )
            return np.ascontiguousarray(image)
        low, high = self.range
        if image.dtype == np.uint8 and high - low > np.iinfo(np.uint8).max:
            raise Unfit(
                f"has 8 bits a channel, which data.range=[{low:g},{high:g}] would make all but black. Store it as the others "
                "are."
            )
        wide = (image.dtype.kind in "iu" and image.dtype.itemsize > 2) or image.dtype == np.float64  # float32 has 24 bits
        values = (image.astype(np.float64 if wide else np.float32) - low) * (255 / (high - low))
        if not np.isfinite(values).all():
            raise Unfit("holds values that are no numbers. Fill them, or leave the image out.")
        return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and bool(-MOST <= value <= MOST)  # type: ignore[operator]


RGB = Bands()


def as_rgb(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) as people look at it, (H, W, 3): grey repeated, of more than three channels the first three."""
    channels = image.shape[2]
    return image if channels == 3 else image[..., [min(place, channels - 1) for place in range(3)]]


def or_unfit(path: Path, work: Callable[[], Any]) -> Any:
    """What ``work`` gives; whatever a reader stumbles over in a broken file becomes a `DataError` that names it."""
    try:
        return work()
    except Unfit as unfit:
        raise DataError(f"{path} {unfit}") from unfit
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory. Scale it down, or cut it up.") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{path} cannot be read ({error.strerror}).") from error
        raise DataError(f"{path} cannot be decoded ({error}). {RESTORE}") from error


def _header(path: Path) -> Facts:
    """What the header of an image says; arrays and TIFFs are as they are to be seen."""
    if path.suffix.lower() in {*_TIFF, _ARRAY}:
        height, width, _ = or_unfit(path, lambda: _shape(path))
        return Facts((width, height))
    return or_data_error(path, lambda image: Facts(image.size, orientation_of(image, path)))


def _stored(path: Path, upright: bool, bands: Bands) -> np.ndarray:
    """(H, W, C) of the values in a file."""
    channels = bands.channels
    if path.suffix.lower() == _ARRAY:
        values = np.load(path, allow_pickle=False)
    elif path.suffix.lower() in _TIFF:
        with _tiff(path) as series:
            try:
                values = series.asarray().transpose(_places(series.axes))
                with_alpha = {channels + 1, 4} if channels == 1 else {channels + 1}
                if values.ndim == 3 and values.shape[2] in with_alpha and {1, 2} & {*series.keyframe.extrasamples}:
                    values = values[..., :-1]
            except ValueError as error:
                if "imagecodecs" not in str(error):
                    raise
                raise MissingCodecError(f"{path} is compressed: {error}. Type pip install imagecodecs.") from error
    else:
        with opened(path) as image:
            values = _pictured(image, path, upright, channels, as_written=bands.range is not None)
    if values.dtype.kind == "b" and bands.range:  # of one bit: false and true are 0 and 1
        values = values.astype(np.uint8)
    if values.dtype.kind not in "uif":
        raise Unfit(f"holds values of {values.dtype}, expected numbers.")
    return values.reshape(_checked(values.shape))


def _pictured(image: ImageFile.ImageFile, path: Path, upright: bool, channels: int, as_written: bool) -> np.ndarray:
    refuse_frames(image)
    unscale = _unscaled(image) if as_written else None
    orientation = orientation_of(image, path) if upright else 1
    if is_deep(image) and image.mode in _SIXTEEN:
        if orientation > 1:
            raise Unfit("has 16 bits a channel and is to be turned. Save it upright, without EXIF's orientation.")
        import cv2  # here: keys of runs and tables are known without it

        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if values is None:
            raise Unfit(f"cannot be decoded. {RESTORE}")
        values = cv2.cvtColor(values, cv2.COLOR_BGR2RGB if image.mode == "RGB" else cv2.COLOR_BGRA2RGBA)
        grey = channels == 1 and str(image.tile[0][3]).startswith("LA")  # grey and alpha, which Pillow calls RGBA
        return values[..., : 1 if grey else _seen(image, channels)]
    pixels: Image.Image = image
    if image.mode in ("1", "P", "PA", "LA"):
        pixels = image.convert("RGB" if channels == 3 else "L")
    elif channels == 1 and image.mode in ("RGB", "RGBA", "CMYK", "YCbCr"):
        pixels = image.convert("L")
    elif channels in (1, 3) and image.mode in _OTHER_COLOURS:
        raise Unfit(f"holds colours as {image.mode}, which are no red, green and blue. Save it as RGB.")
    values = np.asarray(pixels.transpose(TURNS[orientation]) if orientation > 1 else pixels)
    if unscale:
        values = unscale(values)
    return values[..., : _seen(image, channels)] if pixels.mode == "RGBA" else values


def _unscaled(image: ImageFile.ImageFile) -> Callable[[np.ndarray], np.ndarray] | None:
    """What undoes Pillow's scaling of values to its own white; None where it does not scale.

    So it does with a PGM or PPM of another brightest value, grey of 2 or 4 bits, and JPEG 2000 of bits that fill no byte.
    """
    if image.format == "JPEG2000":
        bits = bits_of_jpeg_2000(image)
        return (lambda values: values >> -bits % 8) if bits % 8 else None
    if not image.tile:  # as of a WebP before it is read
        return None
    codec, _, _, stated = image.tile[0]
    largest = {"L;2": 3, "L;4": 15}.get(str(stated), 0)
    if image.format == "PPM" and codec.startswith("ppm") and isinstance(stated, tuple) and isinstance(stated[1], int):
        largest = stated[1]

    def unscale(values: np.ndarray) -> np.ndarray:
        white = np.iinfo(np.uint8 if values.dtype == np.uint8 else np.uint16).max
        return np.rint(values * (largest / white)).astype(values.dtype)

    return unscale if largest else None


def is_scaled(image: Image.Image) -> bool:
    """Whether Pillow scales the values of an image's file, see `_unscaled`, or has done so."""
    if image.format == "PPM" or not isinstance(image, ImageFile.ImageFile):
        return image.format == "PPM"
    if image.fp is None and image.filename:  # it is read, and only its file still says it
        with suppress(OSError), Image.open(image.filename) as unread:
            return _unscaled(unread) is not None
    return _unscaled(image) is not None


def _seen(image: ImageFile.ImageFile, channels: int) -> int | None:
    """How many channels count: all, but an alpha beside three that are wanted."""
    return 3 if image.mode == "RGBA" and channels == 3 else None


def _shape(path: Path) -> tuple[int, int, int]:
    """(H, W, C) from the header of an array or TIFF."""
    if path.suffix.lower() == _ARRAY:
        return _checked(np.load(path, mmap_mode="r", allow_pickle=False).shape)
    with _tiff(path) as series:
        return _checked([series.shape[place] for place in _places(series.axes)])


def _checked(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) not in (2, 3) or 0 in shape:
        raise Unfit(f"is of shape {tuple(shape)}, expected (height, width) or (height, width, channels).")
    return (*shape, 1)[:3]  # type: ignore[return-value]


@contextmanager
def _tiff(path: Path) -> Iterator[Any]:
    import tifffile  # which only such images need

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        if others := [one for one in file.series[1:] if not one.keyframe.subfiletype & _SMALLER_OR_MASK]:
            raise Unfit(f"holds {1 + len(others)} images of unlike sizes, expected one. Save each in a file of its own.")
        kind, packed = (getattr(one, "name", "") for one in (series.keyframe.photometric, series.keyframe.compression))
        if kind in _NO_BRIGHTNESS or (kind == "YCBCR" and _JPEG not in packed):
            raise Unfit(f"is a TIFF of {kind}, whose numbers are no brightness. Save it as RGB, or as grey with 0 for black.")
        if (tag := series.keyframe.tags.get(ORIENTATION)) is not None and tag.value > 1:
            raise Unfit(f"is a TIFF to be turned (orientation {tag.value}), which programs do or do not. Save it upright.")
        yield series


def _places(axes: str) -> list[int]:
    """The places of a TIFF's axes with channels last, which may be samples, planes or pages."""
    others = [place for place, axis in enumerate(axes) if axis not in "YX"]
    if len(others) > 1 or "Y" not in axes or "X" not in axes:
        raise Unfit(f"has the axes {axes}, expected rows, columns and channels.")
    return [axes.index("Y"), axes.index("X"), *others]
