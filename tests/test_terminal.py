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
from exfuse.terminal import Console, Progress, Table, afterwards, track
from exfuse.tracking.progress import ProgressBar

PACKAGE = Path(exfuse.__file__).parent
NAMES = ["[/bold]", "[red]", "[link=file:///etc/passwd]x", ":smile:", "$\\frac{", "\\", "<b>", "{0}", "%s", "\x1b[31m"]


@pytest.mark.parametrize("name", NAMES)
def test_text_of_data_is_shown_as_it_is(name: str, tmp_path: Path) -> None:
    file = io.StringIO()
    console = Console(file=file, width=200)
    table = Table(name, title=name)
    table.add_row(name)
    console.print(table)
    console.print(f"about {name}")
    console.rule(name)
    console.print(per_class_table(np.eye(2, dtype=np.int64), [name, "background"], name))
    with console.status(name), Progress(console=console, transient=True) as bar:
        bar.update(bar.add_task(name), description=name)
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
    table = Table(
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
