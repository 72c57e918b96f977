import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, jaccard_score

from exfuse.metrics.iou import iou_per_class, mean_iou, pixel_accuracy
from exfuse.tasks.confusion import confusion_counts

VOID = 255


def counts_of(predicted: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    return confusion_counts(torch.from_numpy(predicted), torch.from_numpy(truth), classes).numpy()


def iou_of_sets(predicted: np.ndarray, truth: np.ndarray, classes: int) -> list[float]:
    """Intersection over union of two sets of pixels, as the words say; not a number where the truth's set is empty."""
    labelled = truth != VOID
    ious = []
    for label in range(classes):
        guessed = {*np.flatnonzero((predicted == label) & labelled)}
        true = {*np.flatnonzero((truth == label) & labelled)}
        ious.append(len(guessed & true) / len(guessed | true) if true else np.nan)
    return ious


def random_ids(seed: int, classes: int, present: int, pixels: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """The truth holds only the first ``present`` classes and void; the prediction any class, often rightly."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([*range(present), VOID], pixels)
    predicted = np.where((rng.random(pixels) < 0.6) & (truth != VOID), truth, rng.integers(0, classes, pixels))
    return predicted, truth


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("present", [1, 3, 6])
def test_iou_is_intersection_over_union_of_pixels(seed, present):
    predicted, truth = random_ids(seed, 6, present)
    ious = iou_per_class(counts_of(predicted, truth, 6))
    expected = iou_of_sets(predicted, truth, 6)
    np.testing.assert_allclose(ious, expected, equal_nan=True)
    np.testing.assert_allclose(mean_iou(counts_of(predicted, truth, 6)), np.mean(expected[:present]))


@pytest.mark.parametrize("seed", range(4))
def test_iou_and_accuracy_equal_scikit_learn_on_present_classes(seed):
    predicted, truth = random_ids(seed, 6, present=4)
    counts, labelled = counts_of(predicted, truth, 6), truth != VOID
    oracle = jaccard_score(truth[labelled], predicted[labelled], labels=range(4), average=None)
    np.testing.assert_allclose(iou_per_class(counts)[:4], oracle)
    assert pixel_accuracy(counts) == pytest.approx(accuracy_score(truth[labelled], predicted[labelled]))


def test_a_class_that_is_absent_from_the_truth_is_no_zero_even_if_it_is_predicted():
    """Two pixels of class 0, one taken for the absent class 2: the miss lowers class 0 alone."""
    counts = counts_of(np.array([0, 2, 1]), np.array([0, 0, 1]), 3)
    np.testing.assert_array_equal(iou_per_class(counts), [1 / 2, 1, np.nan])
    assert mean_iou(counts) == 3 / 4


def test_a_class_that_is_never_found_is_zero():
    counts = counts_of(np.array([0, 0]), np.array([0, 1]), 2)
    np.testing.assert_array_equal(iou_per_class(counts), [1 / 2, 0])


def test_predictions_on_void_cost_nothing():
    counts = counts_of(np.array([0, 1, 1]), np.array([0, 1, VOID]), 2)
    assert mean_iou(counts) == 1


def test_data_set_iou_is_not_the_mean_over_images():
    """A large image that is all right and a small one that is all wrong: 9 of 10 pixels, not half."""
    right = counts_of(np.zeros(9, int), np.zeros(9, int), 2)
    wrong = counts_of(np.ones(1, int), np.zeros(1, int), 2)
    per_image = np.stack([right, wrong])
    assert mean_iou(per_image).mean() == 0.5
    assert mean_iou(per_image.sum(0)) == 0.9


def test_leading_dimensions_are_separate_data_sets():
    stack = np.stack([counts_of(*random_ids(seed, 6, present), 6) for seed, present in enumerate((2, 6, 4))])
    for function in (iou_per_class, mean_iou, pixel_accuracy):
        np.testing.assert_allclose(function(stack), [function(counts) for counts in stack], equal_nan=True)


def test_counts_beyond_32_bits_are_exact_enough():
    counts = np.array([[2**40, 0], [2**40, 2**40]])
    np.testing.assert_allclose(iou_per_class(counts), [1 / 2, 1 / 2], rtol=1e-12)


def test_mean_iou_of_no_labelled_pixel_is_refused():
    with pytest.raises(ValueError, match="no labelled pixel"):
        mean_iou(np.zeros((2, 2), np.int64))
    with pytest.raises(ValueError, match="no labelled pixel"):
        mean_iou(np.stack([np.eye(2, dtype=np.int64), np.zeros((2, 2), np.int64)]))


@given(arrays(np.int64, st.integers(2, 5).map(lambda classes: (classes, classes)), elements=st.integers(0, 9)))
def test_iou_is_a_share_and_does_not_know_the_order_of_the_classes(counts):
    ious = iou_per_class(counts)
    present = counts.sum(1) > 0
    assert np.isnan(ious).tolist() == (~present).tolist()
    assert ((ious[present] >= 0) & (ious[present] <= 1)).all()
    order = np.arange(len(counts))[::-1]
    np.testing.assert_array_equal(iou_per_class(counts[np.ix_(order, order)]), ious[::-1])
