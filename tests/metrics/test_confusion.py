import doctest
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from sklearn.metrics import confusion_matrix
from torch import Tensor

import exfuse.tasks.confusion
from exfuse.tasks.confusion import ConfusionMatrix, confusion_counts, plain_confusion_counts
from tests.entry_points import SERVER

CLASSES = 5
VOID = 255


def random_ids(seed: int, *shape: int, void: float = 0.2) -> tuple[Tensor, Tensor]:
    """Predicted ids, and uint8 truth of which a share is void."""
    rng = np.random.default_rng(seed)
    predicted, truth = rng.integers(0, CLASSES, (2, *shape))
    truth[rng.random(shape) < void] = VOID
    return torch.from_numpy(predicted), torch.from_numpy(truth.astype(np.uint8))


def count_one_by_one(predicted: Tensor, truth: Tensor, classes: int = CLASSES) -> np.ndarray:
    counts = np.zeros((classes, classes), dtype=np.int64)
    for guess, true in zip(predicted.flatten().tolist(), truth.flatten().tolist(), strict=True):
        if true != VOID:
            counts[true, guess] += 1
    return counts


@pytest.mark.parametrize("seed", range(5))
def test_counts_equal_a_plain_loop_and_scikit_learn(seed):
    predicted, truth = random_ids(seed, 3, 17, 19)
    counts = confusion_counts(predicted, truth, CLASSES)
    assert counts.dtype == torch.int64
    np.testing.assert_array_equal(counts, count_one_by_one(predicted, truth))
    labelled = truth.numpy() != VOID
    oracle = confusion_matrix(truth.numpy()[labelled], predicted.numpy()[labelled], labels=range(CLASSES))
    np.testing.assert_array_equal(counts, oracle)


@pytest.mark.parametrize("shape", [(1,), (13,), (1, 1), (5, 1), (2, 9, 11), (1, 375, 500)])
@pytest.mark.parametrize("classes", [1, 2, 21, 255])
def test_the_fast_form_counts_what_the_plain_one_does(shape, classes):
    rng = np.random.default_rng(7)
    predicted, truth = (torch.from_numpy(rng.integers(0, classes, shape)) for _ in range(2))
    truth[torch.from_numpy(rng.random(shape) < 0.3)] = VOID
    expected = plain_confusion_counts(predicted, truth, classes)
    for dtype in (torch.uint8, torch.int32, torch.int64):
        assert torch.equal(confusion_counts(predicted.to(dtype), truth.to(torch.uint8), classes), expected)
    assert torch.equal(confusion_counts(predicted, truth, classes), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_counts_on_a_gpu_are_those_of_the_cpu():
    predicted, truth = random_ids(9, 2, 375, 500)
    counts = confusion_counts(predicted.cuda(), truth.cuda(), CLASSES)
    assert torch.equal(counts.cpu(), plain_confusion_counts(predicted, truth, CLASSES))


def test_rows_are_the_truth():
    counts = confusion_counts(torch.tensor([2, 2, 1]), torch.tensor([0, 0, 1]), 3)
    assert counts.tolist() == [[0, 0, 2], [0, 1, 0], [0, 0, 0]]


def test_void_is_left_out_whatever_is_predicted_there():
    predicted, truth = random_ids(0, 2, 8, 8, void=0.5)
    elsewhere = torch.where(truth == VOID, (predicted + 1) % CLASSES, predicted)
    assert torch.equal(confusion_counts(predicted, truth, CLASSES), confusion_counts(elsewhere, truth, CLASSES))
    assert confusion_counts(predicted, truth, CLASSES).sum() == (truth != VOID).sum()
    assert not confusion_counts(predicted, torch.full_like(truth, VOID), CLASSES).any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_no_integer_type_overflows(dtype):
    """19 * 21 + 20 does not fit into a byte."""
    predicted, truth = torch.tensor([20, 19], dtype=dtype), torch.tensor([19, 20], dtype=torch.uint8)
    counts = confusion_counts(predicted, truth, 21)
    assert counts[19, 20] == counts[20, 19] == 1
    assert counts.sum() == 2


@pytest.mark.parametrize("sizes", [(7,), (1,) * 7, (3, 4), (2, 2, 2, 1)])
def test_any_batching_counts_the_same(sizes):
    predicted, truth = random_ids(1, 7, 9, 11)
    metric = ConfusionMatrix(CLASSES)
    for one, other in zip(predicted.split(list(sizes)), truth.split(list(sizes)), strict=True):
        metric.update(one, other)
    counts, images = metric.compute()
    np.testing.assert_array_equal(counts, count_one_by_one(predicted, truth))
    assert images == 7


def test_reset_forgets_everything():
    metric = ConfusionMatrix(CLASSES)
    metric.update(*random_ids(2, 4, 6, 6))
    metric.reset()
    predicted, truth = random_ids(3, 2, 6, 6)
    metric.update(predicted, truth)
    counts, images = metric.compute()
    np.testing.assert_array_equal(counts, count_one_by_one(predicted, truth))
    assert images == 2


def test_single_pixels_still_count_beyond_the_integers_of_float32():
    """2**24 + 1 is no float32, and VOC's val has some ten times as many pixels of background."""
    metric = ConfusionMatrix(2)
    many = torch.zeros(1, 2**12, 2**12, dtype=torch.uint8)
    metric.update(many, many)
    one = torch.zeros(1, 1, 1, dtype=torch.uint8)
    for module in (metric, metric.float(), metric.half()):  # what mixed precision does to a module
        module.update(one, one)
    counts, images = metric.compute()
    assert counts[0, 0].item() == 2**24 + 3
    assert counts.dtype == images.dtype == torch.int64


def test_two_metrics_merge_into_the_counts_of_both():
    one, other = ConfusionMatrix(CLASSES), ConfusionMatrix(CLASSES)
    first, second = random_ids(4, 3, 5, 5), random_ids(5, 2, 5, 5)
    one.update(*first)
    other.update(*second)
    one.merge_state(other)
    counts, images = one.compute()
    np.testing.assert_array_equal(counts, count_one_by_one(*first) + count_one_by_one(*second))
    assert images == 5


def _count_a_share(rank: int, processes: int, folder: str) -> None:
    """One of several processes: update with every ``processes``-th image, save what `compute` says here."""
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=processes)
    predicted, truth = random_ids(6, 5, 7, 7)
    metric = ConfusionMatrix(CLASSES)
    for image in range(rank, 5, processes):
        metric.update(predicted[image, None], truth[image, None])
    torch.save(metric.compute(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_with_uneven_shares_agree_on_the_counts_of_all(tmp_path: Path):
    torch.multiprocessing.start_processes(_count_a_share, (2, str(tmp_path)), nprocs=2, start_method=SERVER.get_start_method())
    predicted, truth = random_ids(6, 5, 7, 7)
    for rank in range(2):
        counts, images = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        np.testing.assert_array_equal(counts, count_one_by_one(predicted, truth))
        assert images == 5


def test_the_example_in_the_docstring_runs():
    outcome = doctest.testmod(exfuse.tasks.confusion)
    assert outcome.attempted >= 3
    assert outcome.failed == 0
