"""What is printed: text of data is never markup, and no failure to print ends anything."""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

import exfuse
from exfuse.analysis.console import per_class_table
from exfuse.analysis.pictures import save_comparison
from exfuse.errors import complain
from exfuse.terminal import Console, Lines, Progress, RichTable, afterwards, track
from exfuse.tracking.progress import ProgressBar, ProgressLines

PACKAGE = Path(exfuse.__file__).parent
NAMES = ["[/bold]", "[red]", "[link=file:///etc/passwd]x", ":smile:", "$\\frac{", "\\", "<b>", "{0}", "%s", "\x1b[31m"]


@pytest.mark.parametrize("name", NAMES)
def test_text_of_data_is_shown_as_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    console = Console(file=file, width=200)
    table = RichTable(name, title=name)
    table.add_row(name)
    console.print(table)
    console.print(f"about {name}")
    console.rule(name)
    console.print(per_class_table(np.eye(2, dtype=np.int64), [name, "background"], name))
    monkeypatch.setattr("exfuse.terminal._EVERY", 0)
    with console.status(name), Progress(console=console, transient=True) as bar:
        bar.update(bar.add_task(name, total=2), description=name, advance=1)
        assert list(track([1], name, console=None, disable=True)) == [1]
    shown = name.replace("\x1b", "")
    assert file.getvalue().replace("\x1b", "").count(shown) >= 6
    image, ids = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)
    save_comparison(tmp_path / "a.png", [image], [ids], {name: [ids]}, [name])


@pytest.mark.parametrize("name", NAMES[:4])
def test_a_complaint_is_text_too(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    complain(f"{name} cannot be used")
    assert f"Error: {name} cannot be used" in capsys.readouterr().err


def test_everybody_prints_by_this_terminal() -> None:
    others = {
        "rich.console": {"Console"},
        "rich.progress": {"Progress", "track"},
        "rich.markup": {"escape"},
        "rich.table": {"Table"},
    }
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and path.parent != PACKAGE:
                assert not {alias.name for alias in node.names} & others.get(node.module or "", set()), path


def test_a_title_is_not_squeezed_into_a_narrow_table() -> None:
    file = io.StringIO()
    table = RichTable(
        "a", "b", title="ss+lr, seed 0: objects of generated scenes", caption="1200 images to train on, 200 to score on"
    )
    Console(file=file, width=80).print(table)
    assert file.getvalue().splitlines()[0] == table.title
    assert file.getvalue().splitlines()[-1] == table.caption


def test_progress_counts_epochs_from_1_and_says_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    bar, trainer = ProgressBar(10), Mock(max_epochs=12, global_step=30, estimated_stepping_batches=120, training=False)
    bar.setup(trainer, Mock(), "fit")
    left = bar.configure_columns(trainer)[-1]
    assert left.render(None).plain == "-:--:-- left"
    bar.disable()
    bar.on_train_start(trainer, Mock())
    clock += 20
    trainer.global_step = 40  # of those 30 were made by an earlier start
    bar.on_train_batch_end(trainer, Mock(), None, None, 0)
    assert left.render(None).plain == "0:02:40 left"
    assert bar._get_train_description(2) == "Epoch 3 of 12"
    trainer.progress_bar_metrics = {"train/loss": 2.5, "val/miou": 0.6412}
    trainer.loggers, trainer.logger = [Mock(version=3)], Mock(version=3)
    assert bar.get_metrics(trainer, Mock()) == {"loss": 2.5, "mIoU %": "64.1"}


def test_where_a_bar_cannot_move_a_line_now_and_then_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, file = 100.0, io.StringIO()
    monkeypatch.setattr("time.monotonic", lambda: clock)
    console = Console(file=file, width=200)
    for _ in track(range(12), "Scoring [val]", console=console):
        clock += 20
    assert file.getvalue().splitlines() == [
        f"Scoring [val]: {done / 12:.0%}, {left} left".replace("%", " %")
        for done, left in ((2, "0:03:20"), (4, "0:02:40"), (6, "0:02:00"), (8, "0:01:20"), (10, "0:00:40"), (12, "0:00:00"))
    ]
    for _ in track(range(12), "silent", console=console, disable=True):
        clock += 20
    with Progress(console=console) as bar:  # of unknown length
        task = bar.add_task("Downloading", total=None)
        clock += 40
        bar.update(task, completed=7)
    assert file.getvalue().splitlines()[6:] == ["Downloading: 7, 0:00:40 so far"]
    moving = io.StringIO()
    for _ in track(range(2), "Scoring", console=Console(file=moving, force_terminal=True)):
        clock += 40
    assert "left" not in moving.getvalue()
    assert "Scoring" in moving.getvalue()


def test_a_training_without_a_terminal_says_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, file = 100.0, io.StringIO()
    monkeypatch.setattr("time.monotonic", lambda: clock)
    trainer = Mock(max_epochs=12, current_epoch=2, global_step=30, estimated_stepping_batches=120, num_training_batches=20)
    trainer.is_global_zero, trainer.callback_metrics = True, {"train/loss": 2.5, "val/miou": 0.6412, "train/other": 1.0}
    lines = ProgressLines(Lines(Console(file=file, width=200)))
    lines.on_train_start(trainer, Mock())
    for batch in range(4):
        clock += 10
        trainer.global_step += 1
        lines.on_train_batch_end(trainer, Mock(), None, None, batch)
    assert file.getvalue() == "Epoch 3 of 12, 15 %: loss 2.500, mIoU 64.1 %, 0:14:30 left\n"
    trainer.is_global_zero, trainer.callback_metrics = False, {}
    clock += 100
    lines.on_train_batch_end(trainer, Mock(), None, None, 4)
    trainer.is_global_zero = True
    lines.on_train_batch_end(trainer, Mock(), None, None, 4)
    assert file.getvalue().count("\n") == 2
    monkeypatch.setenv("TERM", "xterm")
    assert not Lines(Console(force_terminal=True)).wanted
    monkeypatch.setenv("TERM", "dumb")
    assert Lines(Console(force_terminal=True)).wanted  # in which Rich draws nothing


def test_what_cannot_be_shown_of_something_done_is_said_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with afterwards():
        raise ValueError("no such thing")
    assert "It is done, but what was to be shown of it was not: ValueError: no such thing" in capsys.readouterr().err


PRINTS = """
import sys
from exfuse.terminal import Console, outlive_streams
failed = outlive_streams()
for _ in range(1000):
    Console().print("Übergröße, a line as long as others are")
print("and " * 10000)
sys.stdout.flush()
sys.exit(3 if any(True for _ in failed) else 0)
"""


@pytest.mark.parametrize(("output", "status"), [("/dev/full", 3), ("closed", 0), ("unread", 0), ("ascii", 0)])
def test_a_process_outlives_where_it_prints_to(output: str, status: int, tmp_path: Path) -> None:
    """A full disk, a closed stream, a reader that has gone, and a terminal that knows no umlauts."""
    command = [sys.executable, "-c", PRINTS]
    environment = os.environ | ({"PYTHONIOENCODING": "ascii"} if output == "ascii" else {})
    if output == "unread":
        read, write = os.pipe()
        os.close(read)
    else:
        path = tmp_path / "out" if output != "/dev/full" else Path(output)
        write = os.open(path, os.O_WRONLY | os.O_CREAT)
    close = (lambda: os.close(1)) if output == "closed" else None
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=environment, preexec_fn=close, check=False)
    os.close(write)
    assert (done.returncode, done.stderr.decode()) == (status, "")
