"""How many runs a sweep trains at once, where each goes, and how far they are."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from exfuse import devices
from exfuse.errors import ConfigError, UserError
from exfuse.store.folder import RunFolder
from exfuse.store.outcome import STARTED, WAITING, Outcome, RunProgress
from exfuse.sweeps import parallel, watching
from exfuse.sweeps.watching import Planned, is_swept, seconds_left, summary, sweeping, view, watch, watched
from tests.records import leave_record


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Pretend to be another machine."""

    def pretend(cores: int, gpus: int, gib: float) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
        monkeypatch.setattr(devices, "gpus_of_machine", lambda: gpus)
        monkeypatch.setattr(parallel, "memory_limit", lambda: int(gib * 2**30))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return pretend


@pytest.mark.parametrize(
    ("asked", "accelerator", "alone", "cores", "gpus", "gib", "expected"),
    [
        ("auto", "auto", False, 8, 0, 64, 8),  # a core each
        ("auto", "auto", False, 8, 0, 13, 4),  # as far as there is memory
        ("auto", "auto", False, 8, 0, 1, 1),
        ("auto", "auto", False, 64, 4, 256, 4),  # a GPU each
        ("auto", "cpu", False, 16, 4, 256, 16),
        ("auto", "gpu", True, 64, 4, 256, 1),  # a run that takes all GPUs
        (3, "auto", False, 2, 0, 4, 3),  # as asked
        (1, "gpu", False, 64, 4, 256, 1),
    ],
)
def test_as_many_runs_at_once_as_the_machine_has_room_for(
    machine, asked, accelerator, alone, cores, gpus, gib, expected
) -> None:
    machine(cores, gpus, gib)
    assert parallel.at_once(asked, accelerator, alone) == expected


@pytest.mark.parametrize(
    ("gpus", "visible", "expected"),
    [
        (2, None, ["0", "1"]),
        (2, "1", ["1"]),
        (2, "GPU-a,GPU-b", ["GPU-a", "GPU-b"]),
        (2, "GPU-a, GPU-b", ["GPU-a"]),  # as torch reads it
        (2, "GPU-a,0", ["GPU-a"]),  # all are of the first one's kind
        (2, "0,GPU-a", ["0"]),
        (2, " +1, 0", ["1", "0"]),
        (2, "1gpu2,0", ["1", "0"]),
        (2, "0,00", []),
        (2, "", []),
        (2, "1,-1,0", ["1"]),  # CUDA looks no further than the first that is not there
        (2, "0,7,1", ["0"]),
        (0, "0", []),
        (0, "GPU-a", []),
        (2, "NoDevFiles", []),  # what SLURM says for none
        (2, "MIG-a,²", ["MIG-a"]),
        (2, "mig-a", []),
        (2, "0,0", []),
    ],
)
def test_gpus_are_those_that_the_process_may_use(machine, monkeypatch, gpus, visible, expected) -> None:
    machine(4, gpus, 8)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.visible_gpus() == expected


def test_the_memory_of_a_gpu_that_the_driver_does_not_know_is_asked_for_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"how much memory GPU GPU-a has, .*micro_batch=4.*CUDA_VISIBLE_DEVICES"):
        devices.gpu_memory(["GPU-a"])


@pytest.fixture
def handlers() -> Iterator[None]:
    """Puts back what a place sets in its process, which is otherwise one of joblib's."""
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)


@pytest.mark.usefixtures("handlers")
def test_each_run_has_a_place_of_its_own_and_the_next_gpu(machine, tmp_path: Path) -> None:
    machine(8, 2, 64)
    place = parallel.place
    with place(tmp_path, "gpu") as first, place(tmp_path, "gpu") as second, place(tmp_path, "gpu") as third:
        found = [one["CUDA_VISIBLE_DEVICES"] for one in (first, second, third) if one]
    assert found == ["0", "1", "0"]
    with place(tmp_path, "gpu") as again, place(tmp_path, "cpu") as cpu:
        assert again == {"CUDA_VISIBLE_DEVICES": "0"}
        assert cpu == {}


def test_the_last_of_several_runs_takes_one_thread_as_the_others_did(tmp_path: Path) -> None:
    """A table of a CPU holds runs of one number of threads."""
    taken = []

    class Own:
        def launch(self, *_: object) -> list[object]:
            taken.append((parallel.only_looks(), parallel.takes_one_thread()))
            Outcome(0, [], "baseline", 0, {}, status=WAITING).write(tmp_path)
            return []

    launcher = parallel.SideBySide(Own(), 2, lambda _: nullcontext())  # type: ignore[arg-type]
    launcher.setup(config=OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    launcher.launch([["seed=0"]], 0)
    assert taken == [(True, False), (False, True)]
    assert not parallel.takes_one_thread()


def job(number: int, row: str, seed: int, status: str, **more) -> Outcome:
    return Outcome(number, [f"+ablation={row}", f"seed={seed}", *more.pop("swept", [])], row, seed, {}, status=status, **more)


def test_the_time_left_follows_from_runs_of_the_same_row() -> None:
    outcomes = [
        job(0, "narrow", 0, "done", seconds=100),
        job(1, "wide", 0, STARTED, began=1000.0, progress=RunProgress(3.0, 12)),  # a quarter in 250 s: 1,000 s in all, 750 left
        job(2, "narrow", 1, WAITING),
        job(3, "wide", 1, WAITING),
        job(4, "other", 0, WAITING),  # like the mean of the others: 550 s
    ]
    assert seconds_left(outcomes, 1, now=1250.0) == pytest.approx(750 + 100 + 1000 + 550)
    assert seconds_left(outcomes, 2, now=1250.0) == pytest.approx((750 + 100 + 1000 + 550) / 2)
    assert seconds_left(outcomes, 99, now=1250.0) == pytest.approx(1000)  # none is faster than its longest run
    assert seconds_left(outcomes[2:], 1) is None
    assert summary(outcomes, 2).startswith("1 of 5 ended, 1 in training, about ")
    assert summary(outcomes[:1], 2) == "1 of 1 ended, 0 in training"
    assert summary(outcomes[:1], 1, planned=Planned(3)) == "1 of 3 ended, 0 in training, about 3 min left"
    short = job(5, "narrow", 1000, "done", seconds=10, swept=["held_out.share=0.2"])  # of the search, which is shorter
    assert seconds_left([short, outcomes[0], outcomes[2]], 1) == 100


def test_what_follows_a_search_is_counted_and_taken_for_as_much_longer_as_it_is() -> None:
    search = [
        job(0, "narrow", 1000, "done", seconds=10, swept=["held_out.share=0.2"]),
        job(1, "wide", 1000, WAITING, swept=["held_out.share=0.2"]),
    ]
    assert seconds_left(search, 1, Planned(5, 4.0)) == 10 + 3 * 4 * 10
    cut = [search[0], job(1, "wide", 0, "interrupted")]  # nobody goes on with what is planned
    assert summary(cut, 1, Planned(5, 4.0)) == "1 of 5 ended, 0 in training, 1 interrupted"
    assert summary(search, 1, Planned(5, 4.0)) == "1 of 5 ended, 0 in training, about 2 min left"
    final = job(2, "narrow", 0, "done", seconds=50)  # once one is over, that counts
    assert seconds_left([*search, final], 1, Planned(5, 4.0)) == 10 + 2 * 50


def test_lines_tell_of_each_run_once_in_all_stages_of_a_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_EVERY", 0.01)
    told = ""
    with sweeping(tmp_path) as tell:
        for stage, row in enumerate(("searched", "shown")):
            tell(Planned(2))
            with watched(tmp_path, 1):
                for status in (STARTED, "failed"):
                    job(stage, row, 0, status, began=1.0).write(tmp_path)
                    while f"{row}, seed 0: {'starts' if status == STARTED else status}" not in told:
                        time.sleep(0.01)
                        told += capsys.readouterr().out
    lines = [line for line in told.splitlines() if "failed" in line]
    assert [line.partition(",")[0] for line in lines] == ["searched", "shown"]
    assert "1 of 2 ended" in lines[0]


def test_a_backbone_that_is_made_first_is_named_and_tells_nothing_of_the_time_left() -> None:
    making = job(0, "ss", 0, STARTED, began=1000.0, progress=RunProgress(2.0, 8, 0.5, "backbone"))
    assert seconds_left([making], 1, now=1100.0) is None
    console = Console(width=120, record=True)
    console.print(view([making]))
    assert "backbone, epoch 3 of 8, 50.0 %" in console.export_text()
    # a run that goes on with its sixth of twelve epochs: three in 30 s
    resumed = job(0, "ss", 0, STARTED, began=1000.0, before=5.0, progress=RunProgress(8.0, 12))
    assert seconds_left([resumed], 1, now=1030.0) == pytest.approx(4 * 10)


def test_the_view_shows_rows_by_seeds_and_a_search_by_what_it_tries() -> None:
    searched = [
        job(number, row, 1000, WAITING, swept=[f"recipe.lr={lr}", "held_out.share=0.2"])
        for number, (row, lr) in enumerate([("baseline", 0.1), ("baseline", 0.3), ("seb", 0.1), ("seb", 0.3)])
    ]
    finals = [
        job(4, "baseline", 0, STARTED, swept=["recipe.lr=0.1"], began=1.0, progress=RunProgress(3.4, 12, 0.412)),
        job(5, "seb", 0, "failed", swept=["recipe.lr=0.3"], reason="out of memory"),
        job(6, "baseline", 1, WAITING, swept=["recipe.lr=0.1"]),
        job(7, "seb", 1, WAITING, swept=["recipe.lr=0.3"]),
    ]
    console = Console(width=120, record=True)
    console.print(view([*searched, *finals], 2))
    told = console.export_text()
    lines = [line.split() for line in told.splitlines()]
    assert ["search", "lr=0.1", "lr=0.3"] in lines
    assert ["run", "seed", "0", "seed", "1"] in lines
    assert "epoch 4 of 12, 41.2 %" in told
    assert "seb, seed 0: failed. out of memory" in told
    assert sum(line[:1] == ["seb"] for line in lines) == 2  # a row in either table


def test_lines_name_what_tells_runs_of_a_row_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swept = [["technique.seb.power=1"], ["technique.seb.power=2"]]
    for number, settings in enumerate(swept):
        job(number, "seb-power", 0, STARTED, began=1.0, swept=settings).write(tmp_path)
    job(2, "seb-power", 1000, STARTED, began=1.0, swept=["recipe.lr=0.1", "held_out.share=0.2"]).write(tmp_path)
    job(3, "seb-power", 1000, STARTED, began=1.0, swept=["recipe.lr=0.3", "held_out.share=0.2"]).write(tmp_path)
    watching._tell(Console(), tmp_path, 2, lambda: True)
    told = [line.partition(": starts")[0] for line in capsys.readouterr().out.splitlines()]
    assert told == [
        *(f"seb-power technique.seb.power={power}, seed 0" for power in (1, 2)),
        *(f"seb-power recipe.lr={lr}, seed 1000" for lr in (0.1, 0.3)),
    ]


def test_without_a_sweep_it_is_said_how_one_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no sweep was started in this folder"):
        watch(None)
    with pytest.raises(UserError, match="there are no jobs of a sweep"):
        watch(str(tmp_path))


def test_a_study_is_watched_by_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study = Path("outputs/studies/mine")
    study.mkdir(parents=True)
    (study / "study.json").write_text('{"runs": {"0": "abc"}}')
    for name, key in (("first", "abc"), ("second", "other")):
        Outcome(0, [], "seb", 0, {}, key=key, status="failed").write(Path("outputs/sweeps") / name)
    watch(str(study))
    assert "outputs/sweeps/first" in capsys.readouterr().out
    Path("outputs/sweeps/second/jobs/0.json").write_text("{")  # which is nobody's business here
    watch(str(study))
    assert "outputs/sweeps/first" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"0\.json"):
        watch("outputs/sweeps/second")


def test_of_two_sweeps_that_share_runs_a_study_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "other"):  # the latter's table is not there yet
        sweep = Path("outputs/sweeps") / name
        with sweeping(sweep) as tell:
            tell(Planned(2, 1.0, f"outputs/studies/{name}"))
            Outcome(0, [], "seb", 0, {"study": "declared"}, key="abc", began=1.0).write(sweep)
        time.sleep(0.02)  # by which the latest is told
    (tmp_path / "outputs/studies/mine").mkdir(parents=True)
    (tmp_path / "outputs/studies/mine/study.json").write_text('{"runs": {"0": "abc"}}')
    for name in ("mine", "other"):
        watch(f"outputs/studies/{name}")
        told = capsys.readouterr().out
        assert f"outputs/sweeps/{name}" in told
        assert "seb, seed 0: interrupted. the same command goes on" in told  # nobody is at it any more
        assert "0 of 2 ended, 0 in training, 1 interrupted" in told
        assert "left" not in told


def test_a_sweep_is_watched_as_long_as_its_process_is_at_it(tmp_path: Path) -> None:
    assert not is_swept(tmp_path)
    with sweeping(tmp_path) as tell:
        tell(Planned(12))
        assert is_swept(tmp_path)  # though no job has begun, or all that had have ended
        with sweeping(tmp_path):  # another in this folder
            assert is_swept(tmp_path)
    assert not is_swept(tmp_path)


def test_a_backbone_that_is_done_has_no_score(tmp_path: Path) -> None:
    leave_record(RunFolder(tmp_path, "0" * 16), "done")
    console = Console(width=120, record=True)
    console.print(view([job(0, "baseline", 0, "done", store=str(tmp_path), key="0" * 16)]))
    assert ["baseline", "done"] in [line.split() for line in console.export_text().splitlines()]
