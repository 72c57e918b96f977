"""What variants, runs and sweeps are called, and that no sweep overwrites another one's table."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from exfuse.config.overrides import check_groups, describe_run
from exfuse.errors import UserError
from exfuse.store.checked import write_sealed_json
from exfuse.store.folder import RunFolder
from exfuse.store.outcome import Outcome
from exfuse.store.record import Record
from exfuse.sweeps.study_folder import study_folder
from exfuse.sweeps.supervisor import row_name
from exfuse.sweeps.sweep import Sweep, read_sweep


@pytest.mark.parametrize(
    ("overrides", "name", "row"),
    [
        ([], "baseline", "baseline"),
        (["+ablation=seb_ecre"], "seb_ecre", "seb_ecre"),
        (["+architecture=plain_os16"], "plain_os16", "plain_os16"),
        (["technique/seb=gate"], "seb-gate", "seb-gate"),
        (["+ablation=seb", "technique/dap=last"], "seb-product+dap-last", "seb-product+dap-last"),
        (["+ablation=seb", "decoder=levels_45"], "seb-product+levels_45", "seb-product+levels_45"),
        (["+ablation=seb", "name=mine"], "mine", "seb"),
    ],
)
def test_a_run_is_called_what_was_typed_and_a_row_what_it_is(overrides: list[str], name: str, row: str) -> None:
    described = describe_run(overrides)
    assert (described.name, row_name(described)) == (name, row)


def sweep(tmp_path: Path, *typed: str, **more: object) -> Sweep:
    """The parent of a sweep, as its sweeper reads it."""
    config = OmegaConf.create(
        {
            "hydra": {
                "launcher": {"_target_": "ray"},
                "sweep": {"dir": str(tmp_path / "sweep")},
                "job": {"config_name": "train"},
                "overrides": {"task": [*typed]},
            },
            "sweep": {"output": None, "mixed": False, "missing": "train"},
            **more,
        }
    )
    return read_sweep(config, tabulates=True)


STUDY = {"name": "mine", "title": "Mine", "rows": {"baseline": None, "seb": {"builds_on": "baseline"}}}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "../evil"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"nmae": "mine"}, "nmae"),
        ({"rows": {"seb": {"builds": "baseline"}}}, "builds"),
        ({"rows": {"baseline": None, "seb": {"builds_on": "basline"}}}, "basline"),
        ({"factors": ["seb", "nope"]}, "nope"),
        ({"rows": {"baseline": {"builds_on": "baseline"}, "seb": None}}, "builds on"),
        ({"rows": {"a": {"label": "seb"}, "b": {"label": "seb"}}}, "label seb"),
        ({"edge_radius": 7}, "edge_radius"),
        ({"claims": [{"row": "seb", "lies": "below", "of": []}]}, "needs other rows"),
        ({"claims": [{"row": "sbe", "lies": "below", "of": ["baseline"]}]}, "sbe"),
    ],
    ids=str,
)
def test_a_study_that_could_make_no_table_is_refused_before_anything_is_trained(
    wrong: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refused:
        sweep(tmp_path, study=STUDY | wrong)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("held", ["table.md", "records", "ladder.png"])
def test_a_study_takes_no_folder_that_holds_somebodys_table(held: str, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    (folder / held).mkdir(parents=True)
    choice = {"output": str(folder), "mixed": False, "missing": "train"}
    with pytest.raises(UserError, match=held):
        sweep(tmp_path, sweep=choice)
    for content in ("", "{}", "[1]"):
        (folder / "study.json").write_text(content)
        with pytest.raises(UserError, match="study"):
            sweep(tmp_path, sweep=choice)
    write_sealed_json(folder / "study.json", {"command": "exfuse train"})
    assert sweep(tmp_path, sweep=choice).output == folder


def test_the_folder_that_a_study_would_choose_is_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = Path("outputs/studies/mine/table.md")
    table.parent.mkdir(parents=True)
    table.touch()
    with pytest.raises(UserError, match=r"table\.md"):
        sweep(tmp_path, study=STUDY)


@pytest.mark.parametrize("output", ["afile", 3, ["a"]])
def test_a_place_that_is_no_folder_is_refused(output: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("afile").touch()
    with pytest.raises(UserError, match=r"sweep\.output"):
        sweep(tmp_path, sweep={"output": output, "mixed": False, "missing": "train"})


def test_the_table_of_another_sweep_in_the_folder_that_was_typed_stays(tmp_path: Path) -> None:
    folder = tmp_path / "typed"
    record(folder / "records", "a", "these images", "done")
    record(folder / "records", "c", "these images")  # failed, so that nobody misses it
    record(tmp_path / "runs", "b", "these images")
    write_sealed_json(folder / "study.json", {"command": "exfuse train +study=other"})
    mine = sweep(tmp_path, "+study=mine", study=STUDY, sweep={"output": str(folder), "mixed": False, "missing": "train"})
    others = [Outcome(0, [], "row", 0, {}, store=str(tmp_path / "runs"), key="b" * 16)]
    with pytest.raises(UserError, match=r"another sweep, exfuse train \+study=other"):
        study_folder(mine, others)
    both = [*others, Outcome(1, [], "row", 1, {}, store=str(tmp_path / "runs"), key="a" * 16)]
    assert study_folder(mine, both) == folder
    for looks in ([], [{}]):  # a rule is no look
        write_sealed_json(folder / "study.json", {"command": "exfuse train +study=other", "sequential": {"looks": looks}})
        with pytest.raises(UserError, match="whose looks count") if looks else nullcontext():
            assert study_folder(mine, both) == folder


def test_an_unnamed_sweep_has_a_folder_of_its_own_which_the_same_command_finds_again(tmp_path: Path) -> None:
    one = sweep(tmp_path, "+ablation=seb,ecre", "seed=0,1")
    assert one.study.name.startswith("multirun-")
    assert sweep(tmp_path, "+ablation=seb,ecre", "seed=0,1", "paths.runs=elsewhere").study == one.study
    assert sweep(tmp_path, "+ablation=seb,dap", "seed=0,1").study != one.study
    assert one.command == "exfuse train -m +ablation=seb,ecre seed=0,1"


def test_a_study_on_other_data_leaves_the_table_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("outputs/studies/mine")
    study = {"name": "mine", "title": "Mine"}

    def outcomes(*keys: str) -> list[Outcome]:
        return [Outcome(0, [], "row", 0, {}, store=str(tmp_path / "runs"), key=key * 16) for key in keys]

    before = sweep(tmp_path, "+study=mine", study=study)
    assert study_folder(before, outcomes("a")) == folder
    record(folder / "records", "a", "these images")
    record(tmp_path / "runs", "b", "these images")
    record(tmp_path / "runs", "c", "others")
    write_sealed_json(folder / "study.json", {"command": before.command})
    other = sweep(tmp_path, "+study=mine", "data=voc", study=study)
    beside = study_folder(other, outcomes("b"))
    assert beside.parent == folder.parent
    assert beside.name.startswith("mine-")
    assert study_folder(other, outcomes("b")) == beside  # found again
    assert study_folder(before, outcomes("b")) == folder  # the same command, after the code has changed
    assert study_folder(sweep(tmp_path, "+study=mine", "seed=0,1", study=study), outcomes("a", "b")) == folder
    moved = study_folder(before, outcomes("c"))  # the same words, with paths.data of other images
    assert moved not in (folder, beside)
    assert moved == study_folder(before, outcomes("c"))


@pytest.mark.parametrize("trained", [False, True])
def test_the_only_record_of_a_finished_run_stays_where_the_same_command_makes_other_runs(
    trained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as when a recipe's file was edited: the same words, other keys
    monkeypatch.chdir(tmp_path)
    runs, study = tmp_path / "runs", {"name": "mine", "title": "Mine"}
    usual, folder = sweep(tmp_path, "+study=mine", study=study), Path("outputs/studies/mine")
    typed = {"output": str(tmp_path / "typed"), "mixed": False, "missing": "skip"}
    named = sweep(tmp_path, "+study=mine", study=study, sweep=typed)
    now = [Outcome(0, [], "row", 0, {}, store=str(runs), key="b" * 16)]
    for place, one in ((folder, usual), (tmp_path / "typed", named)):
        record(place / "records", "a", "these images", "done")
        write_sealed_json(place / "study.json", {"command": one.command})
    if trained:
        record(runs, "b", "these images", "done")
    beside = study_folder(usual, now)
    assert beside != folder
    with pytest.raises(UserError, match=r"this sweep before its runs had other keys, with finished runs .*aaaa"):
        study_folder(named, now)
    # what was made of the second edit stays from a third
    record(beside / "records", "b", "these images", "done")
    write_sealed_json(beside / "study.json", {"command": usual.command})
    assert study_folder(usual, now) == beside
    third = [Outcome(0, [], "row", 0, {}, store=str(runs), key="c" * 16)]
    assert (study_folder(usual, third) == beside) is trained  # as the run itself is there
    record(runs, "a", "these images", "done")
    assert study_folder(usual, now) == folder
    assert study_folder(named, now) == tmp_path / "typed"


def test_a_sequential_study_keeps_its_folder_while_its_later_seeds_are_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, mine = Path("outputs/studies/mine"), sweep(tmp_path, "+study=mine", study={"name": "mine", "title": "Mine"})
    for key in "ab":
        record(folder / "records", key, "these images", "done")
    write_sealed_json(folder / "study.json", {"command": mine.command})
    first = [Outcome(0, [], "row", 0, {}, store=str(folder / "records"), key="a" * 16)]
    assert study_folder(mine, first) != folder
    mine.plan = SimpleNamespace(sequential=object())  # type: ignore[assignment]
    assert study_folder(mine, first) == folder
    edited = [Outcome(0, [], "row", 0, {}, store=str(tmp_path / "runs"), key="c" * 16)]
    assert study_folder(mine, edited) != folder


def record(store: Path, key: str, manifest: str, status: str = "failed") -> None:
    RunFolder(store, key * 16).write(Record(key=key * 16, status=status, manifests={"val": manifest}))


def test_a_glob_of_names_is_left_to_hydra() -> None:
    check_groups(["+ablation=glob(*)", "technique/dap=glob([l*,w*])", "recipe=choice(demo,small)"])
    with pytest.raises(UserError, match="recipe"):
        check_groups(["recipe=choice(demo,3)"])
