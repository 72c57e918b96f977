"""Mean and spread over seeds."""

import csv
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from exfuse.errors import UserError
from exfuse.runs.summary import summarise
from exfuse.store.folder import RunFolder
from tests.records import leave_record


def write_run(
    root: Path,
    label: str,
    seed: int,
    miou: float,
    init: str = "pretrained",
    key: str = "",
    val: str = "v",
    more: Any = None,
    commit: str = "a",
    train: str = "t",
) -> None:
    folder = RunFolder(root, key or f"{label}{seed}")
    scores = {
        "miou": miou,
        "pixel_accuracy": 0.9,
        "iou": {"sky": miou, "sea": miou / 2, "ant": None},
        "images": 7,
        "confusion": [],
    }
    leave_record(
        folder,
        "done",
        label=label,
        seed=seed,
        scores=scores,
        parameters=2_500_000,
        manifests={"val": val, "train": train},
        images={"val": 7},
        config={"backbone": {"init": init}, "data": {"name": "things"}} | (more or {}),
        environment={"commit": commit},
    )


def test_runs_are_averaged_over_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    scores = [0.30, 0.34, 0.35]
    for seed, miou in enumerate(scores):
        write_run(tmp_path / "runs", "baseline", seed, miou)
    write_run(tmp_path / "runs", "lr-rearranged", 0, 0.5, init="random")
    leave_record(RunFolder(tmp_path / "runs", "unfinished"), "running")
    summarise(str(tmp_path / "runs"), ["sky", "ant"], str(tmp_path / "values.csv"))
    text = capsys.readouterr().out
    percent = [100 * score for score in scores]
    assert f"{statistics.mean(percent):.1f} ± {statistics.stdev(percent):.1f}" in text
    assert "things val, 7 images" in text
    assert "mIoU of 2 classes" in text
    assert "lr-rearranged (random weights)" in text
    with (tmp_path / "values.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["seed"]) for row in rows[:3]] == [("baseline", "0"), ("baseline", "1"), ("baseline", "2")]
    assert float(rows[1]["mIoU of 2 classes"]) == pytest.approx(34)
    assert float(rows[1]["mIoU of 2 chosen"]) == pytest.approx(34)  # an absent class is left out


def test_backbones_are_averaged_over_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    for seed in range(2):
        for label, accuracy in (("plain", {"main": 0.5}), ("ss", {"main": 0.6, "res2": 0.1 * seed})):
            leave_record(
                RunFolder(tmp_path, f"{label}{seed}"),
                "done",
                label=label,
                seed=seed,
                backbone={"data": "objects", "classes": [], "accuracy": accuracy},
                images={"val": 5},
                parameters=10**6,
                manifests={"val": "v"},
            )
    summarise(str(tmp_path), [], None)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [cell.strip() for cell in lines[0].strip("│").split("│")] == ["plain", "2", "50.0", "-", "1.00"]
    assert [cell.strip() for cell in lines[1].strip("│").split("│")] == ["ss", "2", "60.0", "5.0 ± 7.1", "1.00"]


def test_runs_of_one_name_under_other_settings_are_no_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    for seed, (epochs, kernel) in enumerate([(1, 7), (12, 7), (12, 15), (12, 7)]):
        more = {"recipe": {"epochs": epochs}, "decoder": {"kernel": kernel}}
        write_run(tmp_path, "baseline", seed, 0.3, more=more, commit="a" if seed < 2 else "b")
    summarise(str(tmp_path), [], None)
    text = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.split("│")[1:3]] for line in text.splitlines() if "baseline" in line]
    names = ["epochs=1, kernel=7", "epochs=12, kernel=7", "epochs=12, kernel=15"]
    assert lines == [[f"baseline ({name})", number] for name, number in zip(names, "121", strict=True)]
    assert "Not all of these runs share commit, recipe.epochs." in text


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        ({"settings": {"width": 32}}, {"settings": {"width": 64}}, "width=32 width=64"),
        (
            {"recipe": {"epochs": 2}, "trainer": {"max_epochs": 2, "precision": "32-true"}},
            {"recipe": {"epochs": 3}, "trainer": {"max_epochs": 3, "precision": "32-true"}},
            "epochs=2 epochs=3",
        ),
        ({"runtime": {"tf32": False}}, {"runtime": {"tf32": True}}, "tf32=False tf32=True"),
    ],
)
def test_each_setting_is_a_line_of_its_own(tmp_path: Path, one: Any, other: Any, names: str) -> None:
    for seed, more in enumerate((one, other)):
        write_run(tmp_path, "baseline", seed, 0.3, more=more)
    summarise(str(tmp_path), [], str(tmp_path / "values.csv"))
    with (tmp_path / "values.csv").open() as file:
        assert [row["variant"] for row in csv.DictReader(file)] == [f"baseline ({name})" for name in names.split()]


def test_runs_of_a_search_are_left_out_where_others_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "baseline", 1000, 0.3, more={"held_out": {"share": 0.2, "seed": 0}}, val="part")
    summarise(str(tmp_path), [], str(tmp_path / "values.csv"))
    write_run(tmp_path, "baseline", 0, 0.3, more={"held_out": {"share": 0.0, "seed": 0}})
    summarise(str(tmp_path), [], str(tmp_path / "values.csv"))
    assert len((tmp_path / "values.csv").read_text().splitlines()) == 2
    assert "Left out: 1 run of a search" in capsys.readouterr().err
    search = tmp_path / "search"  # of a study: what it passed over was scored on val
    write_run(search, "baseline", 1000, 0.3, more={"held_out": {"share": 0.2, "seed": 0}}, val="part")
    write_run(search, "baseline", 0, 0.3, more={"held_out": {"share": 0.0, "seed": 0}})
    summarise(str(search), [], str(tmp_path / "searched.csv"))
    assert "baseline,1000," in (tmp_path / "searched.csv").read_text().replace(" (share=0.2)", "")
    said = capsys.readouterr()
    assert "Left out: 1 run scored on val." in said.err
    assert "things held out of train, 7 images" in said.out


@pytest.mark.parametrize("other_images", [False, True])
def test_a_held_out_share_of_backbones_is_a_search_where_other_images_were_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other_images: bool
) -> None:
    for seed, share in enumerate((0.0, 0.2)):
        leave_record(
            RunFolder(tmp_path, f"plain{seed}"),
            "done",
            label="plain",
            seed=seed,
            backbone={"data": "photographs", "classes": [], "accuracy": {"main": 0.5}},
            images={"val": 5},
            parameters=10**6,
            manifests={"val": f"part {share}" if other_images else "v"},
            config={"held_out": {"share": share}},
        )
    summarise(str(tmp_path), [], str(tmp_path / "values.csv"))
    lines, told = (tmp_path / "values.csv").read_text().splitlines(), capsys.readouterr().err
    if other_images:
        assert [line.split(",")[:2] for line in lines[1:]] == [["plain", "0"]]
        assert "Left out: 1 backbone of a search" in told
    else:
        assert len(lines) == 3
        assert not told


def test_runs_of_other_names_may_differ_in_anything_and_what_it_is_stands_below(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, images in (("baseline", None), ("seb", "folder")):
        write_run(tmp_path, name, 0, 0.3, more={"data": {"name": "things", "of": images}}, commit=name)
    summarise(str(tmp_path), [], str(tmp_path / "values.csv"))
    assert len((tmp_path / "values.csv").read_text().splitlines()) == 3
    assert "Not all of these runs share data.of, commit." in " ".join(capsys.readouterr().out.split())


def test_images_that_a_setting_of_the_line_leaves_out_are_no_difference_of_their_own(tmp_path: Path) -> None:
    for seed, images in enumerate((None, 4)):
        write_run(tmp_path, "baseline", seed, 0.3, more={"debug": {"images": images}}, train=f"{images} images")
    summarise(str(tmp_path), [], str(tmp_path / "values.csv"))
    assert "baseline (images=4)" in (tmp_path / "values.csv").read_text()
    write_run(tmp_path, "baseline", 2, 0.3, more={"debug": {"images": 4}}, train="4 other images")
    with pytest.raises(UserError, match=r"of one name differ in manifests\.train"):
        summarise(str(tmp_path), [], None)


def test_runs_of_other_images_are_not_averaged(tmp_path: Path) -> None:
    for seed, images in enumerate((None, "folder")):
        write_run(tmp_path, "baseline", seed, 0.3, more={"data": {"name": "things", "of": images}})
    with pytest.raises(UserError, match=r"differ in data\.of: keep those of one setting in a folder"):
        summarise(str(tmp_path), [], None)


def test_what_cannot_be_averaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No finished run"):
        summarise(str(tmp_path), [], None)
    write_run(tmp_path / "a", "baseline", 0, 0.3)
    with pytest.raises(UserError, match=r"classes=\[moon\]: the runs score sky, sea, ant"):
        summarise(str(tmp_path / "a"), ["moon"], None)
    write_run(tmp_path / "a", "baseline", 0, 0.4, key="again")
    with pytest.raises(UserError, match="several runs of one variant and seed"):
        summarise(str(tmp_path / "a"), [], None)
    write_run(tmp_path / "b", "baseline", 0, 0.3)
    write_run(tmp_path / "b", "baseline", 1, 0.3, val="other")
    with pytest.raises(UserError, match="different images"):
        summarise(str(tmp_path / "b"), [], None)
    record = json.loads((tmp_path / "a" / "again" / "record.json").read_text())
    (tmp_path / "a" / "again" / "record.json").write_text(json.dumps(record)[:-20])
    with pytest.raises(UserError, match="not a whole record"):
        summarise(str(tmp_path / "a"), [], None)
