"""The page's heat map of classes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exfuse.reports.page.classes import section
from tests.analysis.synthetic import StudyBuilder, make_counts
from tests.reports.page.conftest import data_of


def change_map(folder: Path, counts: dict[str, list[NDArray[np.int32]]]) -> dict[str, object]:
    """Of rows ``baseline`` and ``seb``, which have counts by seed."""
    builder = StudyBuilder(folder)
    for name, by_seed in counts.items():
        of_seed = dict(enumerate(by_seed))
        builder.row(
            name, 0.6, [*of_seed], on=None if name == "baseline" else "baseline", counts=lambda _, seed, of=of_seed: of[seed]
        )
    found = section(data_of(builder.finish()))
    assert found is not None
    return dict(found.content["maps"][0])


def shades(found: dict[str, object]) -> list[float]:
    return [cell["shade"] for cell in found["rows"][0]["cells"]]  # type: ignore[index]


def test_a_change_is_pale_where_the_seeds_disagree_and_nothing_is_called_pale_elsewhere(tmp_path: Path) -> None:
    low, high = make_counts(0.5, 0), make_counts(0.9, 0)
    sure = change_map(tmp_path / "sure", {"baseline": [low, low], "seb": [high, high]})
    assert sure["absent"]  # of which no seed says anything
    assert sure["pale"] is False
    assert max(shades(sure)) == 8
    middle = make_counts(0.6, 0)
    unsure = change_map(tmp_path / "unsure", {"baseline": [low, middle], "seb": [high, low]})
    assert unsure["pale"] is True
    assert max(shades(unsure)) <= 0.3 * 8
