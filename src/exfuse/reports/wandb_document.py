"""A study as a W&B report and a workspace view: the only place that knows wandb-workspaces."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

from exfuse.files import outputs, write_json
from exfuse.reports.wandb_study import StudyView
from exfuse.store.costs import COSTS

_COLUMNS = ["summary:final/miou", "config:variant.value", "config:seed.value", "summary:cost/gigamacs"]
_WIDE, _HALF, _THIRD = 24, 12, 8  # columns of W&B's grid


def build_report(view: StudyView, entity: str, project: str) -> wr.Report:
    """Table, curves, classes, costs and pictures; one run set a row of the table, its seeds drawn as a mean and their range."""
    grid: list[Any] = [wr.H2("Training"), _grid(view, _curves(view)), wr.H2("Classes"), _grid(view, _class_bars(view))]
    grid += [wr.H2("Costs"), _grid(view, _cost_panels(view)), wr.H2("Pictures"), _grid(view, _pictures(), grouped=False)]
    return wr.Report(
        entity=entity,
        project=project,
        title=view.title[:128],
        description=view.question,
        blocks=[wr.P(view.question), wr.MarkdownBlock(view.table), *grid],
        width="fluid",
    )


def build_workspace(view: StudyView, entity: str, project: str) -> ws.Workspace:
    """The same panels as a saved view over the study's runs, grouped by variant where no two rows are of one."""
    sections = {"Training": _curves(view), "Classes": _class_bars(view), "Costs": _cost_panels(view), "Pictures": _pictures()}
    return ws.Workspace(
        entity=entity,
        project=project,
        name=view.title,
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()],
        settings=ws.WorkspaceSettings(max_runs=max(10, len(view.ids))),
        runset_settings=ws.RunsetSettings(
            filters=expr.And(expr.Metric("ID").isin(view.ids)),
            groupby=[ws.Config("variant")] if view.distinct else [],
            run_settings={id: ws.RunSettings(color=view.colours[name]) for name, ids in view.rows.items() for id in ids},
            group_colors={view.variants[name]: view.colours[name] for name in view.rows} if view.distinct else {},
            pinned_columns=_COLUMNS,
        ),
    )


def write_specs(report: wr.Report, workspace: ws.Workspace, folder: Path, of: str) -> None:
    """Write what would be published ``of`` a study as ``report.json`` and ``workspace.json``."""
    models = {folder / "report.json": report._to_model(), folder / "workspace.json": workspace._to_model()}
    with outputs([*models], of=[of] * len(models)):
        for path, model in models.items():
            write_json(path, json.loads(model.model_dump_json(by_alias=True, exclude_none=True)))


class Panel(NamedTuple):
    """One panel of a report, without W&B's classes.

    Attributes:
        kind: of panel, by its class there.
        title: above it.
        x, y: names of what it draws; `x` is "" where its kind has one axis.
        pattern: in place of ``y``, a regular expression of names.
        place: x, y, width and height on a grid of 24 columns.
    """

    kind: str
    title: str
    x: str
    y: list[str]
    pattern: str
    place: tuple[int, int, int, int]


def panels_of(report: wr.Report) -> dict[str, list[Panel]]:
    """Every panel by the heading above it."""
    found: dict[str, list[Panel]] = {}
    for block in report.blocks:
        if isinstance(block, wr.H2):
            heading = str(block.text)
        elif isinstance(block, wr.PanelGrid):
            found[heading] = [_plain(panel) for panel in block.panels]
    return found


def _plain(panel: Any) -> Panel:
    def of(*names: str) -> Any:
        return next((value for name in names if (value := getattr(panel, name, None)) is not None), "")

    y = of("metrics", "y", "media_keys", "table_name")
    names = [str(getattr(one, "name", one)) for one in (y if isinstance(y, list) else [y])]
    x, layout = of("x"), panel.layout
    place = (layout.x, layout.y, layout.w, layout.h)
    return Panel(type(panel).__name__, of("title") or names[0], str(getattr(x, "name", x)), names, of("metric_regex"), place)


def save_at_wandb(report: wr.Report, workspace: ws.Workspace) -> list[str]:
    """Save both at W&B and return their addresses. Whatever wandb raises is raised."""
    return [report.save().url, workspace.save().url]


def has_key() -> bool:
    """Whether a W&B key is configured; asks for none."""
    # few tries of a call: wandb's service otherwise goes on with them for minutes, and the process waits for it at its end
    wandb.setup(wandb.Settings(silent=True, x_graphql_retry_max=3, x_graphql_retry_wait_max_seconds=3))
    return wandb.login(prompt=False, verify=False)


def default_entity() -> str:
    """The user or team that the configured key belongs to. Whatever wandb raises is raised."""
    return str(wandb.Api(timeout=20).default_entity)


def _grid(view: StudyView, panels: list[Any], grouped: bool = True) -> wr.PanelGrid:
    runsets = [
        wr.Runset(name=name, filters=expr.And(expr.Metric("ID").isin(ids)), groupby=["config.variant"] if grouped else [])
        for name, ids in view.rows.items()
    ]
    colours: dict[Any, Any] = {id: view.colours[name] for name, ids in view.rows.items() for id in ids}
    if grouped:
        keys = {name: wr.RunsetGroupKey(wr.Config("variant"), view.variants[name]) for name in view.rows}
        colours |= {wr.RunsetGroup(name, (key,)): view.colours[name] for name, key in keys.items()}
    return wr.PanelGrid(runsets=runsets, panels=panels, custom_run_colors=colours)


def _curves(view: StudyView) -> list[Any]:
    plots = {"val/miou": "mIoU on val", "val/pixel_accuracy": "Pixel accuracy on val"}
    found: list[Any] = [_bars(view, "final/miou", "mIoU at the end")]
    found += [
        wr.LinePlot(x="epoch", y=[key], title=title, title_x="epoch", groupby_aggfunc="mean", groupby_rangefunc="minmax")
        for key, title in plots.items()
    ]
    found.append(
        wr.LinePlot(x="step", y=["train/loss_main"], title="Training loss of the scores", title_x="step", smoothing_factor=0.6)
    )
    found.append(wr.LinePlot(x="step", metric_regex="^lr-.*", title="Learning rates", title_x="step"))
    return _laid_out(found, _HALF)


def _class_bars(view: StudyView) -> list[Any]:
    bars = [_bars(view, f"final/iou/{name}", f"IoU of {name}") for name in view.classes]
    return _laid_out(bars, _THIRD)


def _cost_panels(view: StudyView) -> list[Any]:
    """Of what the runs know; where their times do not count, the report's table alone has those that do."""
    scatter = wr.ScatterPlot(x="cost/gigamacs", y="final/miou", title="Cost against accuracy")
    bars = [_bars(view, f"cost/{cost.key}", cost.title) for cost in COSTS if cost.key not in view.hidden]
    return _laid_out([scatter, *bars], _THIRD)


def _pictures() -> list[Any]:
    overlays = wr.MediaBrowser(
        title="Val images: truth, prediction and errors as masks",
        media_keys=["val/examples"],
        mode="grid",
        grid_x_axis="index",
        grid_y_axis="run",
    )
    tables = [wr.WeavePanelSummaryTable(table_name=name) for name in ("final/examples", "final/confusion_table")]
    return _laid_out([overlays, *tables], _WIDE)


def _bars(view: StudyView, key: str, title: str) -> wr.BarPlot:
    grouped: dict[str, Any] = {"groupby": wr.Config("variant"), "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    return wr.BarPlot(metrics=[key], title=title, **(grouped if view.distinct else {}))


def _laid_out(panels: list[Any], width: int, height: int = 8) -> list[Any]:
    """Panels of one size, row after row over W&B's 24 columns."""
    across = _WIDE // width
    for place, panel in enumerate(panels):
        panel.layout = wr.Layout(x=place % across * width, y=place // across * height, w=width, h=height)
    return panels
