"""The studies in conf/: every job of every sweep composes, and the table's rows are just those that the sweep makes."""

import functools
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from omegaconf import DictConfig, OmegaConf

from exfuse.config.overrides import compose_hydra, describe_run
from exfuse.store.description import RunDescription, label_of
from exfuse.store.outcome import Outcome
from exfuse.store.study_file import RowFile
from exfuse.store.variants import names
from exfuse.sweeps.collect import _names, _rows
from exfuse.sweeps.declared import DeclaredStudy, declare_rows, split
from exfuse.sweeps.supervisor import row_name
from tests.conftest import REPOSITORY
from tests.sharing import amount

STUDIES = sorted((REPOSITORY / "conf" / "study").glob("*.yaml"))


@functools.cache
def composed(path: Path) -> DictConfig:
    """The config of a study's sweep."""
    return compose_hydra("train", [f"+study={path.stem}"])


def jobs(path: Path) -> list[Outcome]:
    """Every job of the study's sweep, as its supervisors would see it."""
    config = composed(path)
    study = msgspec.convert(OmegaConf.to_container(config.study, resolve=True), DeclaredStudy)
    _, batch = declare_rows(replace(study, baseline=None), split(config.hydra.sweeper.params, [f"+study={path.stem}"]))
    return [job(number, overrides) for number, overrides in enumerate(batch)]


described = functools.cache(lambda *overrides: describe_run(overrides))


def job(number: int, overrides: list[str]) -> Outcome:
    seeds = [int(one.partition("=")[2]) for one in overrides if one.startswith("seed=")]
    # a seed changes nothing else of a composition; in make test one is composed for all
    shared = amount([one for one in overrides if not one.startswith("seed=")], overrides)
    run = replace(described(*shared), seed=seeds[-1])
    return Outcome(number, overrides, row_name(run), run.seed, run.choices, key=f"{label_of(run)} {run.seed}")


@pytest.fixture(scope="module", params=STUDIES, ids=lambda path: path.stem)
def study(request: pytest.FixtureRequest) -> tuple[DeclaredStudy, list[RowFile]]:
    """A study as it is declared, and the rows that its sweep makes."""
    declared = msgspec.convert(OmegaConf.to_container(composed(request.param).study, resolve=True), DeclaredStudy)
    assert declared.name == request.param.stem
    found = jobs(request.param)
    return declared, _rows(found, _names(found, declared.rows, ()), declared.rows)


def test_a_sweep_makes_just_the_rows_that_the_study_declares(study: tuple[DeclaredStudy, list[RowFile]]) -> None:
    declared, rows = study
    if declared.rows:
        assert [row.name for row in rows] == list(declared.rows)
        assert sum(row.on is None for row in rows) == 1  # the row from which the others start
    else:
        assert len(rows) == 2 ** len(declared.factors or ())
    for row in rows:
        assert {0, 1, 2} <= row.runs.keys() == rows[0].runs.keys()
        assert row.on is None or row.on in {other.name for other in rows}
        if declared.rows:
            own = declared.rows[row.name]
            assert own is not None
            assert row.on == own.builds_on
    by_name = bool(declared.varies or declared.overrides)
    assert len({str((row.options, row.decoder, by_name and row.name)) for row in rows}) == len(rows)


def test_a_factorial_has_every_combination_of_two_options(study: tuple[DeclaredStudy, list[RowFile]]) -> None:
    declared, rows = study
    for factor in declared.factors or ():
        assert factor in names()
        assert len({row.options[factor] for row in rows}) == 2


def test_a_study_says_how_to_start_it(study: tuple[DeclaredStudy, list[RowFile]]) -> None:
    declared, _ = study
    lines = (REPOSITORY / "conf" / "study" / f"{declared.name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert any(f"exfuse train +study={declared.name}" in line for line in lines[1:4])


@pytest.mark.parametrize("name", ["table3_techniques", "table3_last"])
def test_table_3_has_the_papers_rows_and_numbers(name: str, compose_config: Callable[..., RunDescription]) -> None:
    study = compose_config(f"+study={name}").study
    assert study is not None
    rows = study["rows"]
    paper: list[float | None] = [76.0, 77.5, 78.3, 78.8, 79.0, 79.6, 80.0]
    if name == "table3_last":
        paper[5:] = [None, None]  # DAP in another form than the paper's
    assert [row["paper"] for row in rows.values()] == paper
    names = list(rows)
    assert [row["builds_on"] for row in rows.values()] == [None, *(names[at] for at in (0, 1, 2, 2, 4, 5))]  # row 5 on row 3
