"""What W&B shall show of a study, without wandb: rows with the ids of their runs, the table, classes."""

from dataclasses import dataclass
from pathlib import Path

from exfuse.analysis.rendering import Rendering
from exfuse.errors import UserError
from exfuse.palette import variant_colours
from exfuse.store.costs import MEASURED
from exfuse.store.study import Study
from exfuse.store.study_reading import load_study


@dataclass(frozen=True)
class StudyView:
    """A study as W&B's report and workspace need it.

    Attributes:
        name, title, question: of the study.
        table: its tables as Markdown.
        rows: ids of the finished runs of each row, by the row's title; a run's id is its key.
        colours: of each row, by its title, as on its page.
        variants: what W&B groups the runs of each row by.
        classes: names of the classes that the truth holds.
        hidden: costs of the runs that do not count: times and memory where these were measured anew beside one another, and
            what the study withholds.
    """

    name: str
    title: str
    question: str
    table: str
    rows: dict[str, list[str]]
    colours: dict[str, str]
    variants: dict[str, str]
    classes: list[str]
    hidden: frozenset[str] = frozenset()

    @property
    def ids(self) -> list[str]:
        """Of every run, each once."""
        return list(dict.fromkeys(id for ids in self.rows.values() for id in ids))

    @property
    def distinct(self) -> bool:
        """Whether no two rows are of one variant, so that grouped by it their runs stay apart."""
        return len({*self.variants.values()}) == len(self.variants)


def view_study(folder: Path) -> StudyView:
    """Read the study in ``folder``.

    Raises:
        UserError: see `exfuse.store.study_reading.load_study`; or if no run is finished.
    """
    study = load_study(folder)
    if study.imported:
        raise UserError(
            f"{folder} was imported from other code, whose runs are at no tracker of ours: exfuse report page shows it."
        )
    rows = {row.title: [row.runs[seed].folder.key for seed in row.records] for row in study.rows if row.records}
    if not rows:
        raise UserError(f"{folder} has no finished run: there is nothing to report. Train the study first.")
    colours = {row.title: colour for row, colour in zip(study.rows, variant_colours(len(study.rows)), strict=True)}
    variants = {row.title: next(iter(row.records.values())).label for row in study.rows if row.records}
    table = Rendering(study).texts()["table.md"]
    hidden = frozenset((*study.withheld, *(MEASURED if study.measured is not None else ())))
    return StudyView(study.name, study.title, study.question, table, rows, colours, variants, _classes(study), hidden)


def _classes(study: Study) -> list[str]:
    iou = study.done()[0][2].scores.iou
    return [name for name, value in iou.items() if value is not None]
