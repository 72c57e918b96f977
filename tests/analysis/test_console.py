"""What terminals show of finished runs beside one another."""

import io
from typing import Any

from msgspec.structs import replace
from rich.console import Console

from exfuse.analysis.console import columns_of, comparison_table, mistakes_table
from exfuse.store.costs import Costs
from exfuse.store.record import DONE, Record, Scores


def record(label: str, confusion: list[list[int]], **costs: Any) -> Record:
    return Record(
        key=label,
        status=DONE,
        label=label,
        parameters=2_000_000,
        seconds=90.0,
        costs=Costs(**costs),
        config={"backbone": {"init": "timm"}},
        scored=Scores(0.5, 0.9, {"sky": 0.5, "boat": 0.25, "buoy": None}, 1, confusion),
    )


def lines_of(table: object) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.replace("│", " ").split() for line in console.file.getvalue().splitlines()]


def test_mistakes_come_by_the_pixels_they_cost_as_shares_of_the_true_class() -> None:
    first = record("baseline", [[90, 10, 0], [30, 10, 0], [0, 0, 0]])
    second = record("seb", [[100, 0, 0], [10, 26, 4], [0, 0, 0]])
    lines = lines_of(mistakes_table([first, second]))
    assert [line for line in lines if line[:1] in (["sky"], ["boat"], ["buoy"])] == [
        ["boat", "sky", "75.0", "25.0"],  # 40 pixels of both runs
        ["sky", "boat", "10.0", "0.0"],  # 10
        ["boat", "buoy", "0.0", "10.0"],  # 4; no other pair ever occurs
    ]
    assert len([line for line in lines_of(mistakes_table([first, second], most=1)) if "boat" in line[:1]]) == 1


def test_costs_stand_below_the_classes_and_a_missing_one_is_a_dash() -> None:
    runs = [
        record("baseline", [[1]], gigamacs=0.0525, peak_memory_mib=1234.5),
        record("seb", [[1]], gigamacs=None, peak_memory_mib=80.0),
    ]
    lines = lines_of(comparison_table(runs, "title"))
    assert ["GMACs", "of", "one", "image", "(10⁹", "multiply-adds)", "0.0525", "-"] in lines
    assert ["peak", "memory", "of", "training", "(MiB)", "1,234", "80.0"] in lines
    assert not any("latency" in line for line in lines)


def test_runs_of_one_name_and_seed_are_told_apart_by_their_keys() -> None:
    one, same, other = record("seb", [[1]]), replace(record("seb", [[1]]), key="0123456789abcdef"), record("dap", [[1]])
    assert columns_of([one, same, other]) == ["seb\nseed 0\nseb", "seb\nseed 0\n01234567", "dap\nseed 0"]
