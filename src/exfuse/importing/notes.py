"""What of imported runs may be a mistake and may be meant."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from exfuse.errors import some
from exfuse.importing.alignment import predicts_more
from exfuse.importing.stated import Found
from exfuse.metrics.means import Means
from exfuse.store.grouping import Grouping, falling
from exfuse.store.metric import Metric
from exfuse.store.record import Record
from exfuse.store.study_file import StudyFile

_SHOWN = 3  # files that a note names
_PER_CENT = 1.0  # scores that are all below this would be a strange percentage
_APART = 20  # times: a fraction and a percentage of the same kind are some hundred
_NEAR = 0.2  # of a score: a hundred times a fraction is about what another run has for the same image


def notes_on(
    runs: Sequence[Found],
    grouping: Grouping | None,
    records: Sequence[Record],
    metric: Metric,
    study: StudyFile,
    left_out: Sequence[Path],
) -> Iterator[str]:
    """What may be a mistake and may be meant."""
    if left_out:
        yield f"left out, being no results: {some([*map(str, left_out)], _SHOWN)}."
    if grouping and grouping.ordered and (fallen := falling(runs[0].ids, grouping.groups)):
        yield (
            f"{runs[0].path.name} lists image {fallen[0]} before {fallen[1]}: as groups are ordered, images that follow each "
            "other there count as neighbours in time or space."
        )
    seen: dict[bytes, Found] = {}
    for one in runs:
        content = b"".join(np.ascontiguousarray(part).tobytes() for part in one.additive)
        other = seen.setdefault(hashlib.sha256(content).digest(), one)
        if other is not one:
            yield f"{_called(one)} scored just as {_called(other)} did, image by image: is it a copy?"
    scores = [abs(record.score) for record in records]
    low = [one for one, score in zip(runs, scores, strict=True) if metric.unit == "percent" and score < _PER_CENT]
    if len(low) == len(runs):
        yield "all scores are below 1 %: if they are fractions, say metric.unit=fraction."
    elif low and max(scores) > _APART * max(score for score in scores if score < _PER_CENT):
        yield f"{_all_called(low)} below 1 %, others up to {max(scores):.1f} %: are they fractions among percentages?"
    if metric.unit == "percent" and (hundredth := _a_hundredth_of_the_others(runs)):
        yield hundredth
    if beyond := [one for one in runs if predicts_more(one)]:
        yield (
            f"{_all_called(beyond)} counted with more predicted pixels than true ones: leave out pixels whose truth is void, "
            "unless classes were left out on purpose."
        )
    if len(study.rows) > 1 and not any(row.on is None for row in study.rows):
        yield "every row builds on another."


def _a_hundredth_of_the_others(runs: Sequence[Found]) -> str | None:
    """Of a single image's score that is a fraction where the other runs have percentages."""
    several = [(one, one.additive.scores) for one in runs if isinstance(one.additive, Means)]
    if len(several) < 2:
        return None
    everyone = np.stack([scores for _, scores in several])  # run x image
    for one, scores in several:
        near = (np.abs(100 * scores - everyone) < _NEAR * everyone) & (everyone >= _PER_CENT)
        suspicious = (scores > 0) & (scores < _PER_CENT) & near.any(axis=0)
        if suspicious.any() and scores.mean() >= _PER_CENT:
            image = int(np.argmax(suspicious))
            return (
                f"{_called(one)} scores image {one.ids[image]} {scores[image]:.3g} %, where another run has "
                f"{everyone[near[:, image], image][0]:.3g} %: is it a fraction among percentages?"
            )
    return None


def _called(one: Found) -> str:
    return f"row {one.run.row}, seed {one.run.seed} ({one.path.name})"


def _all_called(several: Sequence[Found]) -> str:
    first = _called(several[0])
    return f"{first} is" if len(several) == 1 else f"{first} and {len(several) - 1} more are"
