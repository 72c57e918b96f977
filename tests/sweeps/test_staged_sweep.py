"""A study that is tuned and sequential, as a user starts it: each training in a process of its own, kills between looks."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig  # noqa: F401 - registers Hydra's resolvers before configs are composed

from tests import entry_points
from tests.data.conftest import save_image, save_mask
from tests.small_runs import SMALL

pytestmark = pytest.mark.slow
STUDY = """# @package _global_
hydra: {mode: MULTIRUN, sweeper: {params: {+ablation: "baseline,ecre"}}}
study:
  name: pair
  title: A pair
  question: Does it?
  rows: {baseline: {builds_on: null}, ecre: {builds_on: baseline}}
  tune: {grid: {recipe.lr: [0.001, 0.002]}, held_out: 0.25, epochs: 1.0, seed: 1000, widen: 0}
"""
MOST = 3  # seeds, of which two come before the first look


def write_data(root: Path, split: str, images: int) -> None:
    for number in range(images):
        ids = np.random.default_rng([number, len(split)]).integers(0, 3, (2, 2)).repeat(32, 0).repeat(32, 1).astype(np.uint8)
        save_image(root / split / "images" / f"{number:02d}.png", 64, 64, seed=100 * len(split) + number)
        save_mask(root / split / "labels" / f"{number:02d}.png", ids)


def records(runs: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in runs.glob("*/record.json")}


def looks(study: Path) -> list[dict[str, Any]]:
    if not (study / "study.json").is_file():
        return []
    return (json.loads((study / "study.json").read_text()).get("sequential") or {}).get("looks", [])


def test_a_tuned_and_sequential_study_reads_no_val_before_its_end_and_outlives_a_kill_between_looks(tmp_path: Path) -> None:
    data, runs, study = tmp_path / "own", tmp_path / "runs", tmp_path / "study"
    write_data(data, "train", 8)
    (data / "classes.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "conf" / "study").mkdir(parents=True)
    (tmp_path / "conf" / "study" / "pair.yaml").write_text(STUDY)
    small = [word for word in SMALL if not word.startswith(("data.", "recipe.epochs"))]
    command = ["src.train", "+study=pair", "--config-dir", tmp_path / "conf", "data=folder", f"data.root={data}", *small]
    command += ["recipe.epochs=1", "seed=0,1", "sweep.until=decided", f"sweep.most.seeds={MOST}", f"sweep.output={study}"]
    command += [f"paths.runs={runs}", f"paths.data={tmp_path}/data", f"hydra.sweep.dir={tmp_path}/sweep"]
    environment = os.environ | {"COLUMNS": "200"}

    # without any val: the search ends, the study's own runs cannot be planned
    first = entry_points.run(*command, environment=environment)
    assert first.returncode == 1
    assert "no folder" in first.stdout + first.stderr
    search = records(runs)
    assert [record["status"] for record in search.values()] == ["done"] * 4
    assert {record["seed"] for record in search.values()} == {1000}
    assert {record["images"]["val"] for record in search.values()} == {2}

    # killed once it has looked
    write_data(data, "val", 4)
    sweep = entry_points.start(*command, environment=environment, merged=True)
    while not (seen := looks(study)):
        assert sweep.poll() is None, sweep.told()
        time.sleep(0.05)
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    assert [(look["row"], look["seeds"], look["verdict"]) for look in seen] == [("ecre", 2, "")]

    third = entry_points.run(*command, environment=environment)
    assert third.returncode == 0, third.stdout + third.stderr
    assert looks(study)[: len(seen)] == seen
    assert [look["seeds"] for look in looks(study)] == [2, 3]
    found = records(runs)
    assert {key: found[key] for key in search} == search
    own = [record for key, record in found.items() if key not in search]
    assert sorted((record.get("seed", 0), record["status"]) for record in own) == [
        (seed, "done") for seed in (0, 0, 1, 1, 2, 2)
    ]
    assert {record["images"]["val"] for record in own} == {4}
    content = json.loads((study / "study.json").read_text())
    chosen = {name: one["recipe.lr"] for name, one in content["tuning"]["chosen"].items()}
    assert {*chosen} == {"baseline", "ecre"}
    assert {record["config"]["recipe"]["lr"] for record in own} == {*chosen.values()}

    # whatever is done is found again
    written = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    fourth = entry_points.run(*command, environment=environment)
    assert fourth.returncode == 0, fourth.stdout + fourth.stderr
    assert "10 skipped" in fourth.stdout
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()} == written
    assert looks(study) == content["sequential"]["looks"]

    # who has the study's folder alone trains nothing again, and writes the same
    copied, again = runs.rename(tmp_path / "elsewhere"), tmp_path / "again"
    fifth = entry_points.run(*command, f"sweep.known={study}", f"sweep.output={again}", environment=environment)
    assert fifth.returncode == 0, fifth.stdout + fifth.stderr
    assert "10 skipped" in fifth.stdout
    assert not records(runs)
    written_again = json.loads((again / "study.json").read_text())
    assert {part: written_again[part] for part in ("command", "rows", "tuning")} == {
        part: content[part] for part in ("command", "rows", "tuning")
    }
    assert looks(again) == looks(study)
    for kind in ("records", "search"):
        assert records(again / kind) == records(study / kind)
        assert records(again / kind).keys() <= records(copied).keys()

    # of one that was cut off in its search that alone
    shutil.rmtree(study / "records")
    known = (f"sweep.known={study}", f"sweep.output={tmp_path / 'rest'}", "sweep.missing=skip")
    sixth = entry_points.run(*command, *known, environment=environment)
    assert sixth.returncode == 1
    assert "4 skipped" in sixth.stdout, sixth.stdout + sixth.stderr
