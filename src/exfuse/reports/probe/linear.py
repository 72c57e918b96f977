"""The probe itself, scikit-learn's logistic regression; the only file that knows it."""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_STEPS = 500


class ProbeScore(NamedTuple):
    """A probe's balanced accuracy on the test cells, and what guessing would give; fractions."""

    accuracy: float
    chance: float
    cells: int


def probe(
    train: tuple[NDArray[np.float32], NDArray[np.int64]],
    test: tuple[NDArray[np.float32], NDArray[np.int64]],
    strength: float,
) -> ProbeScore | None:
    """Teach a linear classifier on standardised features and score it.

    Args:
        train, test: features (n, C) and answers (n,); answers that were never taught are left out of the test.
        strength: inverse of the L2 penalty.

    Returns:
        None where fewer than two answers can be both taught and tested.
    """
    features, answers = train
    others, wanted = test
    known = np.isin(wanted, answers)
    others, wanted = others[known], wanted[known]
    tested = np.unique(wanted)
    if len(tested) < 2:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=_STEPS, class_weight="balanced"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a score after so many steps is a lower bound, as any probe's is
        model.fit(features, answers)
    accuracy = recall_score(wanted, model.predict(others), labels=tested, average="macro")
    return ProbeScore(float(accuracy), 1 / len(np.unique(answers)), len(wanted))
