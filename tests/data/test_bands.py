"""Images of other channels than RGB and of more than 8 bits: files against a plain reading of their rule, and a whole run."""

import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import timm
import torch
from PIL import Image

import exfuse
from exfuse.composition.reading import read_labelled_split
from exfuse.composition.segmentation import build_eval_transform
from exfuse.data.bands import RGB, Bands, as_rgb
from exfuse.data.contents import contents
from exfuse.data.folder import read_folder
from exfuse.data.pixels import read_image
from exfuse.data.transforms import TrainTransform
from exfuse.errors import ConfigError, DataError
from exfuse.exporting.command import export
from exfuse.models.backbone import Backbone
from exfuse.models.weights import load_backbone_weights, weights_normalisation
from exfuse.runs.prediction import predict
from exfuse.runs.training import train
from exfuse.store.description import RunDescription
from tests.small_runs import only_run

RNG = np.random.default_rng(0)
EIGHT = RNG.integers(0, 256, (12, 17, 5), np.uint8)
SIXTEEN = RNG.integers(0, 65536, (12, 17, 5), np.uint16)


def by_the_rule(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255)


def saved(folder: Path, name: str) -> tuple[Path, np.ndarray]:
    """A file and what is stored in it, (H, W, C)."""
    path = folder / name
    if name == "eight.npy":
        np.save(path, EIGHT)
    elif name == "grey.npy":
        np.save(path, SIXTEEN[..., 0])
        return path, SIXTEEN[..., :1]
    elif name == "real.npy":
        np.save(path, SIXTEEN / 65535)
        return path, SIXTEEN / 65535
    elif name == "planes.tif":
        tifffile.imwrite(path, SIXTEEN.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate")
        return path, SIXTEEN
    elif name == "samples.tiff":
        tifffile.imwrite(path, SIXTEEN, photometric="minisblack", planarconfig="contig")
        return path, SIXTEEN
    elif name == "pages.tif":
        tifffile.imwrite(path, SIXTEEN.transpose(2, 0, 1), photometric="minisblack")
        return path, SIXTEEN
    elif name == "grey16.png":
        Image.fromarray(SIXTEEN[..., 0]).save(path)
        return path, SIXTEEN[..., :1]
    elif name == "rgb16.png":
        cv2.imwrite(str(path), SIXTEEN[..., 2::-1])
        return path, SIXTEEN[..., :3]
    else:
        Image.fromarray(EIGHT[..., :4], "RGBA").save(path)
        return path, EIGHT[..., :4]
    return path, EIGHT


@pytest.mark.parametrize(
    "name",
    ["eight.npy", "grey.npy", "real.npy", "planes.tif", "samples.tiff", "pages.tif", "grey16.png", "rgb16.png", "rgba.png"],
)
def test_a_file_is_read_by_the_stated_rule(tmp_path: Path, name: str) -> None:
    path, stored = saved(tmp_path, name)
    low, high = (0.1, 0.9) if name == "real.npy" else (1000, 40000) if stored.dtype == np.uint16 else (10, 200)
    bands = Bands(stored.shape[2], (low, high))
    read = bands.read(path)
    assert read.dtype == np.uint8
    assert np.abs(read.astype(float) - by_the_rule(stored, low, high)).max() <= (1 if name == "real.npy" else 0)
    assert bands.size(path) == (17, 12) == bands.look()(path).size
    if stored.dtype == np.uint8:
        assert np.array_equal(Bands(stored.shape[2]).read(path), stored)
    else:
        with pytest.raises(DataError, match=rf"{name} has (values of|more than 8 bits).*data\.range=\[LOW,HIGH\]"):
            Bands(stored.shape[2]).read(path)
    with pytest.raises(DataError, match=rf"{name} has {stored.shape[2]} channels, data\.channels=7"):
        Bands(7, (low, high)).read(path)


def test_a_picture_of_other_colours_is_not_taken_for_rgb(tmp_path: Path) -> None:
    Image.fromarray(EIGHT[..., :3]).convert("CMYK").save(tmp_path / "print.jpg")
    with pytest.raises(DataError, match=r"print\.jpg holds colours as CMYK.*Save it as RGB"):
        Bands(3, (0, 255)).read(tmp_path / "print.jpg")
    assert Bands(4, (0, 255)).read(tmp_path / "print.jpg").shape == (12, 17, 4)


def test_a_tiff_of_colours_with_16_bits_is_refused_however_its_planes_lie(tmp_path: Path) -> None:
    """Pillow reads the first half of each plane as 8 bits."""
    for kind, values in (("separate", SIXTEEN[..., :3].transpose(2, 0, 1)), ("contig", SIXTEEN[..., :3])):
        tifffile.imwrite(tmp_path / f"{kind}.tif", values, photometric="rgb", planarconfig=kind)
        with pytest.raises(DataError, match=r"has more than 8 bits a channel"):
            RGB.read(tmp_path / f"{kind}.tif")
        read = Bands(3, (0, 65535)).read(tmp_path / f"{kind}.tif")
        assert np.array_equal(read, by_the_rule(SIXTEEN[..., :3], 0, 65535))


def test_what_a_tiff_says_of_its_numbers_counts(tmp_path: Path) -> None:
    grey, path = EIGHT[..., 0], tmp_path / "a.tif"
    tifffile.imwrite(path, grey, photometric="miniswhite")
    with pytest.raises(DataError, match=r"a\.tif is a TIFF of MINISWHITE.*0 for black"):
        Bands(1).read(path)
    tifffile.imwrite(path, grey, photometric="palette", colormap=np.zeros((3, 256), np.uint16))
    with pytest.raises(DataError, match=r"is a TIFF of PALETTE"):
        Bands(1).read(path)
    Image.fromarray(EIGHT[..., :3]).convert("LAB").save(path)
    for bands in (Bands(1), Bands(3, (0, 255))):
        with pytest.raises(DataError, match=r"is a TIFF of CIELAB"):
            bands.read(path)
    with tifffile.TiffWriter(path) as writer:
        writer.write(grey[:4, :4])
        writer.write(grey)
    with pytest.raises(DataError, match=r"holds 2 images of unlike sizes"):
        Bands(1, (0, 255)).read(path)
    with tifffile.TiffWriter(path) as writer:
        writer.write(grey)
        writer.write(grey[::2, ::2], subfiletype=1)  # a reduced copy
    assert np.array_equal(Bands(1, (0, 255)).read(path)[..., 0], grey)
    tifffile.imwrite(path, EIGHT, photometric="minisblack", extratags=[(274, "H", 1, 3, True)])
    with pytest.raises(DataError, match=r"is a TIFF to be turned \(orientation 3\)"):
        Bands(5).read(path)
    tifffile.imwrite(path, EIGHT[..., :3], photometric="rgb")
    assert np.array_equal(Bands(1).read(path)[..., 0], np.asarray(Image.fromarray(EIGHT[..., :3]).convert("L")))


def test_only_an_alpha_is_left_out(tmp_path: Path) -> None:
    four = EIGHT[..., :4]
    tifffile.imwrite(tmp_path / "alpha.tif", four, photometric="rgb", extrasamples=["unassalpha"])
    Image.fromarray(four, "RGBA").save(tmp_path / "alpha.png")
    for name in ("alpha.tif", "alpha.png"):
        assert np.array_equal(Bands(3, (0, 255)).read(tmp_path / name), four[..., :3])
        assert np.array_equal(Bands(1).read(tmp_path / name)[..., 0], np.asarray(Image.fromarray(four[..., :3]).convert("L")))
    np.save(tmp_path / "infrared.npy", four)
    tifffile.imwrite(tmp_path / "infrared.tif", four, photometric="minisblack", planarconfig="contig")
    for name in ("infrared.npy", "infrared.tif"):
        with pytest.raises(DataError, match=r"has 4 channels, data\.channels=3"):
            Bands(3, (0, 255)).read(tmp_path / name)


def write_png(path: Path, bits: int, colour: int, rows: list[bytes], width: int) -> None:
    """A PNG of a kind that no library here writes."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
        (b"IEND", b""),
    ]
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, body in chunks:
            file.write(struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)))


def test_an_alpha_beside_grey_of_16_bits_is_left_out(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    rows = [np.stack([row, 0 * row + 9], -1).astype(">u2").tobytes() for row in values]
    write_png(tmp_path / "a.png", 16, 4, rows, width=4)
    for channels in (1, 3):
        found = Bands(channels, (0, 65535)).read(tmp_path / "a.png")
        assert (found == np.rint(values / 257)[..., None]).all()
        assert found.shape == (3, 4, channels)


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_is_read_as_written(tmp_path: Path, bits: int) -> None:
    most = 2**bits - 1
    values = np.arange(16, dtype=np.uint8).reshape(2, 8) % (most + 1)
    packed = np.packbits(np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(2, -1), axis=1)
    write_png(tmp_path / "a.png", bits, 0, [row.tobytes() for row in packed], width=8)
    found = Bands(1, (0, most)).read(tmp_path / "a.png")[..., 0]
    assert (found == np.rint(255 / most * values)).all()
    assert (Bands(1, (0, 255)).read(tmp_path / "a.png")[..., 0] == values).all()


@pytest.mark.parametrize("bits", [4, 12])
def test_jpeg_2000_of_bits_that_fill_no_byte_is_read_as_written(tmp_path: Path, bits: int) -> None:
    """As no program at hand writes such a file, one of 8 or 16 bits says that it has fewer."""
    path, whole = tmp_path / "a.jp2", 8 if bits < 8 else 16
    most, offset = 2**bits - 1, 2 ** (whole - 1) - 2 ** (bits - 1)  # values are stored around the middle of what may be
    values = np.linspace(0, most, 64 * 64).astype(np.uint8 if bits < 8 else np.uint16).reshape(64, 64)
    Image.fromarray(values + offset).save(path, irreversible=False)
    content = bytearray(path.read_bytes())
    for mark, place in ((b"\xff\x4f\xff\x51", 42), (b"ihdr", 14)):
        content[content.find(mark) + place] = bits - 1
    path.write_bytes(content)
    assert (Bands(1, (0, most)).read(path)[..., 0] == np.rint(values * (255 / most))).all()


def test_a_tiff_of_luminance_and_colour_differences_is_not_taken_for_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(EIGHT[..., :3]).convert("YCbCr").save(path)
    for bands in (Bands(3, (0, 255)), Bands(1, (0, 255))):
        with pytest.raises(DataError, match=r"is a TIFF of YCBCR, .* Save it as RGB"):
            bands.read(path)


def test_an_array_of_one_bit_is_numbers_where_a_range_says_of_what(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(4, dtype=bool))
    assert np.array_equal(Bands(1, (0, 1)).read(tmp_path / "a.npy")[..., 0], 255 * np.eye(4))
    with pytest.raises(DataError, match="holds values of bool"):
        Bands(1).read(tmp_path / "a.npy")


@pytest.mark.parametrize("end", [".png", ".jpg", ".webp", ".bmp", ".gif", ".jp2", ".ppm", ".tga", ".tif"])
def test_a_range_is_taken_with_every_format(tmp_path: Path, end: str) -> None:
    Image.fromarray(np.full((16, 16, 3), 51, np.uint8)).save(tmp_path / f"a{end}")
    found = Bands(3, (0, 102)).read(tmp_path / f"a{end}")
    assert np.abs(found.astype(int) - 128).max() <= 5  # some formats lose a level


def test_a_plain_bitmap_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.pbm").write_bytes(b"P1\n4 1\n0 1 1 0\n")
    assert Bands(1, (0, 255)).read(tmp_path / "a.pbm")[0, :, 0].tolist() == [255, 0, 0, 255]


def test_a_problem_that_was_seen_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been the machine's: too little memory, too many open files."""
    path, _ = saved(tmp_path, "eight.npy")
    monkeypatch.setenv("EXFUSE_CACHE", str(tmp_path / "cache"))
    now = time.time_ns
    monkeypatch.setattr("exfuse.data.contents.time.time_ns", lambda: now() + 10**10)  # long after it was written
    look = Bands(5).look()

    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as small:
        small.setattr(np, "load", refuse)
        assert "does not fit into memory" in contents([path], look)[0].looks[look.__name__].problem
    assert not contents([path], look)[0].looks[look.__name__].problem


def test_a_codec_that_is_absent_is_named_and_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = saved(tmp_path, "samples.tiff")

    def refuse(_: object) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    bands = Bands(5, (0, 65535))
    with monkeypatch.context() as without:
        without.setattr(tifffile.TiffPageSeries, "asarray", refuse)
        with pytest.raises(DataError, match=r"samples\.tiff is compressed: .*LZW.* pip install imagecodecs"):
            contents([path], bands.look())
    (found,) = contents([path], bands.look())
    assert not found.looks[bands.look().__name__].problem


@pytest.mark.parametrize("kind", [np.uint32, np.int32, np.float64])
def test_a_range_far_from_zero_keeps_its_levels(tmp_path: Path, kind: type) -> None:
    low = 20_000_000
    stored = (low + np.arange(256)).astype(kind).reshape(16, 16)
    np.save(tmp_path / "x.npy", stored)
    read = Bands(1, (low, low + 255)).read(tmp_path / "x.npy")
    np.testing.assert_array_equal(read.ravel(), np.arange(256))


@pytest.mark.parametrize("most", [100, 255, 1000, 4095, 65535])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_pgm_or_ppm_is_read_as_written_whatever_it_may_hold_at_most(
    tmp_path: Path, most: int, plain: bool, channels: int
) -> None:
    """Pillow would scale its values so that ``most`` is white."""
    values = np.rint(np.linspace(0, 0.8 * most, 12)).astype(int).reshape(3, 4)
    colours = np.repeat(values.ravel(), channels)
    kind = {(False, 1): 5, (False, 3): 6, (True, 1): 2, (True, 3): 3}[plain, channels]
    body = " ".join(map(str, colours)).encode() + b"\n" if plain else colours.astype(">u2" if most > 255 else "u1").tobytes()
    path = tmp_path / ("a.pgm" if channels == 1 else "a.ppm")
    path.write_bytes(f"P{kind}\n4 3\n{most}\n".encode() + body)
    span = (0.1 * most, 0.7 * most)
    expected = np.rint(255 * np.clip((values - span[0]) / (span[1] - span[0]), 0, 1))
    for wanted in {channels, 3}:
        found = Bands(wanted, span).read(path)
        assert found.shape == (3, 4, wanted)
        assert (found == expected[..., None]).all()


def test_grey_is_weighed_as_pillow_does_and_repeated_where_three_channels_are_wanted(tmp_path: Path) -> None:
    Image.fromarray(EIGHT[..., :3]).save(tmp_path / "colour.png")
    Image.fromarray(SIXTEEN[..., 0]).save(tmp_path / "grey16.png")
    grey = Bands(1).read(tmp_path / "colour.png")
    assert np.array_equal(grey[..., 0], np.asarray(Image.open(tmp_path / "colour.png").convert("L")))
    three = Bands(3, (0, 65535)).read(tmp_path / "grey16.png")
    assert np.array_equal(three, np.repeat(by_the_rule(SIXTEEN[..., :1], 0, 65535), 3, axis=2))
    assert np.array_equal(RGB.read(tmp_path / "colour.png"), read_image(tmp_path / "colour.png"))
    assert as_rgb(EIGHT).shape == as_rgb(grey).shape == as_rgb(EIGHT[..., :2]).shape == (12, 17, 3)
    assert np.array_equal(as_rgb(EIGHT), EIGHT[..., :3])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x93NUMPY", "cannot be decoded"),
        (np.zeros((2, 3, 4, 5), np.uint8), r"is of shape \(2, 3, 4, 5\)"),
        (np.full((4, 4, 5), np.nan), "holds values that are no numbers"),
        (np.zeros((4, 4, 5), complex), "holds values of complex128"),
        (np.array([[{}]], object), "cannot be decoded"),
    ],
    ids=["cut", "four axes", "not a number", "complex", "objects"],
)
def test_broken_arrays_are_refused_by_name(tmp_path: Path, content: bytes | np.ndarray, message: str) -> None:
    path = tmp_path / "image.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(DataError, match=rf"image\.npy {message}"):
        Bands(5, (0, 1)).read(path)


def test_padding_takes_the_mean_of_each_of_many_channels() -> None:
    mean = [0.0, 0.2, 0.4, 0.6, 0.8]
    transform = TrainTransform(32, None, (1.0, 1.0), 0.0, 0.0, mean, [1.0] * 5)
    image, mask = transform(EIGHT, np.zeros((12, 17), np.uint8), 0)
    assert image.shape == (5, 32, 32)
    outside = image[:, mask == 255]
    assert (outside.abs() <= 0.5 / 255 + 1e-6).all()
    assert outside.shape[1] == 32 * 32 - 12 * 17


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_first_layers_weights_are_adapted_by_timms_rule(tmp_path: Path, channels: int) -> None:
    torch.manual_seed(0)
    tiny = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8], "stem_width": 8}
    whole = timm.create_model("resnet18", **tiny)
    torch.save(whole.state_dict(), tmp_path / "rgb.pth")
    backbone = Backbone("resnet18", arguments=tiny, inputs=channels)
    load_backbone_weights(backbone, str(tmp_path / "rgb.pth"))
    overlay = {"state_dict": whole.state_dict(), "num_classes": 1000}
    expected = timm.create_model("resnet18", pretrained=True, pretrained_cfg_overlay=overlay, in_chans=channels, **tiny)
    assert torch.equal(backbone.features.state_dict()["conv1.weight"], expected.conv1.weight)
    assert backbone.eval()(torch.zeros(1, channels, 32, 32))[0].shape[1] == 8
    found = weights_normalisation("resnet18", "random", channels)
    assert found.mean == pytest.approx([(0.485 + 0.456 + 0.406) / 3] * channels)


def make_folder(root: Path) -> Path:
    """Eight images of five bands of 16 bits; the class is in the fifth."""
    for split, count in (("train", 6), ("val", 2)):
        for part in ("images", "labels"):
            (root / split / part).mkdir(parents=True)
        for number in range(count):
            truth = np.zeros((40, 48), np.uint8)
            truth[10:30, 8 + number : 30] = 1
            image = RNG.integers(0, 4096, (40, 48, 5), np.uint16)
            image[..., 4] = np.where(truth, 4000, 0)
            np.save(root / split / "images" / f"{split}{number}.npy", image)
            Image.fromarray(truth).save(root / split / "labels" / f"{split}{number}.png")
    (root / "classes.txt").write_text("ground\nwater\n")
    return root


def test_a_run_on_five_bands_of_16_bits_predicts_and_is_exported(
    compose_config: Callable[..., RunDescription], small_overrides: list[str], tmp_path: Path
) -> None:
    root = make_folder(tmp_path / "data")
    mine = ["data=folder", f"data.root={root}", "data.channels=5", "data.range=[0,4095]", "recipe.long_side=null"]
    asked = [*mine, "recipe.augmentation.crop=32", "recipe.batch_size=3", "recipe.epochs=1", f"paths.runs={tmp_path / 'runs'}"]
    train(compose_config(*(one for one in small_overrides if not one.startswith("data.")), *asked))
    run = only_run(tmp_path / "runs")
    record = run.record()
    assert record is not None
    assert record.done
    assert record.costs.input == (1, 5, 32, 32)
    assert len(record.config["backbone"]["normalisation"]["mean"]) == 5
    photo = root / "val" / "images" / "val0.npy"
    predict(str(run.path), [str(photo)], str(tmp_path / "masks"), "cpu")
    mask = np.asarray(Image.open(tmp_path / "masks" / "val0.png"))
    model = exfuse.load(run.path)
    assert np.array_equal(model.predict(photo), mask)
    assert np.array_equal(model.predict(np.load(photo)), mask)
    with pytest.raises(DataError, match=r"has 8 bits a channel, which data\.range"):
        model.predict(Bands(5, (0, 4095)).read(photo))
    with pytest.raises(DataError, match=r"\(height, width, 5\) of numbers, got \(40, 48, 3\)"):
        model.predict(np.zeros((40, 48, 3), np.uint8))
    assert export(str(run.path), "torch", (32, 64), str(tmp_path / "model.pt2")).exists()


def test_the_manifest_knows_the_rule_and_that_of_rgb_is_what_it_was(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    names = ["ground", "water"]
    some = [read_folder(root, "val", names, channels=5, range=[0, high]).manifest() for high in (4095, 4096)]
    assert some[0] != some[1]
    with pytest.raises(DataError, match=r"val0\.npy has values of uint16"):
        read_folder(root, "val", names, channels=5)


def test_what_cannot_be_is_refused_before_training(compose_config: Callable[..., RunDescription], tmp_path: Path) -> None:
    five = compose_config("data=folder", f"data.root={tmp_path}", "data.channels=5")
    with pytest.raises(ConfigError, match=r"pretraining/data=object_crops .*data\.channels is 5.*backbone\.init=timm"):
        read_labelled_split(five, "train")
    three = compose_config(
        "data=folder", f"data.root={tmp_path}", "data.channels=5", "backbone.normalisation={mean:[0,0,0],std:[1,1,1]}"
    )
    with pytest.raises(ConfigError, match=r"backbone\.normalisation: expected a mean and an std for each of 5 channels, got 3"):
        build_eval_transform(three)
    with pytest.raises(ConfigError, match=r"data\.range=\[5,5\]: expected \[LOW,HIGH\], the first smaller"):
        compose_config("data=folder", "data.range=[5,5]")
