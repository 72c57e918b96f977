"""Where a row gains: columns of a study's table and a figure for edges, interiors and contours."""

import statistics
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from exfuse.analysis.comparisons import compare_rows, effects_of
from exfuse.analysis.figures import trimap
from exfuse.analysis.formats import csv, markdown
from exfuse.analysis.rendering import check_study, render_study
from exfuse.analysis.resampling import Resampled
from exfuse.analysis.table import build_table, compare_parts
from exfuse.errors import UserError
from exfuse.store.folder import BOUNDARY
from exfuse.store.sequential import Rule, Sequential
from exfuse.store.study_reading import load_study
from tests.analysis.synthetic import StudyBuilder, edit_study

SEEDS = (0, 1, 2)


def two_rows(folder: Path, areas: tuple[int, ...] = SEEDS, **content: object) -> Path:
    builder = StudyBuilder(folder, **content)
    builder.row("baseline", 0.6, areas=SEEDS)
    builder.row("seb", 0.8, options={"seb": "product"}, on="baseline", areas=areas)
    return builder.finish()


@pytest.mark.parametrize("radius", [3, 10])
def test_columns_hold_the_mean_over_seeds_and_the_paired_interval(tmp_path, radius):
    study = load_study(two_rows(tmp_path, edge_radius=radius))
    baseline, seb = build_table(study).rows
    parts = {
        "interior": lambda run: run.boundary_areas.interior(radius),
        "edge": lambda run: run.boundary_areas.band(radius),
        "boundary": lambda run: run.boundary_areas.boundary,
    }
    for key, areas in parts.items():
        ours, theirs = ({seed: areas(row.runs[seed]) for seed in SEEDS} for row in (study.row("seb"), study.row("baseline")))
        interval = Resampled({"row": ours, "base": theirs}).contrast({"row": 1, "base": -1})
        values = seb[key].values
        assert values[key] == pytest.approx(statistics.mean(100 * ours[seed].total().mean_iou() for seed in SEEDS))
        assert values[f"{key}_difference"] == pytest.approx(100 * interval.estimate)
        assert (values[f"{key}_low"], values[f"{key}_high"]) == pytest.approx((100 * interval.low, 100 * interval.high))
        assert seb[key].text.startswith(f"{values[key]:.1f} (+")
        assert "(" not in baseline[key].text
    text = markdown.render([build_table(study)])
    assert f"edge mIoU % ({radius} px)" in text
    assert f"within {radius} px of a pixel with another label or void" in text
    assert "interior_difference" in csv.render(build_table(study))


def test_a_sequential_study_has_no_p_but_that_of_its_looks(tmp_path):
    """How many seeds there are was chosen by mIoU, with which its parts go along."""
    folder = two_rows(tmp_path, edge_radius=3)
    assert all(one.adjusted is not None for part in compare_parts(load_study(folder)).values() for one in part.values())
    found = Sequential(rule=Rule(seeds=[*SEEDS], first=2, pairs=[("seb", "baseline")]))
    edit_study(folder, lambda content: content.update(sequential=msgspec.to_builtins(found)))
    study = load_study(folder)
    parts = [one for part in compare_parts(study).values() for one in part.values()]
    assert parts
    assert all(one.interval is not None and one.adjusted is None and not one.found for one in parts)
    assert compare_rows(study)["seb"].adjusted is not None
    assert "none has a p" in markdown.render([build_table(study)])
    assert "sequential study" in str(effects_of(study))


def test_without_being_asked_for_a_table_is_the_one_of_records_without_areas(tmp_path):
    plain, detailed = StudyBuilder(tmp_path / "x"), StudyBuilder(tmp_path / "y", name="x")
    for builder, seeds in ((plain, ()), (detailed, SEEDS)):
        builder.row("baseline", 0.6, areas=seeds)
        builder.row("seb", 0.8, options={"seb": "product"}, on="baseline", areas=seeds)
    texts = [markdown.render([build_table(load_study(builder.finish()))]) for builder in (plain, detailed)]
    assert texts[0] == texts[1]
    assert "interior" not in texts[0]


def test_runs_from_before_the_areas_were_kept_are_named_as_not_measured(tmp_path):
    study = load_study(two_rows(tmp_path, areas=(0, 2), edge_radius=5))
    baseline, seb = build_table(study).rows
    assert seb["edge"].text == "not measured"
    assert seb["edge"].values["edge"] is None
    assert baseline["edge"].values["edge"] > 0
    assert seb["difference"].values["difference"] > 0


def test_a_band_without_pixels_is_said_to_have_none(tmp_path):
    builder = StudyBuilder(tmp_path, edge_radius=5)
    folders = builder.row("baseline", 0.6, areas=SEEDS) + builder.row(
        "seb", 0.8, options={"seb": "product"}, on="baseline", areas=SEEDS
    )
    study = load_study(builder.finish())
    for row in study.rows:
        for run in row.runs.values():
            for area in run.boundary_areas.areas:
                area[:, : run.boundary_areas.radii.index(5) + 1] = 0
    assert len(folders) == 6
    baseline, seb = build_table(study).rows
    assert baseline["edge"].text == seb["edge"].text == "no such pixel"
    assert "(+" in seb["interior"].text
    assert compare_rows(study, lambda run: run.boundary_areas.band(5))["seb"].reason == "too few pixels"


@pytest.mark.parametrize("radius", [4, 0])
def test_a_radius_that_was_not_counted_is_refused(tmp_path, radius):
    folder = two_rows(tmp_path)
    edit_study(folder, lambda study: study.update(edge_radius=radius))
    with pytest.raises(UserError, match=r"edge_radius is .*expected one of 1, 2, 3, 5"):
        load_study(folder)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_areas_that_are_not_those_of_the_record_are_refused(tmp_path, damage):
    folder = two_rows(tmp_path, edge_radius=5)
    damage(next((folder / "records").glob(f"*/{BOUNDARY}")))
    with pytest.raises(UserError, match=r"boundary\.npz does not hold the areas"):
        build_table(load_study(folder))


def test_the_trimap_figure_shows_every_band_and_each_rows_gain(tmp_path):
    folder = two_rows(tmp_path)
    study = load_study(folder)
    baseline, seb = study.rows
    assert trimap.rows_with_areas(study) == [baseline, seb]
    for (radius, scores), (same, gains), (_, theirs) in zip(
        trimap.band_curve(seb), trimap.band_curve(seb, baseline), trimap.band_curve(baseline), strict=True
    ):
        assert radius == same
        assert scores == [100 * run.boundary_areas.band(radius).total().mean_iou() for run in seb.runs.values()]
        assert gains == pytest.approx([ours - other for ours, other in zip(scores, theirs, strict=True)])
    figure = trimap.draw(study)
    left, right = figure.axes
    assert [line.get_label() for line in left.lines] == ["baseline", "seb"]
    assert len(right.lines) == 2  # zero, and seb vs baseline
    render_study(folder, Console(quiet=True))
    assert (folder / "trimap.svg").is_file()
    check_study(folder)


def test_ticks_of_differences_are_told_with_the_decimals_that_they_need(tmp_path):
    axes = trimap.draw(load_study(two_rows(tmp_path))).axes[1]
    for ticks, told in (
        ([-0.5, -0.25, 0, 0.25], ["-0.50", "-0.25", "0", "+0.25"]),
        ([-1, 0, 1.5], ["-1.0", "0", "+1.5"]),
        ([0, 10, 20], ["0", "+10.0", "+20.0"]),
    ):
        axes.set_yticks(ticks)
        shown = axes.yaxis.get_major_formatter().format_ticks(ticks)
        assert [one.replace("\N{MINUS SIGN}", "-") for one in shown] == told


def test_records_without_areas_have_no_trimap_figure(tmp_path):
    builder = StudyBuilder(tmp_path)
    builder.row("baseline", 0.6, areas=(0,))
    builder.row("seb", 0.7, options={"seb": "product"}, on="baseline")
    study = load_study(builder.finish())
    assert trimap.rows_with_areas(study) == []
    render_study(tmp_path, Console(quiet=True))
    assert not (tmp_path / "trimap.png").exists()
