"""``exfuse runs``: what was trained, and what of it is to go."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from rich.console import Console
from rich.prompt import Confirm
from rich.table import Table

from exfuse.errors import ConfigError, UserError
from exfuse.store.folder import Listed, list_runs
from exfuse.store.record import RUNNING


class Row(NamedTuple):
    """A run in the list. ``recipe`` and ``miou`` are None where a run has none; ``why`` says why it is not done."""

    name: str
    data: str
    recipe: str | None
    seed: int
    status: str
    miou: float | None
    date: str
    size: int
    key: str
    path: str
    why: str
    diverged: bool = False


def list(config: DictConfig) -> None:
    """Print the runs that the filters leave.

    Raises:
        ConfigError: if ``sort`` names no column.
    """
    if config.sort not in (columns := Row._fields[:9]):
        raise ConfigError(f"sort={config.sort}: expected {', '.join(columns)}.")
    found = [(run, _row(run)) for run in list_runs(Path(config.paths.runs))]
    rows = [row for run, row in found if _is_wanted(run, row, config)]
    if config.sort != "date":  # in which they are
        rows.sort(key=lambda row: (value := getattr(row, config.sort)) is None or value)
    if config.sort in ("miou", "size"):
        rows.sort(key=lambda row: -(getattr(row, config.sort) or 0))
    if config.json:
        print(json.dumps([row._asdict() for row in rows], indent=2))
        return
    table = Table("name", "data", "recipe", "seed", "status", "mIoU %", "date", "MB", "key", box=None, header_style="bold")
    for row in rows:
        score = "" if row.miou is None else f"{100 * row.miou:.1f}"
        shown = "diverged" if row.diverged else row.status
        status = f"[{'green' if shown == 'done' else 'red'}]{shown}[/]"
        size = f"{row.size / 1e6:,.0f}"
        table.add_row(row.name, row.data, row.recipe, str(row.seed), status, score, row.date[:16], size, row.key[:8])
    Console().print(table if rows else f"No such run in {config.paths.runs}.")


def show(config: DictConfig) -> None:
    """Print what a run's record says.

    Raises:
        UserError: if it left none, or the record must not be trusted.
    """
    (run, *others) = [*list_runs(Path(config.run)), None]
    if run is None or others != [None]:
        raise UserError(f"{config.run} is no run's folder: it holds no record.json. exfuse runs lists them.")
    if config.json:
        print((run.folder.path / "record.json").read_text(), end="")
        return
    if run.record is None:
        raise UserError(run.damage)
    record, row, table = run.record, _row(run), Table(show_header=False, box=None)
    about = row._asdict() | {
        "miou": None if row.miou is None else f"{100 * row.miou:.1f} %",
        "size": f"{row.size / 1e6:,.1f} MB",
    }
    about |= {"variant": record.label, "weights": record.weights, "parameters": f"{record.parameters:,}"}
    about |= {f"{split} images": number for split, number in record.images.items()}
    about |= {
        "commit": record.environment.short_commit,
        "device": record.environment.device,
        "minutes": round(record.seconds / 60, 1),
    }
    about |= {group: option for group, option in sorted(record.choices.items()) if group not in about}
    for name, value in about.items():
        if value not in (None, ""):
            table.add_row(name, str(value), style="" if name in row._fields else "dim")
    Console().print(table)


def rm(config: DictConfig) -> None:
    """Remove runs, after a question.

    Raises:
        UserError: if one is being trained, nothing is there, or nobody can be asked.
    """
    runs = [run for folder in config.runs for run in list_runs(Path(folder))]
    if not runs:
        raise UserError(f"No run in {', '.join(config.runs)}. exfuse runs lists them.")
    console = Console()
    for run in runs:
        row = _row(run)
        console.print(
            f"{run.folder.path}: {row.name}, {row.data}, seed {row.seed}, {row.status}", soft_wrap=True, highlight=False
        )
    what = f"{len(runs)} run{'s' if len(runs) > 1 else ''}, {sum(run.size for run in runs) / 1e6:,.1f} MB"
    if config.dry:
        console.print(f"Would remove {what}.")
        return
    if not config.yes:
        if not console.is_terminal:
            raise UserError(f"Nobody is here to be asked whether to remove {what}: add yes=true, or dry=true to look only.")
        if not Confirm.ask(f"Remove {what}?", console=console, default=False):
            return
    for run in runs:
        with run.folder.locked():
            run.folder.clear()
    console.print(f"Removed {what}.")


def du(config: DictConfig) -> None:
    """Print how much of the disk each store takes."""
    folders = {name: Path(str(folder)) for name, folder in config.paths.items() if name != "data"}
    folders |= {name: Path("outputs") / name for name in ("studies", "sweeps")}
    sizes = {
        name: sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) for name, folder in folders.items()
    }
    if config.json:
        print(json.dumps(sizes))
        return
    table = Table("what", "MB", "where", box=None)
    for name, size in sizes.items():
        table.add_row(name, f"{size / 1e6:,.1f}", str(folders[name]))
    table.add_row("all", f"{sum(sizes.values()) / 1e6:,.1f}")
    Console().print(table)


def summarise(config: DictConfig) -> None:
    """Summarise over seeds."""
    from exfuse.runs.summary import summarise as summarise_runs

    summarise_runs(Path(config.folder), [str(name) for name in config.classes], Path(config.csv) if config.csv else None)


def rescore(config: DictConfig) -> None:
    """Score runs again."""
    from exfuse.process import choose_device
    from exfuse.runs.evaluation import rescore as rescore_runs

    rescore_runs([Path(run) for run in config.runs], choose_device(config.device), config.workers)


def _row(run: Listed) -> Row:
    record, date = run.record, datetime.fromtimestamp(run.modified).isoformat(" ", "seconds")
    place: dict[str, Any] = {"date": date, "size": run.size, "key": run.folder.key, "path": str(run.folder.path)}
    if record is None:
        return Row("", "", None, 0, "damaged", None, **place, why=run.damage)
    status = "interrupted" if record.status == RUNNING and not run.folder.is_held() else record.status
    miou = record.scored.miou if record.scored else None
    recipe = record.choices.get("recipe")
    return Row(record.title, record.data, recipe, record.seed, status, miou, **place, why=record.why, diverged=record.diverged)


def _is_wanted(run: Listed, row: Row, config: DictConfig) -> bool:
    choices = run.record.choices if run.record else {}
    label = run.record.label if run.record else ""
    return (
        (config.status is None or row.status == config.status)
        and (config.name is None or str(config.name) in row.name or str(config.name) in label)
        and (config.data is None or str(config.data) in (choices.get("data"), row.data))
        and (config.recipe is None or str(config.recipe) == row.recipe)
        and (config.seed is None or str(config.seed) == str(row.seed))
    )
