"""Build a study's W&B report and workspace view, and publish them on the user's word."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from exfuse.errors import ConfigError, UserError
from exfuse.reports.wandb_study import view_study

_Answer = TypeVar("_Answer")


def report_to_wandb(config: DictConfig) -> None:
    """Write the specs of a report and a workspace view of ``config.study.folder``; with ``publish=true`` save them at W&B.

    Raises:
        ConfigError: if ``study`` is not set, or the package that builds them is missing.
        UserError: if the study cannot be read, or W&B does not take it.
    """
    if OmegaConf.is_missing(config.study, "folder"):
        raise ConfigError("study is not set: add study=FOLDER, such as study=experiments/table3_animals.")
    view = view_study(Path(config.study.folder))
    try:
        from exfuse.reports import wandb_document
    except ModuleNotFoundError as error:
        raise ConfigError(f"W&B reports need {error.name}, which is not installed: pip install -e '.[workspaces]'") from error
    console = Console()
    entity = config.entity or ""
    if config.publish and not wandb_document.has_key():
        raise UserError("W&B has no API key on this machine: run `wandb login`, or set WANDB_API_KEY. Nothing was published.")
    if config.publish and not entity:
        entity = _of_wandb(wandb_document.default_entity)
    report = wandb_document.build_report(view, entity, config.project)
    workspace = wandb_document.build_workspace(view, entity, config.project)
    folder = Path(config.output or Path("outputs/reports/wandb") / view.name)
    wandb_document.write_specs(report, workspace, folder)
    runs = f"{len(view.ids)} runs in {len(view.rows)} rows"
    console.print(f"Report and workspace view of {view.title} ({runs}): {folder}", soft_wrap=True, markup=False)
    if not config.publish:
        console.print("Nothing was sent. publish=true saves both at W&B, where the study's runs must be (wandb sync).")
        return
    for address in _of_wandb(lambda: wandb_document.publish(report, workspace)):
        console.print(address, soft_wrap=True)


def _of_wandb(call: Callable[[], _Answer]) -> _Answer:
    try:
        return call()
    except Exception as error:  # wandb raises all sorts; each means that W&B did not take it
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"W&B did not take the report: {first.rstrip('.')}. Check the network, the key (`wandb login`), entity and project."
        ) from error
