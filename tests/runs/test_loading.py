import shutil
import subprocess
import sys

import cv2
import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

import exfuse
from exfuse.data.bands import Bands
from exfuse.errors import DataError, UserError
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.folder import RunFolder
from exfuse.store.seal import write_sealed
from tests.data.test_bands import write_png


@pytest.fixture(scope="module")
def loaded(finished_run):
    return exfuse.load(finished_run.path)


def picture(height=50, width=70):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_run_becomes_a_model_with_its_classes_and_colours(loaded, finished_run):
    assert isinstance(loaded, exfuse.TrainedModel)
    model, _, classes = load_checkpoint(finished_run.path)
    assert list(loaded.classes) == classes
    assert loaded.palette.shape == (len(classes), 3)
    assert loaded.palette.dtype == np.uint8
    assert not loaded.model.training
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, loaded.model.state_dict()[name])


def test_it_predicts_a_class_for_each_pixel_whatever_kind_of_image_it_is_given(loaded, tmp_path):
    pixels = picture()
    ids = loaded.predict(pixels)
    assert ids.shape == (50, 70)
    assert ids.dtype == np.uint8
    scores = loaded.scores(pixels)
    assert scores.shape == (len(loaded.classes), 50, 70)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores.argmax(0), ids)
    with torch.inference_mode():
        own = loaded.model(loaded.transform(pixels)[None]).scores
    np.testing.assert_array_equal(own.argmax(1)[0].numpy() if own.shape[2:] == ids.shape else ids, ids)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    for image in (Image.fromarray(pixels), tmp_path / "image.png", str(tmp_path / "image.png")):
        np.testing.assert_array_equal(loaded.predict(image), ids)


def test_a_file_is_turned_as_its_camera_says(loaded, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(picture()).save(tmp_path / "turned.png", exif=exif)
    assert loaded.predict(tmp_path / "turned.png").shape == (70, 50)
    assert loaded.predict(Image.open(tmp_path / "turned.png")).shape == (70, 50)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((4,), np.uint8), ((4, 5, 3), np.float32), ((4, 5, 2), np.uint8), ((3, 4, 5), np.uint8), ((0, 5, 3), np.uint8)],
)
def test_what_is_no_image_is_refused(loaded, shape, kind):
    with pytest.raises(DataError, match=r"expected an image \(height, width, 3\) of uint8, got"):
        loaded.predict(np.zeros(shape, kind))


def test_what_is_neither_path_nor_picture_is_refused(loaded):
    with pytest.raises(DataError, match=r"a mask of its own: what stands in its holes"):
        loaded.predict(np.ma.masked_array(np.zeros((8, 8, 3), np.uint8), np.eye(8)[..., None].repeat(3, 2)))  # type: ignore[no-untyped-call]
    bare = np.zeros((8, 8, 3), np.uint8)
    assert (loaded.predict(np.ma.masked_array(bare)) == loaded.predict(bare)).all()  # type: ignore[no-untyped-call] - no hole
    with pytest.raises(DataError, match=r"a file's path, an image of Pillow's or an array, got bytes"):
        loaded.predict(b"\x89PNG")


def test_a_picture_of_more_than_8_bits_is_not_cut_off(loaded):
    for pixels in (picture()[..., 0].astype(np.uint16) * 256, picture()[..., 0].astype(np.float32)):
        with pytest.raises(DataError, match=r"mode (I;16|F) has more than 8 bits"):
            loaded.predict(Image.fromarray(pixels))


def test_a_file_that_pillow_would_cut_to_8_bits_is_refused_unread(loaded, tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), picture().astype(np.uint16) * 256)
    with (
        Image.open(tmp_path / "deep.png") as image,
        pytest.raises(DataError, match="mode RGB has more than 8 bits in its file"),
    ):
        loaded.predict(image)
    deep = np.random.default_rng(0).integers(0, 4000, (128, 128, 3), dtype=np.uint16)
    for name in ("deep.ppm", "deep.jp2"):
        cv2.imwrite(str(tmp_path / name), deep)
        with pytest.raises(DataError, match=rf"{name} has more than 8 bits a channel"):
            loaded.predict(tmp_path / name)
        cv2.imwrite(str(tmp_path / name), (deep % 256).astype(np.uint8))
        assert loaded.predict(tmp_path / name).shape == (128, 128)


def test_a_tiff_that_pillow_would_turn_is_refused_where_images_are_taken_as_stored(loaded, monkeypatch, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "turned.tif", tiffinfo={0x0112: 6})
    monkeypatch.setattr(loaded, "upright", False)
    assert loaded.predict(tmp_path / "turned.tif").shape == (50, 70)
    with pytest.raises(DataError, match="Pillow turns a TIFF"), Image.open(tmp_path / "turned.tif") as image:
        loaded.predict(image)


def test_a_run_is_found_by_the_first_digits_of_its_key(finished_run):
    model = exfuse.load(finished_run.key[:5], runs=finished_run.path.parent)
    assert model.classes == exfuse.load(finished_run.path).classes


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="abcdef"):
        exfuse.load("abcdef", runs=tmp_path)


def test_importing_the_package_is_cheap_and_offers_what_it_lists():
    code = "import sys, exfuse; print('torch' in sys.modules, 'load' in dir(exfuse), 'ProductEmbedding' in dir(exfuse))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]
    for name in exfuse._OFFERED:
        assert callable(getattr(exfuse, name))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = exfuse.nothing


def test_a_checkpoint_from_before_sebs_kernels_were_scaled_says_what_it_said(finished_run, tmp_path):
    content = torch.load(finished_run.last, weights_only=True)
    model, _, _ = load_checkpoint(finished_run.path)
    generator = torch.Generator().manual_seed(0)
    for name, module in model.embedding.guides.named_children():  # away from zero, where any scale is the same
        module.weight.data.normal_(generator=generator)
        content["state_dict"][f"model.embedding.guides.{name}.weight"] = module.weight.data * module.scale
    del content["description"]["numbers_version"]
    write_sealed(tmp_path / "old.ckpt", lambda file: torch.save(content, file))
    old, _, _ = load_checkpoint(tmp_path / "old.ckpt")
    image = torch.randn(1, 3, 40, 56, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(old(image).scores, model(image).scores)


@pytest.mark.parametrize(("kind", "span"), [(np.uint8, (0.0, 128.0)), (np.uint16, (0.0, 4095.0))])
def test_a_range_holds_for_pictures_of_pil_as_for_files(loaded, tmp_path, kind, span):
    model = exfuse.TrainedModel(loaded.model, loaded.transform, loaded.classes, bands=Bands(3, span))
    grey = np.random.default_rng(0).integers(0, 200, (50, 70)).astype(kind)
    image = Image.fromarray(grey)
    image.save(tmp_path / "grey.png")
    np.testing.assert_array_equal(model.scores(image), model.scores(tmp_path / "grey.png"))
    for values in (grey, grey[..., None], np.repeat(grey[..., None], 3, 2), grey.astype(np.float32)):
        np.testing.assert_array_equal(model.scores(values), model.scores(image))
    assert not np.array_equal(model.scores(image), loaded.scores(np.repeat(grey[..., None], 3, 2).astype(np.uint8)))


def test_an_array_of_other_values_than_the_range_is_of_is_refused(loaded):
    model = exfuse.TrainedModel(loaded.model, loaded.transform, loaded.classes, bands=Bands(3, (8000.0, 36000.0)))
    with pytest.raises(DataError, match=r"has 8 bits a channel, which data\.range=\[8000,36000\] would make all but black"):
        model.predict(picture())
    with pytest.raises(DataError, match=r"of values from 0 to 0\.\d+ is all one colour in this model's data\.range=\[8000"):
        model.predict(picture() / 256)
    assert model.predict(np.full((40, 40, 3), 100, np.uint16)).shape == (40, 40)  # a black image is one


def test_grey_is_taken_as_files_of_grey_are(loaded, tmp_path):
    grey = picture()[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    for values in (grey, grey[..., None], Image.fromarray(grey)):
        np.testing.assert_array_equal(loaded.scores(values), loaded.scores(tmp_path / "grey.png"))


@pytest.mark.parametrize("name", ["grey.pgm", "grey.png", "grey.jp2"])
def test_a_picture_whose_values_pillow_scales_is_refused_where_a_range_means_them_as_written(loaded, tmp_path, name):
    """Its file is read as it is."""
    path, most = tmp_path / name, 15
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) % 16
    if name == "grey.pgm":
        path.write_bytes(b"P5 8 8 15\n" + values.tobytes())
    elif name == "grey.png":
        write_png(path, 4, 0, [(16 * row[::2] + row[1::2]).tobytes() for row in values], width=8)
    else:  # of 4 bits, stored around the middle
        Image.fromarray(values + 120).save(path, irreversible=False)
        content = bytearray(path.read_bytes())
        for mark, place in ((b"\xff\x4f\xff\x51", 42), (b"ihdr", 14)):
            content[content.find(mark) + place] = 3
        path.write_bytes(content)
    model = exfuse.TrainedModel(loaded.model, loaded.transform, loaded.classes, bands=Bands(3, (0, most)))
    whole = np.repeat((17 * values)[..., None], 3, 2)
    np.testing.assert_array_equal(model.scores(path), loaded.scores(whole))
    with Image.open(path) as image:
        image.load()
    with pytest.raises(DataError, match=r"Pillow scales"):
        model.scores(image)
    with Image.open(path) as image, pytest.raises(DataError, match=r"Pillow scales the values of this .*Give its file"):
        model.scores(image)


def test_weights_of_a_run_that_has_not_ended_are_told_of(finished_run, tmp_path, capsys):
    exfuse.load(finished_run.path)
    assert "not finished" not in capsys.readouterr().err
    run = RunFolder(tmp_path, finished_run.key)
    shutil.copytree(finished_run.path, run.path)
    run.write(msgspec.structs.replace(finished_run.record(), status="killed"))
    exfuse.load(run.path)
    assert f"run {run.key} is not finished (killed)" in capsys.readouterr().err
