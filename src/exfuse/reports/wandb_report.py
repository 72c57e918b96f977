"""Build a study's W&B report and workspace view, and publish them on the user's word."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from exfuse.errors import UserError, first_line, needing, plural
from exfuse.files import outputs, seen_from, write_text
from exfuse.reports.wandb_study import view_study
from exfuse.store.study_reading import load_study
from exfuse.terminal import Console

_Answer = TypeVar("_Answer")


def report_to_wandb(study_folder: str, project: str, entity: str | None, publish: bool, output: str | None) -> None:
    """Write the specs of a report and a workspace view of a study; with ``publish`` save them at W&B.

    Args:
        study_folder: of the study.
        project, entity: W&B's own; None for its default.
        publish: whether to.
        output: folder of the specs; None for one below outputs/reports.

    Raises:
        ConfigError: if the package that builds them is missing.
        UserError: if the study cannot be read, or W&B does not take it.
    """
    view = view_study(Path(study_folder))
    with needing("workspaces", "report wandb"):
        from exfuse.reports import wandb_document
        from exfuse.reports.wandb_preview import render_preview
    console = Console()
    if publish and not wandb_document.has_key():
        raise UserError("W&B has no API key on this machine: run `wandb login`, or set WANDB_API_KEY. Nothing was published.")
    if publish and not entity:
        entity = _of_wandb(wandb_document.default_entity)
    report = wandb_document.build_report(view, entity or "", project)
    workspace = wandb_document.build_workspace(view, entity or "", project)
    folder = Path(output or Path("outputs/reports/wandb") / Path(study_folder).resolve().name)
    of = f"W&B report of study {seen_from(folder, Path(study_folder))}"
    wandb_document.write_specs(report, workspace, folder, of)
    preview = folder / "preview.html"
    with outputs([preview], of=[of]):
        write_text(preview, render_preview(load_study(Path(study_folder)), wandb_document.panels_of(report)))
    runs = f"{plural(len(view.ids), 'run')} in {plural(len(view.rows), 'row')}"
    console.print(f"Report and workspace view of {view.title} ({runs}): {folder}; preview.html shows it", soft_wrap=True)
    if not publish:
        console.print("Nothing was sent. publish=true saves both at W&B, where the study's runs must be (wandb sync).")
        return
    for address in _of_wandb(lambda: wandb_document.save_at_wandb(report, workspace)):
        console.print(address, soft_wrap=True)


def _of_wandb(call: Callable[[], _Answer]) -> _Answer:
    try:
        return call()
    except Exception as error:  # wandb raises all sorts; each means that W&B did not take it
        raise UserError(
            f"W&B did not take the report: {first_line(error)}. Check the network, the key (`wandb login`), entity and project."
        ) from error
