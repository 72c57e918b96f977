"""The bench command: a process a module, one table, files that are whole, and a status that says what happened."""

import csv
import functools
import importlib
import inspect
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from exfuse.benchmarks import command as bench
from exfuse.benchmarks.report import Measurement, hold, profile_of, table_of_shares
from exfuse.benchmarks.running import BenchmarkError, run_module
from tests import entry_points
from tests.conftest import REPOSITORY

STAND_INS = "tests.benchmarks.stand_ins"


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_PACKAGE", STAND_INS)
    monkeypatch.setattr(bench, "MODULES", ("quick", "broken"))
    monkeypatch.setattr(bench, "run_module", lambda module, *_: outcome(module)[0]())


@functools.cache
def outcome(module: str) -> tuple[Callable[[], list[Measurement]], list[str]]:
    """What a module's process gave or raised, and the steps that it announced; started once."""
    said: list[str] = []
    try:
        found = run_module(module, "cpu", 2, said.append)
    except BenchmarkError as error:
        return partial(_raise, error), said
    return lambda: found, said


def _raise(error: BenchmarkError) -> list[Measurement]:
    raise error


def test_a_module_runs_in_a_process_of_its_own_with_the_threads_asked_for():
    measured, said = outcome(f"{STAND_INS}.quick")
    process, hit, miss = measured()
    assert said == ["looking around"]
    assert process.ours != os.getpid()
    assert process.reference == 2
    assert process.details == "cpu"
    assert hit == Measurement("a hit", 123.4, 200.4, "ms", 0.61577, "<= 0.65", True)
    assert miss.reference is None


def test_a_module_that_fails_is_named_with_what_it_said():
    with pytest.raises(BenchmarkError, match=r"(?s)broken ended with status 1:.*there is no cpu today"):
        outcome(f"{STAND_INS}.broken")[0]()


@pytest.fixture
def measured(stand_ins: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Measure stand-ins, whose names no command line knows, into ``tmp_path``: exit status, standard output and error."""

    def run(*only: str, strict: bool = False) -> tuple[int, str, str]:
        try:
            bench.bench([*only], "cpu", 1, str(tmp_path), strict)  # type: ignore[list-item]
            status = 0
        except SystemExit as left:
            status = int(left.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_missed_target_is_a_result_and_marked_everywhere(measured, tmp_path, commit):
    status, shown, _ = measured("quick")
    assert status == 0
    assert "MISSED" in shown
    assert "0.616" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"benchmarks.md", "benchmarks.csv", "benchmarks.json"}
    content = json.loads((tmp_path / "benchmarks.json").read_text())
    assert [(line["item"], line["met"]) for line in content["measurements"][1:]] == [("a hit", True), ("a miss", False)]
    machine = content["machine"]
    assert machine["machine"].startswith(f"{os.cpu_count()} cores, ")
    assert machine["gpu"] is None
    assert machine["threads"] == 1
    assert machine["versions"]["torch"]
    assert machine["versions"]["python"]
    assert machine["commit"] == commit
    rows = list(csv.DictReader((tmp_path / "benchmarks.csv").open()))
    assert float(rows[1]["ratio"]) == 0.61577
    lines = (tmp_path / "benchmarks.md").read_text().splitlines()
    assert "| a hit | 123 ms | 200 ms | 0.616 | <= 0.65 | met |  |" in lines
    assert "| a miss | 1.5 GFLOPs |  | 1.5 | < 1 | MISSED | by half |" in lines
    table = [line for line in lines if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table} == {8}
    assert lines[lines.index("1 of 2 targets are met.") :] == [
        *(
            "1 of 2 targets are met.",
            "",
            "## Missed: a miss",
            "",
            "1.5, where < 1 is the target. by half.",
            "",
            "where it went",
        ),
    ]
    assert "profile" not in rows[0]


@pytest.mark.parametrize(
    ("target", "faster", "ratio", "met"),
    [
        *(("<= 0.5", False, 0.5, True), ("< 0.5", False, 0.5, False), (">= 2", True, 2.0, True), (">= 2.1", True, 2.0, False)),
        ("", False, 0.5, True),
    ],
)
def test_a_target_is_held_against_the_ratio_and_its_miss_profiled(target, faster, ratio, met):
    line = hold("one thing", 10.0, 20.0, "ms", target, "so", faster, lambda: "the profile")
    assert line == Measurement("one thing", 10.0, 20.0, "ms", ratio, target, met, "so", "" if met else "the profile")
    assert hold("a bound", 3.0, None, "s", "<= 5").met


def test_a_profile_names_what_took_longest_first():
    maps, layer = torch.randn(1, 64, 256, 256), torch.nn.Conv2d(64, 64, 3)  # longer than a busy machine halts anything else
    header, _, first, *_ = profile_of(lambda: layer(maps)).splitlines()
    assert header.startswith("| operator")
    assert "1x64x256x256" in first
    assert table_of_shares([(1.0, "b"), (3.0, "a")], "thing").splitlines()[2:] == ["| a | 3.0 | 75.0% |", "| b | 1.0 | 25.0% |"]


def test_strict_fails_on_a_miss(measured, tmp_path):
    assert measured("quick", strict=True)[0] == 1
    assert (tmp_path / "benchmarks.json").is_file()


def test_a_benchmark_that_fails_stops_no_other_and_is_named(measured, tmp_path):
    status, _, told = measured("broken", "quick")
    assert status == 1
    assert "there is no cpu today" in told
    content = json.loads((tmp_path / "benchmarks.json").read_text())
    assert content["failed"] == ["broken"]
    assert len(content["measurements"]) == 3
    assert "broken ended without measurements" in (tmp_path / "benchmarks.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU here")
def test_without_a_gpu_it_says_so_in_one_line_and_ends_well(tmp_path, command):
    status, said, _ = command("bench", "device=cuda", f"output={tmp_path / 'out'}")
    assert (status, said) == (0, "No CUDA GPU here: nothing measured.\n")
    assert command("bench", "device=cuda", "strict=true", f"output={tmp_path / 'out'}")[0] == 1
    assert not (tmp_path / "out").exists()


def test_an_unknown_benchmark_is_refused_with_the_known_ones(command):
    status, _, told = command("bench", "only=[models,nonsense]")
    assert status == 1
    assert all(name in told.partition("expected")[2] for name in bench.MODULES)


@pytest.mark.parametrize("module", bench.MODULES)
def test_every_benchmark_offers_measure(module):
    measure = importlib.import_module(f"exfuse.benchmarks.{module}").measure
    assert list(inspect.signature(measure).parameters) == ["device", "progress"]


def test_help_names_the_benchmarks():
    done = entry_points.run("src.bench", "--help")
    for word in ("only=", "device=", "strict=", "outputs/benchmarks", *bench.MODULES):
        assert word in done.stdout


def test_make_offers_both_benchmarks():
    makefile = (REPOSITORY / "Makefile").read_text()
    assert "exfuse bench output=experiments/benchmarks " in makefile
    assert "exfuse bench device=cuda " in makefile
    assert Path(REPOSITORY / "experiments").is_dir()
