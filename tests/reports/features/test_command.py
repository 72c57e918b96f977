"""`exfuse report features` on real runs: its folder, its numbers, its refusals."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from exfuse.errors import CheckpointError, ConfigError, DataError, UserError
from exfuse.reports.features.command import show_features
from exfuse.reports.features.statistics import BRANCH, MAP
from exfuse.store.checked import write_sealed_json
from exfuse.store.description import RunDescription
from exfuse.store.features import find_features, read_features
from exfuse.store.folder import RunFolder
from tests.cli.test_cli import output_of
from tests.described import arguments_of
from tests.sharing import make_once

pytestmark = pytest.mark.slow  # trains two runs and draws


def config_of(output: Path, *overrides: str) -> dict[str, Any]:
    return arguments_of("report_features", "device=cpu", f"output={output}", *overrides)


def features(output: Path, *overrides: str) -> None:
    show_features(**config_of(output, *overrides))


@pytest.fixture(scope="module")
def shown(finished_run: RunFolder, baseline_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, two images and a photograph that no test may change."""

    def show(folder: Path) -> None:
        photo = folder / "gull.jpg"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (49, 70, 3), np.uint8)).save(photo)
        runs = f"[{finished_run.path},{baseline_run.last}]"
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("exfuse.analysis.figures.style._DPI", 50)  # a quarter: nobody looks at them
            features(folder / "out", f"checkpoint={runs}", f"image=[3,{photo}]", "statistics.images=null")

    return make_once(tmp_path_factory, "features", show) / "out"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty pictures, a tenth of the work: for tests that look at something else."""
    for name in ("draw_overview", "draw_level"):
        monkeypatch.setattr(f"exfuse.reports.features.command.{name}", lambda *_, **__: Figure(figsize=(0.2, 0.2)))


def test_the_folder_holds_what_its_index_names(shown: Path, finished_run: RunFolder, baseline_run: RunFolder) -> None:
    index = read_features(shown)
    assert [(run.key, run.seb) for run in index.runs] == [(finished_run.key, "product"), (baseline_run.key, "none")]
    assert (index.split, index.images, index.band) == ("val", 5, 5)
    assert len(index.overviews) == 2
    assert len(index.pictures) == 2 * 2 * 3
    for picture in index.pictures:
        assert np.asarray(Image.open(shown / picture.file).convert("L")).std() > 5
        assert bool(picture.statistics) == (picture.image != "gull")
        assert (picture.kind == "none") == (picture.run == baseline_run.key)
    named = {file for one in index.overviews for file in one.files} | {picture.file for picture in index.pictures}
    found = {path.relative_to(shown).as_posix() for path in shown.rglob("*") if path.is_file()}
    assert found == named | {"features.json", "features.csv", "per_image.csv", ".written"}
    assert not [path for path in shown.parent.iterdir() if path.name.startswith(".")]


def test_without_seb_before_is_after_in_every_number(shown: Path, baseline_run: RunFolder) -> None:
    rows = [row for row in read_features(shown).summary if row.run == baseline_run.key]
    assert len(rows) == 3 * (len(MAP) + len(BRANCH))
    for row in rows:
        assert row.before == (row.after if row.statistic in MAP else None)
        assert row.pooled_before == row.pooled_after
        assert row.rises in (0, None)
        assert row.ratio in (1, None)
        assert row.statistic in MAP or row.after is None


def test_the_summary_is_that_of_the_images(shown: Path, finished_run: RunFolder) -> None:
    with (shown / "per_image.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["run"] == finished_run.key and line["level"] == "res2"]
    (row,) = [
        row
        for row in read_features(shown).summary
        if (row.run, row.level, row.statistic) == (finished_run.key, "res2", "contrast")
    ]
    pairs = [
        (float(line["before"]), float(line["after"])) for line in lines if line["statistic"] == "contrast" and line["after"]
    ]
    before, after = np.array(pairs).T
    assert row.images == len(before) == 5
    assert row.before == pytest.approx(before.mean())
    assert row.after_sd == pytest.approx(after.std(ddof=1))
    assert row.ratio == pytest.approx(np.median(after / before))
    assert row.rises == (after > before).mean()
    with (shown / "features.csv").open() as file:
        (line,) = [
            line
            for line in csv.DictReader(file)
            if (line["run"], line["level"], line["statistic"]) == (finished_run.key, "res2", "contrast")
        ]
    assert float(line["ratio"]) == row.ratio
    assert line["pooled_after"] == ""


def test_an_images_own_numbers_are_those_of_its_line_in_the_table(shown: Path, finished_run: RunFolder) -> None:
    index = read_features(shown)
    (picture,) = [one for one in index.pictures if (one.run, one.level) == (finished_run.key, "res3") and one.statistics]
    with (shown / "per_image.csv").open() as file:
        lines = {
            line["statistic"]: line
            for line in csv.DictReader(file)
            if (line["image"], line["run"], line["level"]) == (picture.image, finished_run.key, "res3")
        }
    for name, pair in picture.statistics.items():
        for when, value in pair.items():
            written = lines[name][when]
            assert (float(written) if written else None) == value


@pytest.mark.usefixtures("undrawn")
def test_the_terminal_shows_the_same_comparison(
    finished_run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features(tmp_path / "out", f"checkpoint={finished_run.path}", "statistics.images=3")
    text = capsys.readouterr().out
    for words in ("res2 before and after SEB", "3 images", "contrast", "branch_mask", "pooled", "cannot show", "out"):
        assert words in text
    assert "…" not in text.partition("before, after:")[0]  # nothing is cut off at 80 columns


@pytest.mark.usefixtures("undrawn")
def test_a_photograph_alone_needs_no_data(finished_run: RunFolder, tmp_path: Path) -> None:
    from skimage import data

    Image.fromarray(data.chelsea()).save(tmp_path / "cat.png")
    features(tmp_path / "out", f"checkpoint={finished_run.path}", f"image={tmp_path / 'cat.png'}", "statistics.images=0")
    index = read_features(tmp_path / "out")
    assert (index.images, index.summary, index.data) == (0, (), None)
    assert {picture.image for picture in index.pictures} == {"cat"}


@pytest.mark.usefixtures("undrawn")
def test_a_studys_pictures_go_into_its_folder_under_its_rows_names(finished_run: RunFolder, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", finished_run)
    config = config_of(
        tmp_path, f"study.folder={study}", f"paths.runs={finished_run.root}", "statistics.images=0", "output=null"
    )
    show_features(**config)
    index = find_features(study)
    assert index is not None
    assert [run.row for run in index.runs] == ["my_row"]
    assert find_features(tmp_path) is None
    with pytest.raises(UserError, match=r"No run of .* has a checkpoint in /nowhere"):
        features(tmp_path / "x", f"study.folder={study}", "paths.runs=/nowhere")


def write_study(folder: Path, run: RunFolder) -> Path:
    from shutil import copyfile

    target = folder / "records" / run.key
    target.mkdir(parents=True)
    for name in ("record.json", "confusion.npz"):
        copyfile(run.path / name, target / name)
    options = {"ss": "none", "lr": "standard", "ecre": "subpixel_supervised", "seb": "product", "dap": "none"}
    row = {"name": "my_row", "options": options, "decoder": "levels_2345", "on": None, "paper": None, "runs": {"0": run.key}}
    content = {"schema": 1, "name": "s", "title": "S", "question": "?", "command": "c", "paper": None, "factors": None}
    write_sealed_json(folder / "study.json", content | {"mixed": False, "rows": [row]})
    return folder


def test_what_cannot_be_shown_is_refused_by_name(finished_run: RunFolder, tmp_path: Path) -> None:
    run = f"checkpoint={finished_run.path}"
    (tmp_path / "empty").mkdir()
    for error, words, overrides in (
        (CheckpointError, r"No checkpoint .*empty/checkpoints/last\.ckpt", [f"checkpoint={tmp_path / 'empty'}"]),
        (CheckpointError, "No checkpoint /no/such", ["checkpoint=/no/such"]),
        (ConfigError, "checkpoint is not set", []),
        (DataError, "image=nothing", [run, "image=nothing"]),
        (DataError, "image=99", [run, "image=99"]),
        (ConfigError, "expected train or val", [run, "split=test"]),
        (ConfigError, r"statistics\.images=-1", [run, "statistics.images=-1"]),
        (ConfigError, r"statistics\.band=-1", [run, "statistics.band=-1"]),
        (UserError, r"holds no study\.json", ["study.folder=/no/study"]),
        (UserError, "Two checkpoints are of run", [f"checkpoint=[{finished_run.path},{finished_run.last}]"]),
    ):
        with pytest.raises(error, match=words):
            features(tmp_path / "out", *overrides)
    with pytest.raises(DataError, match="/no/such/data"):
        features(tmp_path / "out", run, "data=voc", "data.root=/no/such/data")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_folder_of_something_else_is_left_as_it_is_and_one_of_pictures_replaced_whole(
    finished_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    run = f"checkpoint={finished_run.path}"
    with pytest.raises(UserError, match="not written by exfuse"):
        features(tmp_path / "mine", run)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    out = tmp_path / "out"
    features(out, run, "image=0", "statistics.images=0")
    first = {path.relative_to(out) for path in out.rglob("*")}
    with monkeypatch.context() as broken:
        broken.setattr("exfuse.reports.features.command.write_rows", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            features(out, run, "image=1", "statistics.images=0")
    assert {path.relative_to(out) for path in out.rglob("*")} == first
    features(out, run, "image=1", "statistics.images=0")
    assert len(read_features(out).overviews) == 1
    assert {path.relative_to(out) for path in out.rglob("*")} != first


def test_an_index_that_is_not_whole_is_refused(shown: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No .*features\.json"):
        read_features(tmp_path)
    content = json.loads((shown / "features.json").read_text())
    for change, words in (
        ({"schema": 99}, "schema 99"),
        ({"runs": [{"key": "a"}]}, "not a whole index"),
        ({"overviews": [{"image": "a", "files": ["../../../etc/passwd"]}]}, "no file in its folder"),
    ):
        write_sealed_json(tmp_path / "features.json", content | change)
        with pytest.raises(UserError, match=words):
            read_features(tmp_path)
    (tmp_path / "features.json").write_text('{"schema": 1, "runs"')
    with pytest.raises(UserError, match="not a whole index"):
        read_features(tmp_path)


def test_a_user_reads_one_line_and_no_stack_trace(tmp_path: Path) -> None:
    text = output_of("src.report", "features", f"checkpoint={tmp_path}", "image=3", status=1)
    assert "No checkpoint" in text
    assert "Traceback" not in text
    assert "cannot show" in output_of("src.report", "features", "--help", status=0)
    assert "Did you mean" in output_of("src.report", "features", "statistics.imagez=3", status=1)


@pytest.mark.usefixtures("undrawn")
def test_real_photographs_with_real_borders(
    compose_config: Callable[..., RunDescription], small_overrides: list[str], real_data: Path, tmp_path: Path
) -> None:
    """VOC's masks: lines of void along the borders, sizes that no stride divides."""
    from exfuse.runs.training import train
    from tests.small_runs import only_run

    root = real_data / "voc_animals" / "VOCdevkit" / "VOC2012"
    if not root.is_dir():
        pytest.skip(f"no VOC animals at {root}")
    overrides = [one for one in small_overrides if not one.startswith("data.")]
    data = [
        "data=voc_animals",
        f"data.root={root}",
        "recipe.epochs=1",
        "recipe.long_side=96",
        "debug.images=8",
        "+ablation=seb",
    ]
    train(compose_config(*overrides, *data, f"paths.runs={tmp_path / 'runs'}"))
    features(tmp_path / "out", f"checkpoint={only_run(tmp_path / 'runs').path}", "image=2", "statistics.images=6")
    rows = {(row.level, row.statistic): row for row in read_features(tmp_path / "out").summary}
    assert rows["res2", "energy_band"].images == 6
    assert rows["res2", "contrast"].before is not None
    shares = [rows["res2", f"branch_{part}"].after for part in ("channel", "mask", "specific")]
    assert math.isclose(sum(share for share in shares if share is not None), 1, rel_tol=1e-6)
