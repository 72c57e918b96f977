"""Whatever would be read by halves, turned or shifted is refused by name, or converted by a rule that is written down."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exfuse.data.folder import read_folder
from exfuse.data.pixels import image_size, look_at_mask, look_through_image, read_image, read_mask
from exfuse.data.split import check_disjoint
from exfuse.errors import DataError
from exfuse.palette import voc_palette

CLASSES = ["ground", "tree", "house"]
SIZE = (14, 10)  # width and height


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8))


def ids(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, SIZE[::-1], dtype=np.uint8)


def save_turned(path: Path, orientation: int, image: Image.Image | None = None) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    (image or picture()).save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def write_png(path: Path, side: tuple[int, int], bits: int, colour: int, row: bytes, rows: int) -> None:
    """A PNG that Pillow would not write."""
    header = struct.pack(">IIBBBBB", *side, bits, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress((b"\0" + row) * rows)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))


def huge_png(path: Path) -> None:
    write_png(path, (60000, 60000), 8, 0, b"", 1)


def few_bits_png(path: Path, bits: int) -> None:
    write_png(path, SIZE, bits, 0, b"\x01" * -(-SIZE[0] * bits // 8), SIZE[1])


def deep_rgb_png(path: Path) -> None:
    write_png(path, SIZE, 16, 2, b"\x01\x02" * 3 * SIZE[0], SIZE[1])


LOSSY_IMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "16-bit grey PNG": ("x.png", lambda path: Image.fromarray(ids().astype(np.uint16) * 300).save(path), "8 bits a channel"),
    "16-bit grey TIFF": ("x.tif", lambda path: Image.fromarray(ids().astype(np.uint16) * 300).save(path), "8 bits a channel"),
    "32-bit TIFF": ("x.tif", lambda path: Image.fromarray(ids().astype(np.int32) * 300).save(path), "8 bits a channel"),
    "fractions": ("x.tif", lambda path: Image.fromarray(ids().astype(np.float32) / 3).save(path), "8 bits a channel"),
    "16-bit RGB PNG": ("x.png", deep_rgb_png, "8 bits a channel"),
    "bomb": ("x.png", huge_png, "pixels that an image may have"),
    "two frames": ("x.tif", lambda path: picture().save(path, save_all=True, append_images=[picture(1)]), "2 frames"),
    "animation": ("x.webp", lambda path: picture().save(path, save_all=True, append_images=[picture(1)]), "2 frames"),
    "cut short": ("x.png", lambda path: (picture().save(path), path.write_bytes(path.read_bytes()[:20])), "cannot be decoded"),
    "text": ("x.png", lambda path: path.write_text("<html>404</html>"), "cannot be decoded"),
    "nothing": ("x.png", lambda path: path.write_bytes(b""), "cannot be decoded"),
}
BAD_MASKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "colours": (lambda path: picture().save(path), "PIL mode RGB"),
    "colours with alpha": (lambda path: picture().convert("RGBA").save(path), "PIL mode RGBA"),
    "grey with alpha": (lambda path: Image.fromarray(ids()).convert("LA").save(path), "PIL mode LA"),
    "16 bits": (lambda path: Image.fromarray(ids().astype(np.uint16)).save(path), "PIL mode I;16"),
    "one bit": (lambda path: Image.fromarray(ids() > 0).save(path), "PIL mode 1"),
    "4-bit grey": (lambda path: few_bits_png(path, 4), "ids would change"),
    "2-bit grey": (lambda path: few_bits_png(path, 2), "ids would change"),
    "JPEG inside": (lambda path: Image.fromarray(ids()).save(path, format="JPEG"), "ids are blurred"),
    "turned": (lambda path: save_turned(path, 6, Image.fromarray(ids())), "EXIF orientation"),
    "bomb": (huge_png, "pixels that an image may have"),
    "cut short": (lambda path: (Image.fromarray(ids()).save(path), path.write_bytes(path.read_bytes()[:60])), "decoded"),
    "text": (lambda path: path.write_text("no"), "cannot be decoded"),
    "unknown id": (lambda path: Image.fromarray(ids() + np.uint8(7)).save(path), "holds the ids [7, 8, 9]"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images a split, in VOC's colours."""
    for split, seeds in (("train", (1, 2, 3)), ("val", (4, 5, 6))):
        for part in ("images", "labels"):
            (tmp_path / "mine" / split / part).mkdir(parents=True)
        for name, seed in zip("abc", seeds, strict=True):
            picture(seed).save(tmp_path / "mine" / split / "images" / f"{name}.png")
            save_palette_mask(tmp_path / "mine" / split / "labels" / f"{name}.png", ids(seed), voc_palette())
    return tmp_path / "mine"


def save_palette_mask(path: Path, labels: np.ndarray, palette: np.ndarray) -> None:
    mask = Image.fromarray(labels)
    mask.putpalette(palette.tobytes())
    mask.save(path)


@pytest.mark.parametrize("kind", LOSSY_IMAGES)
def test_an_image_that_would_be_read_by_halves_is_refused_by_name_before_anything_trains(root: Path, kind: str) -> None:
    name, damage, says = LOSSY_IMAGES[kind]
    (root / "train" / "images" / "b.png").rename(root / "train" / "images" / Path(name).with_stem("b"))
    path = root / "train" / "images" / Path(name).with_stem("b")
    damage(path)
    for read in (lambda: read_image(path), lambda: image_size(path), lambda: read_folder(root, "train", CLASSES)):
        with pytest.raises(DataError) as refusal:
            read()
        assert str(path) in str(refusal.value)
        assert says in str(refusal.value)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["b.jpg", "b.png", "b.bmp", "b.webp", "b.tif"])
def test_an_image_that_was_cut_short_is_refused_before_anything_trains(root: Path, name: str) -> None:
    path = root / "train" / "images" / name
    (root / "train" / "images" / "b.png").unlink()
    picture().resize((140, 100)).save(path)
    Image.fromarray(np.zeros((100, 140), np.uint8)).save(root / "train" / "labels" / "b.png")
    read_folder(root, "train", CLASSES)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(99))  # which no decoder minds
    assert look_through_image(path).problem == ""
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match=f"{name} cannot be decoded"):
        read_folder(root, "train", CLASSES)


@pytest.mark.parametrize("kind", BAD_MASKS)
def test_a_mask_whose_ids_would_be_others_is_refused_by_name_before_anything_trains(root: Path, kind: str) -> None:
    damage, says = BAD_MASKS[kind]
    path = root / "val" / "labels" / "c.png"  # the last of val, which a training would meet last
    damage(path)
    for read in (lambda: read_mask(path, 3), lambda: read_folder(root, "val", CLASSES)):
        with pytest.raises(DataError) as refusal:
            read()
        assert str(path) in str(refusal.value)
        assert says in str(refusal.value)


def test_of_several_bad_files_one_is_named_and_all_are_counted(root: Path) -> None:
    for name in "abc":
        (root / "train" / "labels" / f"{name}.png").write_text("no")
    with pytest.raises(DataError, match=r"labels/a\.png cannot be decoded.* 2 more of its files cannot be used either\."):
        read_folder(root, "train", CLASSES)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_is_stored_or_upright_as_asked_in_every_format(tmp_path: Path, suffix: str, orientation: int) -> None:
    blocks = np.kron(np.arange(6).reshape(2, 3)[..., None] * np.array([40, 20, 10]), np.ones((8, 8, 1))).astype(np.uint8)
    path, plain = tmp_path / f"x{suffix}", tmp_path / f"plain{suffix}"
    save_turned(path, orientation, Image.fromarray(blocks))
    Image.fromarray(blocks).save(plain, **({"quality": 95} if suffix == ".jpg" else {}))
    stored = np.asarray(Image.open(plain).convert("RGB"))
    by_definition = {  # of EXIF: where the row and the column 0 are to be seen
        **{1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1]},
        **{5: stored.swapaxes(0, 1), 6: np.rot90(stored, -1), 7: np.rot90(stored, 2).swapaxes(0, 1), 8: np.rot90(stored)},
    }[orientation]
    np.testing.assert_array_equal(read_image(path), stored)
    np.testing.assert_array_equal(read_image(path, upright=True), by_definition)
    assert image_size(path) == stored.shape[1::-1]
    assert image_size(path, upright=True) == by_definition.shape[1::-1]
    assert look_through_image(path).orientation == orientation


def test_an_orientation_behind_the_pixels_of_a_png_is_found(tmp_path: Path) -> None:
    save_turned(tmp_path / "x.png", 3)
    content = (tmp_path / "x.png").read_bytes()
    start = content.index(b"eXIf") - 4
    length = 12 + struct.unpack(">I", content[start : start + 4])[0]
    chunk, end = content[start : start + length], content.index(b"IEND") - 4
    (tmp_path / "x.png").write_bytes(content[:start] + content[start + length : end] + chunk + content[end:])
    assert look_through_image(tmp_path / "x.png").orientation == 3


def test_where_masks_were_drawn_is_asked_and_then_one_rule_for_all(root: Path) -> None:
    image, mask = root / "train" / "images" / "b.png", root / "train" / "labels" / "b.png"
    save_turned(image, 3)
    with pytest.raises(DataError, match=r"b\.png is to be turned.*orientation 3.*data\.orientation=stored or upright"):
        read_folder(root, "train", CLASSES)
    stored, upright = (read_folder(root, "train", CLASSES, orientation=rule) for rule in ("stored", "upright"))
    np.testing.assert_array_equal(upright.image(1), stored.image(1)[::-1, ::-1])
    np.testing.assert_array_equal(upright.image(0), stored.image(0))  # which says nothing
    assert upright.manifest() != stored.manifest()  # other numbers
    assert read_folder(root, "val", CLASSES, orientation="stored").manifest() == read_folder(root, "val", CLASSES).manifest()
    save_turned(image, 6)  # the mask now fits one of both alone
    with pytest.raises(DataError, match=r"orientation 6\); 14x10, its mask fits it only so: data\.orientation=stored"):
        read_folder(root, "train", CLASSES)
    with pytest.raises(DataError, match=r"only so: data\.orientation=stored"):
        read_folder(root, "train", CLASSES, orientation="upright")
    save_palette_mask(mask, ids().T.copy(), voc_palette())
    with pytest.raises(DataError, match=r"only so: data\.orientation=upright"):
        read_folder(root, "train", CLASSES, orientation="stored")
    turned = read_folder(root, "train", CLASSES, orientation="upright")
    assert turned.size(1) == (10, 14) == turned.mask(1).shape[::-1] == turned.image(1).shape[1::-1]


def quantised(path: Path, method: Image.Quantize) -> None:
    """As an image editor saves it: the same colours, in an order of its own."""
    Image.open(path).convert("RGB").quantize(colors=8, method=method).save(path)


@pytest.mark.parametrize("method", [Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE, Image.Quantize.FASTOCTREE])
@pytest.mark.parametrize("files", ["b", "abc"])
def test_masks_whose_palette_puts_classes_in_another_order_are_refused(root: Path, files: str, method: Image.Quantize) -> None:
    meant = read_mask(root / "train" / "labels" / "b.png", 3)
    for name in files:
        quantised(root / "train" / "labels" / f"{name}.png", method)
    assert not np.array_equal(np.asarray(Image.open(root / "train" / "labels" / "b.png")), meant)
    with pytest.raises(DataError, match=r"labels/[abc]\.png (shows id|holds the ids)"):
        read_folder(root, "train", CLASSES)


def test_masks_of_val_are_held_against_those_of_train(root: Path) -> None:
    own = voc_palette()[[0, 60, 70, *range(3, 256)]]
    for split, palette in (("train", own), ("val", own[[0, 2, 1, *range(3, 256)]])):
        for name in "abc":
            path = root / split / "labels" / f"{name}.png"
            save_palette_mask(path, read_mask(path, 3), palette)
    train, val = (read_folder(root, split, CLASSES) for split in ("train", "val"))  # each agrees with itself
    with pytest.raises(DataError, match=r"val/labels/a\.png shows id 1 as .*train/labels/a\.png as"):
        check_disjoint(train, val)


@pytest.mark.parametrize("palette", ["grey", "own", "none", "black"])
def test_palettes_that_say_nothing_or_agree_are_taken(root: Path, palette: str) -> None:
    before = [read_folder(root, split, CLASSES).mask(0) for split in ("train", "val")]
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    chosen = {"grey": ramp, "own": np.random.default_rng(1).permutation(ramp), "black": np.zeros_like(ramp)}
    for path in sorted(root.glob("*/labels/*.png")):
        labels = read_mask(path, 3)
        if palette == "none":
            Image.fromarray(labels).save(path)
        else:
            save_palette_mask(path, labels, chosen[palette])
    splits = [read_folder(root, split, CLASSES) for split in ("train", "val")]
    check_disjoint(*splits)
    for split, mask in zip(splits, before, strict=True):
        np.testing.assert_array_equal(split.mask(0), mask)


def test_what_is_known_of_a_mask_is_what_its_pixels_are(root: Path) -> None:
    path = root / "train" / "labels" / "a.png"
    facts, labels = look_at_mask(path), np.asarray(Image.open(path))
    assert facts.size == SIZE
    assert facts.counts == {id: int((labels == id).sum()) for id in range(3)}
    assert facts.colours == {0: 0x000000, 1: 0x800000, 2: 0x008000}


@pytest.mark.parametrize("bands", [2, 4, 5])
def test_a_channel_of_a_tiff_that_is_called_no_alpha_is_not_left_out(tmp_path: Path, bands: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = np.random.default_rng(0).integers(0, 255, (10, 14, bands), dtype=np.uint8)
    colours = 1 if bands == 2 else 3
    kind = {"photometric": "minisblack" if colours == 1 else "rgb", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "x.tif", pixels, extrasamples=["unspecified"] * (bands - colours), **kind)
    assert f"data.channels={bands}" in look_through_image(tmp_path / "x.tif").problem
    with pytest.raises(DataError, match="does not call an alpha"):
        read_image(tmp_path / "x.tif")
    tifffile.imwrite(tmp_path / "y.tif", pixels[..., : colours + 1], extrasamples=["unassalpha"], **kind)
    assert look_through_image(tmp_path / "y.tif").problem == ""
