"""What people are shown while something runs: text of data is never markup, and printing is no part of any success."""

import copy
import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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


class Console(rich.console.Console):
    """Rich's, for which ``[/bold]`` in the name of a class, run or file is text; what is to be bold is a `Text`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **settings})

    def status(self, status: Any, **settings: Any) -> Status:
        return super().status(Text(status) if isinstance(status, str) else status, **settings)


class Progress(rich.progress.Progress):
    """Rich's, whose descriptions are text."""

    def add_task(self, description: str, *more: Any, **settings: Any) -> rich.progress.TaskID:
        return super().add_task(escape(description), *more, **settings)

    def update(self, task_id: rich.progress.TaskID, **settings: Any) -> None:
        if isinstance(description := settings.get("description"), str):
            settings["description"] = escape(description)
        super().update(task_id, **settings)


def track(items: Iterable[T], description: str, total: float | None = None, **settings: Any) -> Iterable[T]:
    """Rich's, whose description is text."""
    return rich.progress.track(items, escape(description), total, **settings)


class Table(rich.table.Table):
    """Rich's, whose title and caption are as wide as they need, however narrow its columns are."""

    def __rich_console__(
        self, console: rich.console.Console, options: rich.console.ConsoleOptions
    ) -> rich.console.RenderResult:
        if self.title:
            yield Text("", "table.title").append(self.title)
        bare = copy.copy(self)
        bare.title = bare.caption = None
        yield from super(Table, bare).__rich_console__(console, options)
        if self.caption:
            yield Text("", "table.caption").append(self.caption)


def columns(headers: Iterable[str], words: Sequence[str] = (), footers: Iterable[str] = ()) -> list[Column]:
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
