"""Cells of one level's maps, drawn from images, and the probe that learns from them: scikit-learn's logistic regression."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from exfuse.data.split import Split
from exfuse.data.transforms import EvalTransform
from exfuse.models.segmenter import Segmenter
from exfuse.randomness import derive_seed
from exfuse.reports.features.statistics import Regions, find_borders, scale_to
from exfuse.reports.features.taps import tap

QUESTIONS = ("class", "border")


@dataclass
class Cells:
    """Cells of one level and question.

    Attributes:
        before, after: (n, C) float32 each, of every image a piece.
        answers: (n,) int64, a class id, or 1 for a border.
    """

    before: list[NDArray[np.float32]] = field(default_factory=list)
    after: list[NDArray[np.float32]] = field(default_factory=list)
    answers: list[NDArray[np.int64]] = field(default_factory=list)

    def joined(self, stage: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features (n, C) and answers (n,) of all images."""
        return np.concatenate(getattr(self, stage)), np.concatenate(self.answers)


@dataclass(frozen=True)
class Drawer:
    """How cells are drawn from a split.

    Attributes:
        number: of each image, level and question at most so many.
        band: px of the truth on either side of a border that belong to it.
        seed: of the draw.
    """

    number: int
    band: float
    seed: int

    def draw(
        self,
        found: dict[tuple[str, str], Cells],
        model: Segmenter,
        transform: EvalTransform,
        split: Split,
        positions: Sequence[int],
        device: torch.device,
    ) -> Iterator[None]:
        """Fill ``found`` by (level, question), yielding after each image.

        Which cells are drawn depends on the seed, the image, the level's size and the question, never on the model.
        """
        for position in positions:
            item = split.items[position]
            truth = split.mask(position)
            borders = find_borders(truth, self.band)
            tapped, _ = tap(model, transform(split.image(position)).to(device), truth.shape)  # type: ignore[arg-type]
            for one in (each.cpu() for each in tapped):
                height, width = one.before.shape[1:]
                regions = scale_to(borders, (height, width))
                for question in QUESTIONS:
                    cells, answers = self._choose(regions, question, item.id)
                    kept = found.setdefault((one.name, question), Cells())
                    kept.before.append(one.before.flatten(1)[:, cells].T.float().numpy())
                    kept.after.append(one.after.flatten(1)[:, cells].T.float().numpy())
                    kept.answers.append(answers)
            yield

    def _choose(self, regions: Regions, question: str, image: str) -> tuple[torch.Tensor, NDArray[np.int64]]:
        """Labelled cells as flat places (n,), as many of each answer where there are enough, and their answers."""
        answers = (regions.classes if question == "class" else regions.band.long()).flatten().numpy()
        labelled = np.flatnonzero(regions.labelled.flatten().numpy())
        generator = np.random.default_rng(derive_seed(self.seed, "probe", question, image, len(answers)))
        places = generator.permutation(labelled)
        kinds = np.unique(answers[places])
        share = max(1, self.number // max(1, len(kinds)))
        chosen = np.concatenate([places[answers[places] == kind][:share] for kind in kinds] or [places])
        return torch.from_numpy(chosen), answers[chosen].astype(np.int64)


# The probe itself, scikit-learn's logistic regression; the only file that knows it.

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
