"""The memory layout that a training takes where nobody knows which is faster."""

import copy
import itertools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.folder import RunFolder
from exfuse.tasks import layout, optimised
from exfuse.tasks.segmentation import SegmentationTask

TrainSmall = Callable[..., RunFolder]


def is_channels_last(weights: torch.Tensor) -> bool:
    return weights.is_contiguous(memory_format=torch.channels_last) and not weights.is_contiguous()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Measure on this CPU as on a GPU; the milliseconds that channels_last and contiguous are said to take."""
    said, taken = [2.0, 1.0], itertools.count()

    def time_one(calls: Sequence[Callable[[], Any]], *_: Any) -> list[float]:
        calls[0]()
        return [said[next(taken) % 2]]

    monkeypatch.setattr(optimised, "is_worth_measuring", lambda *_: True)
    monkeypatch.setattr(layout, "median_ms", time_one)
    return said


@pytest.mark.parametrize("faster", [True, False], ids=["channels_last", "contiguous"])
def test_the_faster_layout_is_taken_and_kept_by_those_who_score(train_small: TrainSmall, measured, faster: bool) -> None:
    measured[:] = [1.0, 2.0] if faster else [2.0, 1.0]
    run = train_small()
    content = torch.load(run.last, weights_only=True)
    assert content["description"]["channels_last"] is faster
    kernels = [value for value in load_checkpoint(run.path)[0].state_dict().values() if value.ndim == 4 and value.shape[2] > 1]
    assert {is_channels_last(kernel) for kernel in kernels if kernel.shape[1] > 1} == {faster}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: model], ids=["a copy", "functions that hold on to it"])
def test_measuring_leaves_no_trace_in_what_is_trained(train_small: TrainSmall, measured, tmp_path, monkeypatch, copied) -> None:
    measured[:] = [1.0, 2.0]
    monkeypatch.setattr(layout, "copy", SimpleNamespace(deepcopy=copied))
    found = train_small(runs=tmp_path / "measured")
    monkeypatch.setattr(optimised, "is_worth_measuring", lambda *_: False)
    usual = train_small(runs=tmp_path / "usual")
    weights = [torch.load(run.last, weights_only=True)["state_dict"] for run in (found, usual)]
    for name, value in weights[1].items():
        assert torch.equal(weights[0][name], value), name


def test_a_model_of_which_no_copy_learns_stays_contiguous(train_small: TrainSmall, measured, monkeypatch) -> None:
    measured[:] = [1.0, 2.0]
    monkeypatch.setattr(layout, "median_ms", lambda *_: [][0])  # as where a hook writes to what it was made with
    assert torch.load(train_small().last, weights_only=True)["description"]["channels_last"] is False


def test_a_resumed_run_keeps_its_layout_and_measures_nothing(train_small: TrainSmall, measured, monkeypatch) -> None:
    """And ends with the bits of one that was never stopped."""
    whole = torch.load(train_small().last, weights_only=True)
    end = SegmentationTask.on_validation_epoch_end

    def stop(task: SegmentationTask) -> None:
        end(task)
        if task.current_epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(SegmentationTask, "on_validation_epoch_end", stop)
    with pytest.raises(KeyboardInterrupt):
        train_small("overwrite=true")
    monkeypatch.setattr(SegmentationTask, "on_validation_epoch_end", end)
    monkeypatch.setattr(optimised, "faster_layout", lambda _: pytest.fail("measured again"))
    resumed = torch.load(train_small().last, weights_only=True)
    assert resumed["description"]["channels_last"] is False
    for name, value in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name


def test_a_layout_that_is_asked_for_is_not_measured(train_small: TrainSmall, measured, monkeypatch) -> None:
    monkeypatch.setattr(optimised, "faster_layout", lambda _: pytest.fail("measured"))
    run = train_small("runtime.channels_last=false")
    assert torch.load(run.last, weights_only=True)["description"]["channels_last"] is False


def test_on_a_cpu_nothing_is_measured(train_small: TrainSmall, monkeypatch) -> None:
    monkeypatch.setattr(optimised, "faster_layout", lambda _: pytest.fail("measured"))
    assert torch.load(train_small().last, weights_only=True)["description"]["channels_last"] is True
