"""What docs/own_project.md prints, run as it stands: techniques of one's own, and whatever else a folder brings."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from exfuse.config import search_path
from exfuse.files import sha256
from exfuse.runs.loading import load
from exfuse.store import variants
from exfuse.store.consistency import find_deviations
from exfuse.store.folder import RunFolder
from exfuse.store.study_reading import load_study
from exfuse.sweeps.declared import read_study, split
from tests import entry_points
from tests.command import Command
from tests.conftest import REPOSITORY
from tests.pace import patience
from tests.small_runs import only_run

PAGE = (REPOSITORY / "docs" / "own_project.md").read_text()
PROJECT, PARTS = REPOSITORY / "tests" / "sample_project", REPOSITORY / "tests" / "sample_parts"
BLOCKS = re.findall(r"(?:^`([\w./]+)`:\n\n)?^```\w*\n(.*?)^```$", PAGE, flags=re.M | re.S)
FILES = {name: text for name, text in BLOCKS if name}
NEW, WHOLE, SMALL, REPORT, OTHERS = [line for _, text in BLOCKS for line in text.splitlines() if line.startswith("exfuse ")]
QUICK = ("trainer.enable_progress_bar=false", "runtime.workers=0", "runtime.threads=1", "sweep.parallel=1")
STUDY = "outputs/studies/ladder_channel_spatial"


class Place(NamedTuple):
    """A copy of the sample project, in which commands run as the page says."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": os.pathsep.join([".", os.environ.get("PYTHONPATH", "")])}

    def start(self, command: str, *more: str) -> entry_points.Started:
        program, *words = shlex.split(command)
        return entry_points.start(program, *words, *more, environment=self.environment, folder=self.folder)

    def run(self, command: str, *more: str) -> str:
        return succeeded(self.start(command, *more).completed())

    def key_of(self, row: str) -> str:
        rows = json.loads((self.folder / STUDY / "study.json").read_text())["rows"]
        return next(key for one in rows if one["name"] == row for key in one["runs"].values())

    def state(self, row: str, runs: str = "outputs/runs") -> dict[str, torch.Tensor]:
        path = self.folder / runs / self.key_of(row) / "checkpoints" / "last.ckpt"
        found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
        return found


def succeeded(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The project's study, written and swept by the page's own commands, with one seed, in child processes."""
    made = Place(tmp_path_factory.mktemp("outside") / "mine")
    shutil.copytree(PROJECT, made.folder, ignore=shutil.ignore_patterns("__pycache__"))
    made.run(NEW)
    made.run(SMALL, "seed=0", *QUICK)
    return made


@pytest.fixture
def here(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project as this process's folder, for the command in it; afterwards nothing of it is known here."""
    yield from _inside(place.folder, monkeypatch)


def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    search_path.use([])


def test_the_page_prints_the_files_that_are_run() -> None:
    there = {
        str(path.relative_to(folder)): path.read_text()
        for folder in (PROJECT, PARTS)
        for path in [*folder.rglob("*.py"), *folder.rglob("*.yaml")]
    }
    assert there == FILES


def test_the_project_is_as_short_as_the_page_says() -> None:
    lines = sum(len(path.read_text().splitlines()) for path in [*PROJECT.rglob("*.py"), *PROJECT.rglob("*.yaml")])
    assert f"in {lines} lines" in PAGE
    assert lines <= 60


def test_the_new_study_is_run_as_the_page_says(place: Place) -> None:
    text = (place.folder / "conf" / "study" / "ladder_channel_spatial.yaml").read_text()
    assert f"#   {WHOLE} " in text
    assert shlex.split(SMALL)[:5] == shlex.split(WHOLE)


def test_its_table_has_a_column_of_each_technique_and_none_of_the_packages(place: Place, here: Path, command: Command) -> None:
    study = load_study(here / STUDY)
    assert [(row.name, row.on, row.options["channel"], row.options["spatial"]) for row in study.rows] == [
        ("baseline", None, "none", "none"),
        ("channel", "baseline", "cbam", "none"),
        ("channel+spatial", "channel", "cbam", "cbam"),
    ]
    table = (here / STUDY / "table.md").read_text()
    printed = [line for line in PAGE.splitlines() if line.startswith("|") and "mIoU" in line]
    assert printed[0].rstrip(" |") in table  # but for the costs
    assert not re.search(r"ExFuse|SEB|ECRE|DAP|\bSS\b|\bLR\b|paper", table)
    assert "--config-dir conf" in table  # of the command that makes it
    assert command("study", "check", STUDY)[0] == 0  # neither its folder nor its code is known here
    assert "CHANNEL" in table


def test_they_act_and_are_trained_and_the_record_names_no_code(place: Place) -> None:
    without, state = place.state("baseline"), place.state("channel+spatial")
    own = state.keys() - without.keys()
    assert {name.split(".")[1] for name in own} == {"technique_channel", "technique_spatial"}
    assert len(own) == 4 * 4 + 4 * 2
    assert without.keys() < state.keys()
    record = (place.folder / "outputs" / "runs" / place.key_of("channel+spatial") / "record.json").read_text()
    assert json.loads(record)["status"] == "done"
    assert json.loads(record)["label"] == "channel-cbam+spatial-cbam"
    assert "ChannelAttention" not in record


def test_an_interrupted_run_goes_on_to_the_same_weights(place: Place) -> None:
    words = [word for word in shlex.split(SMALL) if not word.startswith(("+study", "seed"))]
    command = shlex.join([*words, "technique/channel=cbam", "technique/spatial=cbam", "paths.runs=again", *QUICK])
    first = place.start(command)
    saved = place.folder / "again" / place.key_of("channel+spatial") / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + patience(120)
    while not saved.exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(first.pid, 9)
    first.wait()
    place.run(command)
    expected, resumed = place.state("channel+spatial"), place.state("channel+spatial", "again")
    assert all(torch.equal(value, resumed[name]) for name, value in expected.items())


def test_code_that_changed_since_is_told_and_no_run_mixes_two(
    place: Place, monkeypatch: pytest.MonkeyPatch, command: Command, tmp_path: Path
) -> None:
    copy = Place(tmp_path / "mine")
    shutil.copytree(place.folder, copy.folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(copy.folder)
    monkeypatch.syspath_prepend(str(copy.folder))
    monkeypatch.delitem(sys.modules, "cbam", raising=False)
    source, folder = Path("cbam.py"), RunFolder(Path("outputs/runs"), copy.key_of("channel+spatial"))
    record = folder.record()
    assert record is not None
    assert record.environment.code["cbam"] == sha256(source)
    slots = {"slot=channel", "slot=spatial"}
    assert {*record.environment.code} == {"cbam", "technique/channel=cbam", "technique/spatial=cbam", *slots}
    baseline = RunFolder(folder.root, copy.key_of("baseline")).record()
    assert baseline is not None
    assert baseline.environment.code == {}

    was, run, own = source.read_text(), str(folder.path), ("--config-dir", "conf")
    source.write_text(f"{was}\n# other\n")
    options = ("technique/channel=cbam", "technique/spatial=cbam", *QUICK)
    train = [*(word for word in shlex.split(SMALL)[1:] if not word.startswith(("+study", "seed"))), *options]
    status, _, complaint = command(*train)
    assert (status, "cbam has changed since" in complaint) == (0, True), complaint  # it shows what was trained
    Image.new("RGB", (64, 48)).save("photo.png")
    status, _, complaint = command("predict", run, "photo.png", "output=masks", "device=cpu", *own)
    assert (status, "cbam has changed since" in complaint) == (0, True), complaint
    shutil.copy(folder.last, "lone.ckpt")
    status, _, complaint = command("predict", "lone.ckpt", "photo.png", "output=lone", "device=cpu", *own)
    assert (status, "cbam has changed since lone.ckpt was trained" in complaint) == (0, True), complaint
    status, _, complaint = command("runs", "rescore", run, "device=cpu", "workers=0", *own)
    assert (status, "cbam has changed since it was trained" in complaint) == (1, True), complaint
    table = load_study(Path(STUDY))
    runs = [(row.name, seed, run.record) for row in table.rows for seed, run in row.runs.items() if run.record]
    assert not find_deviations(runs)
    environment = msgspec.structs.replace(record.environment, code={"cbam": sha256(source)})
    mixed = [(*one[:2], msgspec.structs.replace(one[2], environment=environment)) if one is runs[-1] else one for one in runs]
    (differing,) = find_deviations(mixed)
    assert differing.setting == "code.cbam"

    folder.write(msgspec.structs.replace(record, status="interrupted"))  # begun by what was there before
    status, _, complaint = command(*train)
    assert status == 1
    assert "began with other code of cbam" in complaint
    source.write_text(was)
    assert command(*train)[0] == 0
    option = Path("conf/technique/channel/cbam.yaml")  # other code of the same file
    option.write_text(option.read_text().replace("cbam.ChannelAttention", "cbam.SpatialAttention"))
    for known in (search_path.read, search_path._whole):  # by this process
        known.cache_clear()
    status, _, complaint = command("runs", "rescore", run, "device=cpu", "workers=0", *own)
    assert (status, "technique/channel=cbam has changed since it was trained" in complaint) == (1, True), complaint
    option.write_text(option.read_text().replace("cbam.SpatialAttention", "cbam.ChannelAttention"))
    slot = Path("conf/slot/channel.yaml")  # another order of the same modules is another network
    slot.write_text(re.sub(r"order: .*", "order: 99", slot.read_text()))
    for known in (search_path.read, search_path._whole, variants._read):
        known.cache_clear()
    status, _, complaint = command("runs", "rescore", run, "device=cpu", "workers=0", *own)
    assert (status, "slot=channel has changed since it was trained" in complaint) == (1, True), complaint


def test_every_verb_that_loads_a_run_takes_the_folder(place: Place, here: Path, command: Command) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")
    run, other = (f"outputs/runs/{place.key_of(row)}" for row in ("channel+spatial", "baseline"))
    own = ("--config-dir", "conf")
    for words in (
        ("predict", run, "photo.png", "output=masks", "device=cpu"),
        ("evaluate", run, "device=cpu", "workers=0"),
        ("compare", run, other, "images=1", "picture=compared.png"),
        ("report", "features", run, "image=photo.png", "statistics.images=0", "device=cpu", "output=features"),
        ("export", run, "format=torch", "size=[64,64]", "output=model.pt2"),
        tuple(shlex.split(REPORT)[1:-2]),
    ):
        status, told, complaint = command(*words, *own)
        assert status == 0, (words, told, complaint)
        if "features" in words:
            assert "has no SEB, so its maps are the same before and after: what channel attention and spatial" in told
        if words[0] == "export":
            assert "Checked on" in told  # the fused and exported model says what the trained one says
    assert Image.open("masks/photo.png").size == (64, 48)
    page = re.sub(r"<script.*?</script>", "", Path("outputs/reports/ladder_channel_spatial.html").read_text(), flags=re.S)
    assert "channel+spatial" in page
    assert not re.search(r"ExFuse|SEB|ECRE|DAP", page)


def test_without_its_folder_it_is_named_with_the_remedy(place: Place, here: Path, command: Command) -> None:
    Image.new("RGB", (8, 8)).save("small.png")
    run = f"outputs/runs/{place.key_of('channel')}"
    status, _, complaint = command("predict", run, "small.png", "output=none")
    assert status == 1
    assert "channel" in complaint
    assert "--config-dir" in complaint
    assert len(complaint.splitlines()) == 1


def test_a_run_without_them_has_its_key_without_the_folder_and_published_studies_stay(
    place: Place, here: Path, command: Command
) -> None:
    words = [word for word in shlex.split(SMALL) if not word.startswith(("+study", "seed", "--config-dir", "conf"))]
    runs = {path.name for path in Path("outputs/runs").iterdir()}
    status, told, _ = command(*words[1:], *QUICK)
    assert status == 0
    assert place.key_of("baseline") in told
    assert {path.name for path in Path("outputs/runs").iterdir()} == runs
    assert command("study", "check", REPOSITORY / "experiments" / "dap_kernel_camvid", "--config-dir", "conf")[0] == 0


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("ladder techniques=channel,spatial", "is there: a study is called ladder_channel_spatial"),
        ("ladder techniques=chanel", "Did you mean 'channel'?"),
        ("ladder techniques=spatial,spatial", "spatial is listed twice"),
        ("factorial techniques=seb,seb=gate", "Only add_one"),
        ("add_one techniques=dap=lost", "Did you mean 'last'?"),
        ("lader techniques=channel", "Did you mean ladder?"),
        ("ladder techniques=", "techniques=: an empty text names nothing"),
        ("ladder", "techniques is not set"),
        ("ladder techniques=channel name=../x", "name=../x"),
        ("ladder techniques=seb name=vary", "a study is called vary"),
    ],
)
def test_a_study_that_cannot_be_written_is_refused_in_a_line(here: Path, command: Command, typed: str, says: str) -> None:
    before = sorted(Path("conf/study").iterdir())
    status, _, complaint = command("study", "new", *typed.split(), "--config-dir", "conf")
    assert status in (1, 2)
    assert says in complaint
    assert len(complaint.splitlines()) == 1
    assert sorted(Path("conf/study").iterdir()) == before


@pytest.mark.parametrize(
    ("typed", "rows"),
    [
        ("leave_one_out techniques=channel,seb", {"all": None, "without channel": "all", "without seb": "all"}),
        ("add_one techniques=seb,seb=gate", {"baseline": None, "seb": "baseline", "seb-gate": "baseline"}),
        ("factorial techniques=channel,spatial", {}),
    ],
)
def test_each_kind_of_study_declares_its_rows(
    place: Place, here: Path, command: Command, typed: str, rows: dict[str, str | None]
) -> None:
    name = f"new_{typed.split()[0]}"
    assert command("study", "new", *typed.split(), f"name={name}", "--config-dir", "conf")[0] == 0
    content = yaml.safe_load(Path(f"conf/study/{name}.yaml").read_text())
    study, jobs = read_study(content["study"], split(content["hydra"]["sweeper"]["params"], ["seed=0,1"]))
    assert {row: declared and declared.builds_on for row, declared in study.rows.items()} == rows
    assert len(jobs) == 2 * (len(rows) or 4)
    assert study.factors == (["channel", "spatial"] if not rows else None)
    if not rows:
        assert {*jobs[0]} == {"technique/channel=none", "technique/spatial=none", "seed=0"}


def test_a_decoder_a_head_a_reader_a_backbone_and_a_loss_of_ones_own_train_and_predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    shutil.copytree(PARTS, tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    generator = np.random.default_rng(0)
    for part, number in (("train", 4), ("val", 2)):
        folder = tmp_path / "mine" / "photos" / part
        folder.mkdir(parents=True)
        for place in range(number):
            Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{place}.jpg")
            mask = np.zeros((64, 64), np.uint8)
            mask[place * 8 : place * 8 + 16] = 1
            Image.fromarray(mask).save(folder / f"{place}_mask.png")
    for _ in _inside(tmp_path / "mine", monkeypatch):
        small = ("recipe.epochs=1", "recipe.batch_size=2", "recipe.augmentation.crop=64", "trainer=cpu", *QUICK)
        status, told, complaint = command(*shlex.split(OTHERS)[1:], *small)
        assert status == 0, told + complaint
        folder = only_run(Path("outputs/runs"))
        record = folder.record()
        assert record is not None
        assert record.done
        assert (record.choices["backbone"], record.encoder, record.label) == ("tinynet", "tinynet", "dap-scaled+sums")
        run = str(folder.path)
        assert command("predict", run, "photos/val/0.jpg", "output=masks", "device=cpu", "--config-dir", "conf")[0] == 0
        for words, says in (
            (("backbone.arguments.widht=4",), "Did you mean 'width'"),
            (("backbone.arguments.width=wide",), "expected a whole number"),
            (("backbone._target_=os.system",), "as its file says"),
            (("backbone.output_stride=16",), "whose stride is 32"),
            (("backbone.init=timm",), "code of its own"),
            (("backbone.name=resnet18",), "timm cannot make it"),  # timm's then, which has no such argument
            (("technique/lr=rearranged",), "needs residual stages"),
        ):
            status, _, complaint = command(*shlex.split(OTHERS)[1:], *small, *words)
            assert status == 1
            assert says in complaint
            assert "Traceback" not in complaint
        assert load(run, config_dir="conf").predict("photos/val/0.jpg").shape == (64, 64)
        status, _, complaint = command("predict", run, "photos/val/0.jpg", "output=others", "device=cpu")
        assert status == 1
        assert "--config-dir" in complaint
