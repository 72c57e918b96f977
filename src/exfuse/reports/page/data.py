"""Everything that the sections of a page read."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from exfuse.analysis.footnotes.training import where
from exfuse.analysis.rendering import Rendering
from exfuse.reports.page.charts import Chart, RowStyle, looks
from exfuse.store.examples import Examples
from exfuse.store.history import HISTORY, History, read_history
from exfuse.store.study import Study


@dataclass(frozen=True)
class PageData:
    """A study, its numbers as its table and figures show them, and what was gathered beside.

    Attributes:
        rendering: each number computed once.
        examples: val images with predictions, or None.
        left_out: why runs have no predictions, by key.
        bound: of the file's size in bytes.
    """

    rendering: Rendering
    examples: Examples | None
    left_out: dict[str, str]
    bound: int

    @property
    def study(self) -> Study:
        return self.rendering.study

    @cached_property
    def looks(self) -> dict[str, RowStyle]:
        return looks(self.study.rows)

    @cached_property
    def histories(self) -> dict[str, dict[int, History]]:
        """Training curves of the finished runs that have some, by row and seed."""
        found: dict[str, dict[int, History]] = {}
        for row in self.study.rows:
            paths = {seed: run.folder.path / HISTORY for seed, run in row.runs.items() if run.done}
            read = {seed: read_history(path) for seed, path in paths.items() if path.is_file()}
            found[row.name] = {seed: history for seed, history in read.items() if history}
        return found

    @cached_property
    def where(self) -> str:
        """Data set, split and seeds, as captions name them."""
        return where(self.study)


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        id: anchor, and name of its template ``ID.html.jinja``.
        title: heading and entry of the navigation.
        content: for the template.
        charts: by name, for the page's script.
        data: JSON for the page's script.
    """

    id: str
    title: str
    content: dict[str, Any] = field(default_factory=dict)
    charts: dict[str, Chart] = field(default_factory=dict)
    data: Any = None
