"""Checkpoints written beside the training: what is in them, how often there is one, and who hears of a mistake."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint

from exfuse.runs import saving
from exfuse.runs.saving import InBackground, LastCheckpoint
from tests.pace import patience


class _Slow(TorchCheckpointIO):
    """Writes when it is let."""

    def __init__(self) -> None:
        self.may_write = threading.Event()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ARG002
        assert self.may_write.wait(patience(20))
        super().save_checkpoint(checkpoint, path)


def test_a_file_holds_what_was_there_when_it_was_asked_for(tmp_path: Path) -> None:
    slow = _Slow()
    saved, weights = InBackground(slow), torch.ones(3)
    saved.save_checkpoint({"weights": weights, "step": 7}, tmp_path / "last.ckpt")
    weights += 1  # the training goes on
    assert not (tmp_path / "last.ckpt").exists()
    slow.may_write.set()
    saved.teardown()
    read = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (read["weights"].tolist(), read["step"]) == ([1.0, 1.0, 1.0], 7)


def test_one_is_written_at_a_time_in_their_order(tmp_path: Path) -> None:
    slow = _Slow()
    saved = InBackground(slow)
    saved.save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    timer = threading.Timer(0.2, slow.may_write.set)
    timer.start()
    saved.save_checkpoint({"step": 2}, tmp_path / "last.ckpt")  # waits for the first
    saved.teardown()
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["step"] == 2


@pytest.mark.parametrize("then", ["save", "load", "teardown"])
def test_a_mistake_in_writing_reaches_the_training(tmp_path: Path, then: str) -> None:
    saved = InBackground(TorchCheckpointIO())
    (tmp_path / "file").touch()
    saved.save_checkpoint({"step": 1}, tmp_path / "file" / "last.ckpt")  # no folder
    with pytest.raises(OSError, match="file"):  # noqa: PT012 - whichever comes first
        if then == "save":
            saved.save_checkpoint({"step": 2}, tmp_path / "last.ckpt")
        if then == "load":
            saved.load_checkpoint(tmp_path / "last.ckpt")
        saved.teardown()
    saved.teardown()  # told once


def epochs_saved(monkeypatch: pytest.MonkeyPatch, blocked: float, epoch: float, number: int) -> list[int]:
    """At the ends of which epochs of so many seconds is saved, where each saving keeps the training waiting so long."""
    now = [0.0]
    monkeypatch.setattr(saving, "time", SimpleNamespace(monotonic=lambda: now[0]))

    class Waiting(TorchCheckpointIO):
        def save_checkpoint(self, *_: Any, **__: Any) -> None:
            pass

    written: list[int] = []
    io = InBackground(Waiting())
    monkeypatch.setattr(io, "_wait", lambda: now.__setitem__(0, now[0] + blocked))

    def save(callback: ModelCheckpoint, *_: Any) -> None:
        written.append(number_now)
        callback._last_global_step_saved = number_now + 1
        io.save_checkpoint({}, "path")

    monkeypatch.setattr(ModelCheckpoint, "on_train_epoch_end", save)
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(checkpoint_io=io, broadcast=lambda value: value))
    callback = LastCheckpoint(Path("folder"), 1)
    for number_now in range(number):  # noqa: B007 - read by save
        now[0] += epoch
        callback.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
    return written


def test_what_is_cheap_is_saved_after_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert epochs_saved(monkeypatch, blocked=0.4, epoch=0.1, number=5) == [0, 1, 2, 3, 4]


def test_what_is_dear_takes_a_twentieth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = epochs_saved(monkeypatch, blocked=3.0, epoch=10.0, number=60)
    assert saved[:3] == [0, 7, 14]
    assert 3.0 * len(saved) <= 0.05 * 60 * 10.0
    assert epochs_saved(monkeypatch, blocked=3.0, epoch=100.0, number=5) == [0, 1, 2, 3, 4]


def test_the_first_process_decides_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their clocks differ, and saving is done together."""
    saved: list[bool] = []
    monkeypatch.setattr(ModelCheckpoint, "on_train_epoch_end", lambda *_: saved.append(True))
    io = InBackground(TorchCheckpointIO())
    for decided in (True, False):
        strategy = SimpleNamespace(checkpoint_io=io, broadcast=lambda _, decided=decided: decided)
        LastCheckpoint(Path("folder"), 1).on_train_epoch_end(SimpleNamespace(strategy=strategy), None)  # type: ignore[arg-type]
    assert saved == [True]


def test_a_run_ends_with_its_last_weights_on_the_disk(train_small, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long writing takes: nothing reads the file before."""
    submit = saving.ThreadPoolExecutor.submit

    def slowly(self: Any, write: Any, *arguments: Any) -> Any:
        return submit(self, lambda: (time.sleep(0.3), write(*arguments))[1])

    monkeypatch.setattr(saving.ThreadPoolExecutor, "submit", slowly)
    assert torch.load(train_small().last, weights_only=True)["global_step"] == 8
