"""``exfuse runs``: what was trained, and what of it is to go."""

import contextlib
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.filesize import decimal
from rich.prompt import Confirm
from rich.text import Text

from exfuse.errors import UserError, plural
from exfuse.files import as_json
from exfuse.limits import Seed
from exfuse.store.consistency import told_apart
from exfuse.store.folder import Listed, RunFolder, list_runs, size_of
from exfuse.store.record import RECORD, Record
from exfuse.terminal import Console, RichTable

_WIDE = 100  # characters, from which there is room for a time of day


class Row(NamedTuple):
    """A run in the list.

    Attributes:
        recipe, miou: None where a run has none.
        why: it is not done.
        old: its record is of an earlier version's schema, which made keys otherwise.
        differs: in which settings runs of its name are not alike, and what they are here.
    """

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
    old: bool = False
    differs: str = ""


def list_all(
    paths_runs: str,
    status: Literal["done", "diverged", "running", "interrupted", "failed", "killed", "damaged"] | None,
    name: str | int | None,
    data: str | int | None,
    recipe: str | int | None,
    seed: Seed | None,
    sort: Literal["name", "data", "recipe", "seed", "status", "miou", "date", "size", "key"],
    json: bool,
) -> None:
    """Print the runs in ``paths_runs`` that the filters leave, by the column ``sort``; with ``json`` for other programs."""

    def is_wanted(run: Listed, row: Row) -> bool:
        choices, label = (run.record.choices, run.record.label) if run.record else ({}, "")
        return (
            (status is None or status in (row.status, _ending(row).partition(",")[0]))
            and (name is None or str(name) in row.name or str(name) in label)
            and (data is None or str(data) in (choices.get("data"), row.data))
            and (recipe is None or str(recipe) == row.recipe)
            and (seed is None or seed == row.seed)
        )

    runs = list_runs(Path(paths_runs))
    alike = dict[tuple[str, str | None], list[Record]]()  # data and recipe have columns of their own
    for record in (run.record for run in runs if run.record):
        alike.setdefault((record.data, record.choices.get("recipe")), []).append(record)
    differing = {key: told for records in alike.values() for key, told in told_apart(records).items()}
    rows = [row for run in runs if is_wanted(run, row := _row(run)._replace(differs=differing.get(run.folder.key, "")))]
    if sort != "date":  # in which they are
        rows.sort(key=lambda row: ((value := getattr(row, sort)) is None, "" if value is None else value))
    if sort in ("miou", "size"):
        rows.sort(key=lambda row: -(getattr(row, sort) or 0))
    if json:
        print(as_json([row._asdict() for row in rows]), end="")
        return
    console = Console()
    wide = console.width >= _WIDE
    table = RichTable(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for header in ("name", "data", "recipe"):
        table.add_column(header, overflow="fold")
    table.add_column("seed", no_wrap=True, justify="right")
    widest = max((len(word) for row in rows for word in _ending(row).split()), default=0)
    table.add_column("status", overflow="fold", min_width=widest)
    for header in ("mIoU %", "date", "MB", "key"):
        table.add_column(header, no_wrap=True, justify="left" if header in ("date", "key") else "right")
    for row in rows:
        score = "" if row.miou is None else f"{100 * row.miou:.1f}"
        ending = Text(_ending(row), "green" if _ending(row) == "done" else "red")
        about = Text(row.name).append("".join(f"\n{one}" for one in row.differs.split(", ") if one), "dim")
        size, date = f"{row.size / 1e6:,.0f}", row.date[: 16 if wide else 10]
        table.add_row(about, row.data, row.recipe, str(row.seed), ending, score, date, size, row.key[:8])
    console.print(table if rows else f"No such run in {paths_runs}: exfuse train makes them.")


def show(run: str, json: bool) -> None:
    """Print what the record of the run in the folder ``run`` says; with ``json`` all of it.

    Raises:
        UserError: if it left none, or the record must not be trusted.
    """
    (found, *others) = [*list_runs(Path(run)), None]
    if found is None or others != [None]:
        raise UserError(f"{run} is no run's folder: it holds no record.json. exfuse runs lists them.")
    if json:
        print((found.folder.path / RECORD).read_text(encoding="utf-8"), end="")
        return
    if found.record is None:
        raise UserError(found.damage)
    record, row, table = found.record, _row(found), RichTable(show_header=False, box=None)
    about = row._asdict() | {
        "miou": None if row.miou is None else f"{100 * row.miou:.1f} %",
        "size": decimal(row.size),
    }
    if record.averaged:
        about[record.metric.name] = record.metric.precisely(record.score)
    about["old"] = f"of an earlier version: schema {record.schema}" if record.old else None
    about |= {
        "file": record.imported,
        "variant": record.label,
        "weights": record.weights,
        "parameters": f"{record.parameters:,}",
    }
    about |= {f"{split} images": number for split, number in record.images.items()}
    about |= {
        "commit": record.environment.short_commit,
        "own code": ", ".join(record.environment.code) or None,
        "device": record.environment.device,
        "minutes": round(record.seconds / 60, 1),
    }
    about |= {group: option for group, option in sorted(record.choices.items()) if group not in about}
    if record.imported:  # what other code did not tell
        about |= dict.fromkeys(("commit", "minutes")) | ({} if record.parameters else {"parameters": None})
    for name, value in about.items():
        if value not in (None, ""):
            table.add_row(name, str(value), style="" if name in row._fields else "dim")
    Console().print(table)


def rm(runs: list[str], dry: bool, yes: bool) -> None:
    """Remove the runs in the folders ``runs``, after a question unless ``yes``; with ``dry`` say what would go.

    Raises:
        UserError: if one is being trained, nothing is there, or nobody can be asked.
    """
    found = [*{run.folder.path.resolve(): run for folder in runs for run in list_runs(Path(folder))}.values()]
    if not found:
        raise UserError(f"No run in {', '.join(runs)}. exfuse runs lists them.")
    for run in found:
        for place in (run.folder.path.absolute(), run.folder.path.resolve()):  # beside a link, and where that leads
            if (study := place.parent.parent / "study.json").is_file():
                raise UserError(
                    f"{run.folder.path} is evidence of the table of {study.parent}: remove that folder whole, if you will."
                )
    console = Console()
    for run in found:
        row = _row(run)
        console.print(
            f"{run.folder.path}: {row.name}, {row.data}, seed {row.seed}, {row.status}", soft_wrap=True, highlight=False
        )
    what = f"{plural(len(found), 'run')}, {decimal(sum(run.size for run in found))}"
    if dry:
        console.print(f"Would remove {what}.")
        return
    if not yes:
        if not (console.is_terminal and sys.stdin.isatty()):
            raise UserError(f"Nobody is here to be asked whether to remove {what}: add yes=true, or dry=true to look only.")
        with contextlib.suppress(EOFError):  # which is no answer
            if Confirm.ask(f"Remove {what}?", console=console, default=False):
                yes = True
        if not yes:
            return
    for run in found:
        real = run.folder.path.resolve()  # beside which its lock lies; a link may be called as the run is
        with run.folder.locked(), contextlib.ExitStack() as beside:
            if real.parent != run.folder.root.resolve():
                beside.enter_context(RunFolder(real.parent, real.name).locked())
            run.folder.clear()
    console.print(f"Removed {what}.")


def du(paths_runs: str, paths_backbones: str, paths_cache: str, json: bool) -> None:
    """Print how much of the disk each store takes; with ``json`` in bytes."""
    folders = {"runs": Path(paths_runs), "backbones": Path(paths_backbones), "cache": Path(paths_cache)}
    folders |= {name: Path("outputs") / name for name in ("studies", "sweeps")}
    sizes = {name: size_of(folder) for name, folder in folders.items()}
    if json:
        print(as_json(sizes), end="")
        return
    table = RichTable("what", "MB", "where", box=None)
    for name, size in sizes.items():
        table.add_row(name, f"{size / 1e6:,.1f}", str(folders[name]))
    table.add_row("all", f"{sum(sizes.values()) / 1e6:,.1f}")
    Console().print(table)


def _ending(row: Row) -> str:
    shown = "diverged" if row.diverged else row.status
    return f"{shown}, old" if row.old else shown


def _row(run: Listed) -> Row:
    record, date = run.record, datetime.fromtimestamp(run.modified).isoformat(" ", "seconds")
    place: dict[str, Any] = {"date": date, "size": run.size, "key": run.folder.key, "path": str(run.folder.path)}
    if record is None:
        return Row("", "", None, 0, "damaged", None, **place, why=run.damage)
    status = run.folder.status(record)
    miou = record.scored.miou if record.scored else None
    recipe = record.choices.get("recipe")
    place |= {"why": record.why, "diverged": record.done and record.diverged, "old": record.old}
    return Row(record.title, record.data, recipe, record.seed, status, miou, **place)
