"""What people are shown while something runs: text of data is never markup, and printing is no part of any success."""

import copy
import errno
import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import rich.console
import rich.progress
import rich.table
from rich.markup import escape
from rich.status import Status
from rich.table import Column
from rich.text import Text

from exfuse.errors import complain, user_error

T = TypeVar("T")
_EVERY = 30.0  # seconds between lines (chosen)


class Console(rich.console.Console):
    """Rich's, for which ``[/bold]`` in the name of a class, run or file is text; what is to be bold is a `Text`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **settings})

    def status(self, status: Any, **settings: Any) -> Status:
        return super().status(Text(status) if isinstance(status, str) else status, **settings)


class Lines:
    """Says now and then how far a work is, where a bar cannot move: in a file or a pipe.

    Attributes:
        wanted: whether the console is such a place.
    """

    def __init__(self, console: rich.console.Console) -> None:
        self.wanted = console.is_dumb_terminal or not (console.is_terminal or console.is_jupyter)
        self._console, self._last = console, time.monotonic()

    def say(self, line: Callable[[], str]) -> None:
        """Print the line, unless the last one, or the beginning, is less than `_EVERY` seconds ago."""
        if self.wanted and (now := time.monotonic()) >= self._last + _EVERY:
            self._last = now
            self._console.print(line(), highlight=False, soft_wrap=True, markup=False)


class Progress(rich.progress.Progress):
    """Rich's, whose descriptions are text; `Lines` where a bar cannot move."""

    def __init__(
        self,
        *columns: rich.progress.ProgressColumn | str,
        console: rich.console.Console | None = None,
        disable: bool = False,
        **settings: Any,
    ) -> None:
        console = console or Console()
        self._lines, self._silent = Lines(console), disable
        # a thread of Rich's counts for a bar alone
        more: dict[str, Any] = {"auto_refresh": False, "get_time": time.monotonic} if self._lines.wanted else {}
        super().__init__(*columns, console=console, disable=disable or self._lines.wanted, **settings | more)

    def add_task(self, description: str, *more: Any, **settings: Any) -> rich.progress.TaskID:
        return super().add_task(escape(description), *more, **settings)

    def update(self, task_id: rich.progress.TaskID, **settings: Any) -> None:
        if isinstance(description := settings.get("description"), str):
            settings["description"] = escape(description)
        super().update(task_id, **settings)
        self._say(task_id)

    def advance(self, task_id: rich.progress.TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._say(task_id)

    def _say(self, task_id: rich.progress.TaskID) -> None:
        task = self._tasks[task_id]
        if self._silent or not task.completed:
            return

        def line() -> str:
            what, elapsed = Text.from_markup(task.description).plain, task.elapsed or 0.0
            if not task.total:
                return f"{what}: {task.completed:.0f}, {timedelta(seconds=int(elapsed))} so far"
            left = timedelta(seconds=int(elapsed * (task.total - task.completed) / task.completed))
            return f"{what}: {task.percentage:.0f} %, {left} left"

        self._lines.say(line)


def track(items: Iterable[T], description: str, total: float | None = None, **settings: Any) -> Iterator[T]:
    """The items, with their `Progress` on the screen."""
    with Progress(**settings) as progress:
        yield from progress.track(items, total, description=description)


class RichTable(rich.table.Table):
    """Rich's, whose title and caption are as wide as they need, however narrow its columns are."""

    def __rich_console__(
        self, console: rich.console.Console, options: rich.console.ConsoleOptions
    ) -> rich.console.RenderResult:
        if self.title:
            yield Text("", "table.title").append(self.title)
        bare = copy.copy(self)
        bare.title = bare.caption = None
        yield from super(RichTable, bare).__rich_console__(console, options)
        if self.caption:
            yield Text("", "table.caption").append(self.caption)


def table_columns(headers: Iterable[str], words: Sequence[str] = (), footers: Iterable[str] = ()) -> list[Column]:
    """Columns of a table: those of ``words`` to the left, others, of numbers, to the right; long text is folded."""
    return [
        Column(header, footer, justify="left" if header in words else "right", overflow="fold")
        for header, footer in zip_longest(headers, footers, fillvalue="")
    ]


@contextmanager
def afterwards() -> Iterator[None]:
    """Show what is done already: if that fails, say so in a line, and go on."""
    try:
        yield
    except Exception as error:
        why = user_error(error) or f"{type(error).__name__}: {error}"
        complain(f"It is done, but what was to be shown of it was not: {why}")


class _Lasting(io.FileIO):
    """A standard stream that outlives its reader, its terminal and the space of its disk."""

    failed: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            self.failed = error
            return len(data)


def outlive_streams() -> Iterator[OSError]:
    """Let no failure to print end this process, which may train for days.

    Returns:
        What failed so far, whenever it is asked for; a reader that wants no more, such as ``head``, is no failure.
    """
    kept = []
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started this
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
            continue
        try:
            if stream.fileno() != number:
                continue
        except (OSError, ValueError, AttributeError):  # a test's
            continue
        stream.flush()
        raw = _Lasting(number, "wb", closefd=False)
        kept.append(raw)
        buffer: Any = io.BufferedWriter(raw)
        setattr(sys, name, io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=True))
    return (raw.failed for raw in kept if raw.failed is not None and raw.failed.errno != errno.EPIPE)
