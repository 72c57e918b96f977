"""The page's chart of accuracy against cost."""

from pathlib import Path
from typing import Any

import pytest

from exfuse.reports.page.cost import section
from exfuse.store.study import StudyRow
from tests.analysis.synthetic import StudyBuilder
from tests.reports.page.conftest import data_of


def test_the_frontier_holds_what_no_cheaper_row_beats_whichever_way_a_cost_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qualities = {"swift": 0.6, "beaten": 0.5, "slow": 0.7}
    builder = StudyBuilder(tmp_path / "study")
    for name, quality in qualities.items():
        builder.row(name, quality, on=None if name == "swift" else "swift")
    builder.finish()
    amounts = {"swift": 100.0, "beaten": 50.0, "slow": 10.0}
    monkeypatch.setattr(StudyRow, "cost", lambda row, _: amounts[row.name])
    found = section(data_of(tmp_path / "study"))
    assert found is not None

    def frontier(key: str) -> list[float]:
        return next(trace["x"] for trace in found.charts[f"cost-{key}"]["data"] if trace["name"] == "frontier")

    assert frontier("train_images_per_second") == pytest.approx([10.0, 100.0])  # slow is the best, swift the cheapest
    assert frontier("gigamacs") == pytest.approx([10.0])  # the best is the cheapest too


def test_rows_of_other_images_and_of_unknown_cost_are_named_beside_the_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_images(content: dict[str, Any]) -> None:
        content["manifests"]["val"] = "c" * 64

    builder = StudyBuilder(tmp_path / "study", mixed=True)
    builder.row("one", 0.6)
    builder.row("elsewhere", 0.7, on="one", change=other_images)
    builder.row("unknown", 0.7, on="one")
    builder.finish()
    monkeypatch.setattr(StudyRow, "cost", lambda row, _: None if row.name == "unknown" else 5.0)
    found = section(data_of(tmp_path / "study"))
    assert found is not None
    chart = found.charts["cost-gigamacs"]
    said = chart["layout"]["xaxis"]["title"]["text"]
    assert said.endswith("; without unknown, whose cost is not known; scored on different images: no frontier")
    assert next(list(trace["x"]) for trace in chart["data"] if trace["name"] == "frontier") == []
