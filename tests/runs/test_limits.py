"""What would fail after hours, or end the process without a word, is said before anything is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from exfuse import memory
from exfuse.cli.words import read_command
from exfuse.config.overrides import compose_config, describe_backbone, describe_run, explain
from exfuse.errors import ConfigError
from exfuse.memory import check_memory
from exfuse.runs.plan import check_batch, plan_run
from exfuse.tasks.prediction import check_view
from tests.pace import patience


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "recipe.augmentation.crop=100000",
            r"recipe\.augmentation\.crop=100000: a batch of 8 images.*takes .* GiB at the least",
        ),
        ("recipe.batch_size=1 recipe.augmentation.crop=32", r"crop=32: the deepest map of one image a process is one pixel"),
        ("recipe.batch_size=2 trainer.devices=2 recipe.augmentation.crop=20", "batch norm can take no statistics"),
        ("recipe.batch_size=4 trainer.accumulate_grad_batches=4 recipe.augmentation.crop=32", "at least two images a process"),
        ("recipe.batch_size=1 recipe.augmentation.crop=16 backbone.output_stride=16", "Choose more than 16"),
        ("data.size=1000000", r"A scene of data\.size=1000000 pixels takes"),
    ],
)
def test_a_run_that_cannot_work_is_refused_before_torch_loads(words: str, says: str, tmp_path: Path) -> None:
    overrides = [*words.split(), "backbone.init=random", f"data.root={tmp_path / 'scenes'}", "data.images.train=4"]
    with pytest.raises(ConfigError, match=says):
        plan_run(describe_run(overrides))
    assert not (tmp_path / "scenes").exists()


def test_a_pretraining_that_cannot_work_is_refused_too() -> None:
    wanted = describe_backbone(["pretraining.recipe.batch_size=1", "pretraining.recipe.augmentation.size=32"])
    with pytest.raises(ConfigError, match=r"pretraining\.recipe\.augmentation\.size=32: the deepest map"):
        check_batch(wanted, 1, 32, 32)


def test_the_smallest_that_works_is_taken() -> None:
    for words in ("recipe.batch_size=1 recipe.augmentation.crop=33", "recipe.batch_size=2 recipe.augmentation.crop=32"):
        run = describe_run(words.split())
        check_batch(run, run.recipe.batch_size, run.recipe.augmentation.crop, run.backbone.output_stride)


def test_memory_is_what_the_machine_or_its_container_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_limit", lambda: 2**30)
    check_memory(2**30, "this", "")
    with pytest.raises(ConfigError, match=r"^this takes 2\.0 GiB at the least, and this process may use 1\.0 GiB\. Less\.$"):
        check_memory(2**31, "this", "Less.")
    check_view(3000, 3000)
    with pytest.raises(ConfigError, match=r"input of 4000x4000 pixels takes 1\.1 GiB"):
        check_view(4000, 4000)


@pytest.mark.parametrize("value", ["/tmp/é/x", "/tmp/a=b", "/tmp/x (1)", "a,b (2)", "/tmp/l'été", 'say "x" =1'])
@pytest.mark.parametrize("key", ["data.root", "+paths.extra"])
def test_what_hydra_reads_otherwise_is_answered_with_how_to_quote_it(key: str, value: str) -> None:
    with pytest.raises(Exception) as refusal:  # noqa: PT011 - of Hydra's, whichever
        compose_config("train", [f"{key}={value}"])
    said = explain(refusal.value, "train", [f"{key}={value}"])
    assert "\n" not in said
    assert said.startswith(f"{key}={value}: ")
    shell = said.partition("for the shell too: ")[2]
    word = subprocess.run(["sh", "-c", f"printf %s {shell}"], capture_output=True, text=True, check=True).stdout
    name = key.lstrip("+").partition(".")
    config, _ = compose_config("train", [word])
    assert config[name[0]][name[2]] == value


def test_a_file_whose_name_looks_like_an_override_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("a=1.png")
    command = read_command(["predict", "RUN", "a=1.png", "é (1).jpg", "device=cpu"])
    assert command.things == {"run": "RUN", "images": ["a=1.png", "é (1).jpg"]}
    assert command.arguments == ["device=cpu"]


def test_reading_data_loads_no_torch() -> None:
    code = (
        "import sys\nfrom exfuse.config.overrides import describe_run\nfrom exfuse.runs.plan import plan_run\n"
        "import exfuse.data.census, exfuse.data.image_folder, exfuse.data.coco, exfuse.data_setup.preparing\n"
        "assert not {'torch', 'torchvision'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=patience(120))
