"""A sixth technique that lies outside the package: a folder of config files and a module on PYTHONPATH, nothing patched."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from tests import entry_points
from tests.conftest import REPOSITORY
from tests.small_runs import SMALL

FILES = {
    "attention.py": '''
from torch import nn


class SqueezeAttention(nn.Module):
    """Weighs the channels of every level by what is in the whole map."""

    def __init__(self, channels, levels, reduction=4):
        super().__init__()
        self.gates = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width // reduction, 1), nn.ReLU(), nn.Conv2d(width // reduction, width, 1))
            for width in channels
        )

    def forward(self, maps):
        return [each * gate(each.mean((2, 3), keepdim=True)).sigmoid() for each, gate in zip(maps, self.gates)]
''',
    "conf/slot/attention.yaml": (
        "# Squeeze attention.\ntitle: squeeze attention\nshort: ATT\norder: 6\nbaseline: none\nplace: levels\n"
    ),
    "conf/technique/attention/none.yaml": (
        "# The baseline.\n_target_: exfuse.techniques.embedding_branch.NoEmbedding\n_partial_: true\n"
    ),
    "conf/technique/attention/squeeze.yaml": (
        "# Channels are weighed.\n_target_: attention.SqueezeAttention\n_partial_: true\nreduction: 4\n"
    ),
    "conf/ablation/attended.yaml": (
        "# @package _global_\n# SEB behind attention.\n"
        "defaults:\n  - override /technique/seb: product\n  - override /technique/attention: squeeze\n"
    ),
}


class Place(NamedTuple):
    """Where everything lies; `run` starts a verb with the folder of configs, `bare` without it."""

    folder: Path
    data: Path

    @property
    def study(self) -> Path:
        return self.folder / "study"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def settings(self, runs: str = "runs") -> list[str]:
        return [*SMALL, f"data.root={self.data}", f"paths.runs={self.folder / runs}"]

    def start(self, *words: object) -> entry_points.Started:
        return entry_points.start(
            "exfuse", *words, "--config-dir", self.folder / "conf", environment=os.environ | {"PYTHONPATH": self.python}
        )

    def run(self, *words: object) -> str:
        return succeeded(self.start(*words).completed())

    def bare(self, *words: object) -> "subprocess.CompletedProcess[str]":
        return entry_points.run("exfuse", *words)

    @property
    def python(self) -> str:
        return os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")])

    def key_of(self, row: str) -> str:
        rows = json.loads((self.study / "study.json").read_text())["rows"]
        return next(key for one in rows if one["name"] == row for key in one["runs"].values())


def succeeded(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, scenes_folder: Path) -> Place:
    """The technique's files and a sweep of two variants, trained by child processes."""
    folder = tmp_path_factory.mktemp("outside")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    made = Place(folder, scenes_folder)
    made.run("train", "-m", "+ablation=seb,attended", *made.settings(), f"sweep.output={made.study}")
    return made


def test_a_sweep_in_child_processes_ends_in_a_table_with_a_column_of_it(place: Place) -> None:
    rows = json.loads((place.study / "study.json").read_text())["rows"]
    assert [(row["name"], row["options"]["attention"], row["options"]["seb"]) for row in rows] == [
        ("seb", "none", "product"),
        ("attended", "squeeze", "product"),
    ]
    record = json.loads((place.runs / place.key_of("attended") / "record.json").read_text())
    assert record["status"] == "done"
    assert record["label"] == "seb-product+attention-squeeze"
    assert "attention.SqueezeAttention" not in json.dumps(record)  # code is found by name, never kept
    header = next(line for line in (place.study / "table.md").read_text().splitlines() if line.startswith("|"))
    assert "| SS | LR | ECRE | SEB | DAP | ATT |" in header
    table = (place.study / "table.md").read_text()
    assert "squeeze" in table
    place.run("study", "tabulate", place.study)
    assert (place.study / "table.md").read_text() == table


def test_it_acts_and_is_trained(place: Place) -> None:
    state = torch.load(place.runs / place.key_of("attended") / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    without = torch.load(place.runs / place.key_of("seb") / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    own = state.keys() - without.keys()
    assert len(own) == 4 * 4
    assert all(name.startswith("model.technique_attention.gates.") for name in own)
    assert without.keys() < state.keys()


def test_an_interrupted_run_goes_on_to_the_same_weights(place: Place) -> None:
    key = place.key_of("attended")
    words = ("train", "+ablation=attended", *place.settings("again"))
    first = place.start(*words)
    saved = place.folder / "again" / key / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not saved.exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(first.pid, 9)
    first.wait()
    place.run(*words)
    expected = torch.load(place.runs / key / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    resumed = torch.load(saved, weights_only=True)["state_dict"]
    assert all(torch.equal(value, resumed[name]) for name, value in expected.items())


def test_the_run_beside_it_keeps_its_key_without_the_folder(place: Place) -> None:
    before = {path.name for path in place.runs.iterdir()}
    told = succeeded(place.bare("train", "+ablation=seb", *place.settings()))
    assert place.key_of("seb") in told
    assert {path.name for path in place.runs.iterdir()} == before


def test_it_predicts_and_is_exported(place: Place) -> None:
    run = place.runs / place.key_of("attended")
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(place.folder / "photo.png")
    place.run("predict", run, place.folder / "photo.png", f"output={place.folder / 'masks'}", "device=cpu")
    assert Image.open(place.folder / "masks" / "photo.png").size == (64, 48)
    told = place.run("export", run, "format=torch", "size=[64,64]", f"output={place.folder / 'model.pt2'}")
    assert "Checked on" in told  # the fused and exported model says what the trained one says
    assert torch.export.load(place.folder / "model.pt2").module()(torch.zeros(1, 3, 64, 64)).shape[2:] == (64, 64)


def test_the_page_shows_it(place: Place) -> None:
    place.run("report", "page", f"study={place.study}", f"output={place.folder / 'page.html'}", "examples=none")
    page = (place.folder / "page.html").read_text()
    assert "attended" in page
    assert "ATT" in page


def test_published_studies_stay_what_they_are(place: Place) -> None:
    place.run("study", "check", REPOSITORY / "experiments")


def test_without_its_folder_it_is_named_with_the_remedy(place: Place) -> None:
    Image.new("RGB", (8, 8)).save(place.folder / "small.png")
    run = place.runs / place.key_of("attended")
    done = place.bare("predict", run, place.folder / "small.png", f"output={place.folder / 'none'}")
    assert done.returncode == 1
    assert "attention" in done.stderr
    assert "--config-dir" in done.stderr
    assert "Traceback" not in done.stderr
