"""A study's W&B report and workspace view, built without a network and read back as W&B would read them."""

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exfuse.palette import VARIANTS
from exfuse.reports.wandb_study import StudyView, view_study
from exfuse.store.costs import COSTS, MEASURED
from exfuse.store.study_reading import load_study
from tests import entry_points
from tests.analysis.synthetic import StudyBuilder
from tests.conftest import REPOSITORY
from tests.tracking.wandb_server import KEY, wandb_server

wandb_workspaces = pytest.importorskip("wandb_workspaces")
STUDY = REPOSITORY / "experiments" / "table3_scenes"


@pytest.fixture(scope="module")
def view() -> StudyView:
    return view_study(STUDY)


@pytest.fixture(scope="module")
def specs(view: StudyView, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What would be published, by name."""
    from exfuse.reports.wandb_document import build_report, build_workspace, write_specs

    folder = tmp_path_factory.mktemp("specs")
    write_specs(build_report(view, "team", "project"), build_workspace(view, "team", "project"), folder, "a study")
    return {path.stem: json.loads(path.read_text()) for path in folder.iterdir()}


def grids(specs: dict[str, Any]) -> list[dict[str, Any]]:
    return [block["metadata"] for block in specs["report"]["spec"]["blocks"] if block["type"] == "panel-grid"]


def panels(specs: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    every = [panel for grid in grids(specs) for panel in grid["panelBankSectionConfig"]["panels"]]
    return [panel["config"] for panel in every if panel["viewType"] == kind]


def report_command(*overrides: str, **settings: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return entry_points.run("src.report", "wandb", *overrides, environment=own | {"COLUMNS": "300"} | settings)


def test_each_row_of_the_table_is_a_run_set_of_its_runs_grouped_by_variant(specs: dict[str, Any], view: StudyView) -> None:
    planned = json.loads((STUDY / "study.json").read_text())["rows"]
    assert [set(ids) for ids in view.rows.values()] == [set(row["runs"].values()) for row in planned]
    for grid in grids(specs)[:3]:
        assert [runs["name"] for runs in grid["runSets"]] == list(view.rows)
        for runs, ids in zip(grid["runSets"], view.rows.values(), strict=True):
            (asked,) = runs["filters"]["filters"]
            assert (asked["key"]["name"], asked["op"], asked["value"]) == ("name", "IN", ids)
            assert runs["grouping"] == [{"section": "config", "name": "variant.value"}]


def test_a_variant_has_its_pages_colour(specs: dict[str, Any], view: StudyView) -> None:
    assert list(view.colours.values()) == list(VARIANTS[: len(view.rows)])
    text = json.dumps(specs["workspace"])
    for name, ids in view.rows.items():
        for grid in grids(specs):
            assert {grid["customRunColors"][id] for id in ids} == {view.colours[name]}
        assert all(f'"{id}": "{view.colours[name]}"' in text for id in ids)


def test_the_report_holds_the_committed_table(specs: dict[str, Any]) -> None:
    (table,) = [block for block in specs["report"]["spec"]["blocks"] if block["type"] == "markdown-block"]
    assert table["content"] == (STUDY / "table.md").read_text()
    assert specs["report"]["displayName"] == json.loads((STUDY / "study.json").read_text())["title"]


def test_curves_classes_costs_and_overlays_are_drawn_from_what_runs_log(specs: dict[str, Any], view: StudyView) -> None:
    curves = {(panel.get("metrics") or ["?"])[0]: panel for panel in panels(specs, "Run History Line Plot")}
    assert curves["val/miou"]["xAxis"] == "epoch"
    assert curves["train/loss_main"]["xAxis"] == "step"  # with auxiliary losses, rows would not be alike
    bars = [panel["metrics"][0] for panel in panels(specs, "Bar Chart")]
    assert [bar for bar in bars if bar.startswith("final/iou/")] == [f"final/iou/{name}" for name in view.classes]
    assert {bar for bar in bars if bar.startswith("cost/")} == {f"cost/{cost.key}" for cost in COSTS} - {
        f"cost/{key}" for key in view.hidden
    }
    assert {"cost/parameters", "cost/gigamacs"} <= set(bars)
    (media,) = panels(specs, "Media Browser")
    assert media["mediaKeys"] == ["val/examples"]


def test_panels_of_a_grid_do_not_lie_on_one_another(specs: dict[str, Any]) -> None:
    for grid in grids(specs):
        places = [panel["layout"] for panel in grid["panelBankSectionConfig"]["panels"]]
        taken = [(x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
        assert len(taken) == len(set(taken))
        assert max(x for x, _ in taken) < 24


def test_the_saved_view_shows_the_studys_runs_alone_by_variant(specs: dict[str, Any], view: StudyView) -> None:
    section = specs["workspace"]["spec"]["section"]
    (runs,) = section["runSets"]
    (asked,) = runs["filters"]["filters"]
    assert asked["value"] == view.ids
    assert runs["grouping"] == [{"section": "config", "name": "variant.value"}]
    names = [part["name"] for part in section["panelBankConfig"]["sections"]]
    assert names[:4] == ["Training", "Classes", "Costs", "Pictures"]


def test_the_preview_draws_every_panel_at_its_place_from_the_records(view: StudyView, specs: dict[str, Any]) -> None:
    pytest.importorskip("plotly")
    from exfuse.reports.wandb_document import build_report, panels_of
    from exfuse.reports.wandb_preview import render_preview

    study = load_study(STUDY)
    panels = panels_of(build_report(view, "team", "project"))
    page = render_preview(study, panels)
    every = [panel for of_heading in panels.values() for panel in of_heading]
    planned = [panel["layout"] for grid in grids(specs) for panel in grid["panelBankSectionConfig"]["panels"]]
    assert [panel.place for panel in every] == [(at["x"], at["y"], at["w"], at["h"]) for at in planned]
    for x, y, width, height in {panel.place for panel in every}:
        assert f'style="grid-column: {x + 1} / span {width}; grid-row: {y + 1} / span {height}"' in page
    (content,) = re.findall(r'id="charts-data">(.*?)</script>', page)
    charts = json.loads(content)
    drawn = [panel for panel in every if panel.kind in ("BarPlot", "ScatterPlot")]
    by_title = {chart["layout"]["xaxis"]["title"]["text"]: chart for chart in charts.values()}
    assert {panel.y[0] if panel.kind == "BarPlot" else panel.x for panel in drawn} <= by_title.keys()
    scores = [[record.scores.miou for record in row.records.values()] for row in study.rows]
    (bars,) = by_title["final/miou"]["data"]
    assert bars["x"] == pytest.approx([sum(of_row) / len(of_row) for of_row in scores])
    assert bars["error_x"]["array"] == pytest.approx([max(of_row) - sum(of_row) / len(of_row) for of_row in scores])
    assert len(by_title["cost/gigamacs"]["data"]) in (1, len(scores))  # bars, or the points of every row


@pytest.mark.slow
def test_nothing_is_sent_without_the_users_word(tmp_path: Path) -> None:
    with wandb_server() as server:
        done = report_command(
            f"study={STUDY}", f"output={tmp_path}/specs", HOME=str(tmp_path), WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY
        )
        assert server.asked == []
    assert done.returncode == 0, done.stderr
    assert "publish=true" in done.stdout
    assert {path.name for path in (tmp_path / "specs").iterdir()} == {"report.json", "workspace.json", "preview.html"}


@pytest.mark.slow
def test_publishing_sends_report_and_view_and_names_their_addresses(tmp_path: Path) -> None:
    with wandb_server() as server:
        done = report_command(
            *(f"study={STUDY}", f"output={tmp_path}/specs", "publish=true", "entity=someone"),
            HOME=str(tmp_path),
            WANDB_BASE_URL=server.url,
            WANDB_API_KEY=KEY,
        )
    assert done.returncode == 0, done.stderr
    assert sorted(view["type"] for view in server.views) == ["project-view", "runs"]
    sent = {view["type"]: json.loads(view["spec"]) for view in server.views}
    assert any(block["type"] == "markdown-block" for block in sent["runs"]["blocks"])
    assert done.stdout.count(server.url) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "told"),
    [({}, "wandb login"), ({"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY}, "did not take the report")],
)
def test_who_cannot_publish_is_told_in_one_line(settings: dict[str, str], told: str, tmp_path: Path) -> None:
    done = report_command(
        f"study={STUDY}", "publish=true", "entity=someone", f"output={tmp_path}", HOME=str(tmp_path), **settings
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert told in line


@pytest.mark.slow
def test_a_study_or_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    unset = report_command()
    assert unset.returncode == 2
    assert "exfuse report wandb STUDY" in unset.stderr
    builder = StudyBuilder(tmp_path / "study")
    builder.row("baseline", 0.6, (0,), status={0: "failed"})
    assert "no finished run" in report_command(f"study={builder.finish()}").stderr
    (tmp_path / "wandb_workspaces.py").write_text("raise ModuleNotFoundError(name='wandb_workspaces')")
    without = report_command(f"study={STUDY}", f"output={tmp_path}", PYTHONPATH=str(tmp_path))
    assert without.returncode == 1
    assert "pip install 'exfuse[workspaces]'" in without.stderr


def test_times_of_the_runs_are_not_shown_where_they_were_measured_anew(view: StudyView, tmp_path: Path) -> None:
    from exfuse.reports.wandb_document import build_report, build_workspace, write_specs

    shown = {}
    for measured in (False, True):
        one, folder = replace(view, hidden=frozenset(MEASURED if measured else ())), tmp_path / str(measured)
        write_specs(build_report(one, "team", "project"), build_workspace(one, "team", "project"), folder, "a study")
        texts = [(folder / f"{name}.json").read_text() for name in ("report", "workspace")]
        shown[measured] = {key: all(f"cost/{key}" in text for text in texts) for key in ("gigamacs", *MEASURED)}
        assert shown[measured] == {key: any(f"cost/{key}" in text for text in texts) for key in ("gigamacs", *MEASURED)}
    assert shown[False] == dict.fromkeys(("gigamacs", *MEASURED), True)
    assert shown[True] == dict.fromkeys(MEASURED, False) | {"gigamacs": True}


def test_times_that_the_study_withholds_are_hidden() -> None:
    study = REPOSITORY / "experiments" / "table3_photos"
    withheld = {*load_study(study).withheld}
    assert withheld
    assert view_study(study).hidden >= withheld


def test_rows_of_one_variant_are_not_drawn_as_one() -> None:
    from exfuse.reports.wandb_document import build_report, build_workspace

    view = view_study(REPOSITORY / "experiments" / "atrous_camvid")
    assert not view.distinct
    settings = build_workspace(view, "team", "project").runset_settings
    assert (settings.groupby, settings.group_colors) == ([], {})
    colours = {id: setting.color for id, setting in settings.run_settings.items()}
    assert colours == {id: view.colours[row] for row, ids in view.rows.items() for id in ids}
    grids = [block.panels for block in build_report(view, "team", "project").blocks if hasattr(block, "panels")]
    assert not [panel for panels in grids for panel in panels if getattr(panel, "groupby", None)]
