import functools
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file

from exfuse.cli.help import help_of
from exfuse.data.bands import Bands
from exfuse.data.transforms import EvalTransform
from exfuse.errors import CheckpointError, UserError, user_error
from exfuse.exporting.command import agreement, export
from exfuse.exporting.formats import FORMATS, describe_file
from exfuse.files import write_atomically
from exfuse.palette import class_palette
from exfuse.runs.checkpoint import SealedCheckpointIO, load_checkpoint
from tests import entry_points
from tests.exporting.conftest import CLASSES, NORMALISATION
from tests.records import leave_record
from tests.sharing import amount

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
skimage = pytest.importorskip("skimage.data", reason="scikit-image, whose photographs are used, is not installed")


def photographs():
    """Normalised, of several sizes, (3, H, W) each."""
    transform = EvalTransform(None, **NORMALISATION)
    pictures = [
        skimage.chelsea()[::2, ::2],
        skimage.astronaut()[:96, :128],
        skimage.coffee()[:67, :130],
        skimage.rocket()[:33, :200],
    ]
    return [transform(picture).numpy() for picture in pictures]


def relative(scores, expected):
    return float(np.abs(scores - expected).max() / np.abs(expected).max())


def check(run, path, load, images):
    """The file against the unfused model, one image at a time and several at once."""
    model, _, _ = load_checkpoint(run.path)
    exported = load(path)
    difference, equal = agreement(model, exported, images)
    assert difference < 1e-5
    assert equal == 1
    together = np.stack([images[0], images[0][:, ::-1], images[0][..., ::-1]])
    with torch.inference_mode():
        expected = model(torch.from_numpy(together)).scores.numpy()
    assert relative(exported(together), expected) < 1e-5


def test_an_onnx_file_takes_photographs_of_any_size(exported_run):
    run, path = exported_run
    assert path == run.path / "export" / f"{run.key}.onnx"
    check(run, path, FORMATS["onnx"].load, photographs())


LAST = "+ablation=exfuse_last technique/ss=second_conv_features"
KINDS = [
    ("torch", LAST),
    ("torch", "+ablation=seb_ecre"),
    ("torch", "+ablation=exfuse"),
    ("onnx", LAST),
    ("onnx", "technique/dap=wide_kernel technique/seb=gate decoder=levels_345"),
    ("onnx", "decoder=aspp backbone.output_stride=8"),
    ("onnx", "technique/dap=wide_control technique/seb=concat"),
    ("onnx", "technique/dap=last_control technique/seb=sum backbone.output_stride=16"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "overrides"), amount(KINDS[:1], KINDS))
def test_so_does_a_file_of_either_kind_of_every_other_layer(make_run, name, overrides):
    run = make_run(*overrides.split())
    path = export(run.path, name, None, None)
    check(run, path, FORMATS[name].load, photographs())
    if name == "torch":
        extra = {"description.json": ""}
        torch.export.load(path, extra_files=extra)
        said = json.loads(extra["description.json"])
        assert "at least" in said["sizes"]
        assert said == describe_file(run.record(), CLASSES, json.loads(said["sizes"]))


@pytest.mark.parametrize("name", amount(["torch"], ["onnx", "torch"]))
def test_an_encoder_that_pads_by_the_images_size_takes_one_size_alone(make_run, name):
    run = make_run("backbone=efficientnet_lite0", "backbone.init=random")
    with pytest.raises(UserError, match=r"size=\[HEIGHT,WIDTH\]"):
        export(run.path, name, None, None)
    assert list((run.path / "export").iterdir()) == []
    path = export(run.path, name, (67, 90), None)
    check(run, path, FORMATS[name].load, [image[:, :67, :90] for image in photographs()[:3]])


def test_the_file_alone_says_how_to_use_it(exported_run):
    run, path = exported_run
    about = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    about = {name: json.loads(value) for name, value in about.items()}
    assert about["classes"] == CLASSES
    assert {"mean": about["mean"], "std": about["std"]} == NORMALISATION
    assert (about["run"], about["commit"], about["label"], about["long_side"]) == (run.key, "c0ffee", "variant", None)
    assert (about["upright"], about["size"]) == (True, None)
    assert about["palette"] == class_palette(CLASSES)[: len(CLASSES)].ravel().tolist()
    assert "at least 33" in about["sizes"]
    assert {name: json.dumps(value) for name, value in about.items()} == describe_file(run.record(), CLASSES, about["sizes"])


def test_the_example_in_the_help_needs_neither_torch_nor_this_project(exported_run, tmp_path):
    run, path = exported_run
    photograph = skimage.chelsea()
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright: a quarter turn to the right shows what it saw
    Image.fromarray(np.rot90(photograph)).save(tmp_path / "photo.png", exif=turned)
    (example,) = re.findall(r"PIL alone:\n(.*?)\n\n", help_of(["export"]), re.DOTALL)
    code = "\n".join(line[2:] for line in example.splitlines())
    code = code.replace("photo.jpg", "photo.png").replace('"model.onnx"', repr(str(path)))
    guard = "\nimport sys\nassert not {'torch', 'exfuse'} & sys.modules.keys()\n"
    subprocess.run([sys.executable, "-I", "-c", code + guard], cwd=tmp_path, check=True)
    model, _, _ = load_checkpoint(run.path)
    with torch.inference_mode():
        expected = model(EvalTransform(None, **NORMALISATION)(photograph)[None]).scores[0].argmax(0)
    mask = Image.open(tmp_path / "mask.png")
    assert mask.mode == "P"
    assert np.array_equal(np.asarray(mask), expected)


def test_a_file_that_differs_is_not_kept(make_run, monkeypatch, tmp_path):
    load = FORMATS["torch"].load
    wrong = FORMATS["torch"]._replace(load=lambda path: lambda image: load(path)(image) * np.float32(1.001))
    monkeypatch.setitem(FORMATS, "torch", wrong)
    with pytest.raises(UserError, match="does not say what the model says"):
        export(make_run().path, "torch", (40, 48), tmp_path / "out" / "model.pt2")
    assert list((tmp_path / "out").iterdir()) == []


def test_scores_that_are_not_finite_are_a_difference(make_run):
    model, _, _ = load_checkpoint(make_run().path)
    with pytest.raises(UserError, match="does not say"):
        agreement(model, lambda image: np.full((1, len(CLASSES), *image.shape[2:]), np.nan, np.float32), photographs()[:1])


def test_runs_that_cannot_be_exported_are_refused_in_one_line(make_run, tmp_path):
    with pytest.raises(CheckpointError, match="No run's folder"):
        export(tmp_path / "missing", "onnx", None, None)
    with pytest.raises(CheckpointError, match="no record"):
        export(tmp_path, "onnx", None, None)
    run = make_run()
    with pytest.raises(UserError, match=r"ends with \.pt2"):
        export(run.path, "torch", None, tmp_path / "model.onnx")
    whole = run.last.read_bytes()
    run.last.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged"):
        export(run.path, "onnx", None, None)
    run.last.unlink()
    with pytest.raises(CheckpointError, match="No checkpoint"):
        export(run.path, "onnx", None, None)
    record = run.path / "record.json"
    record.write_text(record.read_text().replace("c0ffee", "coffee"))
    with pytest.raises(UserError, match="checksum"):
        export(run.path, "onnx", None, None)
    leave_record(run, "failed", label="variant")
    with pytest.raises(CheckpointError, match="not finished"):
        export(run.path, "onnx", None, None)


def test_the_command_line(make_run, tmp_path):
    run = make_run()
    run_command = functools.partial(entry_points.run, "src.export")
    helped = run_command("--help")
    assert "onnxruntime.InferenceSession" in helped.stdout
    done = run_command(run.path, "--format", "torch", "--size", "40", "64")
    assert done.returncode == 0, done.stderr
    assert "Note: --size 40 64 is now size=[40,64]" in done.stderr
    assert "100.000% of the pixels have the same class" in " ".join(done.stdout.split())
    missing = run_command(tmp_path / "x")
    assert missing.returncode == 1
    assert missing.stderr.startswith("Error: No run's folder")
    assert missing.stderr.count("\n") == 1
    wrong = run_command(run.path, "size=[9]")
    assert wrong.returncode == 1
    assert "expected [HEIGHT,WIDTH], two positive numbers of pixels or null" in wrong.stderr


@pytest.mark.slow
def test_it_is_checked_on_the_runs_own_images(make_run, capsys):
    root = os.environ.get("VOC_ANIMALS")
    if not root:
        pytest.skip("VOC_ANIMALS is not set: no real VOC images")
    run = make_run("+ablation=seb_ecre_dap_last", "data=voc_animals", f"data.root={root}", "recipe.long_side=null")
    path = export(run.path, "onnx", None, None)
    assert "images of VOC animals" in " ".join(capsys.readouterr().out.split())
    from exfuse.composition.reading import read_split
    from exfuse.data.split import read_image

    _, trained, _ = load_checkpoint(run.path)
    items = read_split(trained.data, "val").items[10:20]
    check(
        run,
        path,
        FORMATS["onnx"].load,
        [EvalTransform(None, **NORMALISATION)(read_image(item.image)).numpy() for item in items],
    )


def test_a_description_is_text_that_says_the_same(exported_run):
    record = exported_run[0].record()
    said = {name: json.loads(text) for name, text in describe_file(record, ["a"], "any").items()}
    assert (said["run"], said["label"], said["commit"]) == (record.key, record.label, record.environment.commit)
    assert (said["classes"], said["palette"], said["sizes"]) == (["a"], [0, 128, 255], "any")
    assert said["mean"] == record.config["backbone"]["normalisation"]["mean"]
    assert said["long_side"] == record.config["recipe"]["long_side"]
    fixed = {name: json.loads(text) for name, text in describe_file(record, ["a"], "67x90", [67, 90]).items()}
    assert (fixed["size"], fixed["long_side"]) == ([67, 90], None)


class _Tiny(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 8, 9)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.convolution(image)


@functools.cache
def _tiny_program() -> torch.export.ExportedProgram:
    return torch.export.export(_Tiny().eval(), (torch.zeros(1, 3, 16, 16),))


@pytest.mark.parametrize("writer", ["onnx", "torch", "safetensors", "checkpoint"])
def test_where_no_file_finds_space_the_one_before_stays_and_the_message_names_it(writer: str, tmp_path: Path) -> None:
    path, tensors = tmp_path / f"file{FORMATS[writer].suffix if writer in FORMATS else '.safetensors'}", _Tiny().state_dict()

    def write() -> None:
        if writer == "checkpoint":
            SealedCheckpointIO().save_checkpoint({"state_dict": tensors}, path)
        elif writer == "safetensors":
            write_atomically(path, lambda scratch: save_file(tensors, scratch))
        else:
            write_atomically(path, lambda scratch: FORMATS[writer].write(scratch, _tiny_program(), {"classes": "[]"}))

    write()
    before, usual = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in (0, 100, len(before) // 2, len(before) - 200):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, usual[1]))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                write()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        assert str(user_error(caught.value)).startswith(f"{path} cannot be read or written")
        assert [*tmp_path.iterdir()] == [path]
        assert path.read_bytes() == before


def test_the_sample_that_help_prints_scales_as_training_did():
    """Its own lines: PIL's resize would smooth."""
    text = (Path(__file__).parents[2] / "conf" / "export.yaml").read_text()
    lines = [line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   ")]
    first, last = (next(place for place, line in enumerate(lines) if line.startswith(name)) for name in ("scale =", "pixels ="))
    pixels = np.random.default_rng(0).integers(0, 256, (150, 230, 3), dtype=np.uint8)
    known = {"Image": Image, "numpy": np, "image": Image.fromarray(pixels)}
    for side in (64, 230, 400):
        known["about"] = {"long_side": side, "size": None, **{name: np.array(value) for name, value in NORMALISATION.items()}}
        exec("\n".join(lines[first : last + 1]), known)
        expected = EvalTransform(side, **NORMALISATION)(pixels).numpy().transpose(1, 2, 0)
        assert np.abs(known["pixels"] - expected).max() < 0.02  # a step of 8 bits
    known["about"] |= {"long_side": None, "size": [75, 115]}
    exec("\n".join(lines[first : last + 1]), known)
    assert known["pixels"].shape == (75, 115, 3)


@pytest.mark.parametrize(("channels", "span"), [(3, None), (1, None), (3, (8000.0, 36000.0)), (1, (8000.0, 36000.0))])
def test_the_sample_that_help_prints_reads_channels_and_range_as_training_did(channels, span, tmp_path):
    text = (Path(__file__).parents[2] / "conf" / "export.yaml").read_text()
    lines = [line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   ")]
    first, last = (
        next(place for place, line in enumerate(lines) if line.startswith(name)) for name in ("image = I", "pixels =")
    )
    random, path = np.random.default_rng(0), tmp_path / "image.png"
    pixels = random.integers(0, 40_000, (40, 60), dtype=np.uint16) if span else random.integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    settings = {name: values[:channels] for name, values in NORMALISATION.items()}
    about = {"upright": True, "size": None, "long_side": None, "channels": channels, "range": span and [*span], **settings}
    known = {"Image": Image, "ImageOps": ImageOps, "numpy": np, "about": about}
    exec("\n".join(lines[first : last + 1]).replace("photo.jpg", str(path)), known)
    expected = EvalTransform(None, **settings)(Bands(channels, span).read(path)).numpy().transpose(1, 2, 0)
    assert np.abs(known["pixels"] - expected).max() < 1e-5
