"""Batches in parts: numbers that are typed, numbers that memory decides, one number for a study, a begun run's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from exfuse.errors import ConfigError
from exfuse.runs import micro_batch, peak
from exfuse.runs.micro_batch import images_of, in_parts, settle
from exfuse.runs.peak import training_peak
from exfuse.runs.plan import plan_run
from exfuse.store.description import RunDescription, to_plain
from exfuse.store.folder import COUNTS, RunFolder
from exfuse.store.record import DONE, RUNNING
from exfuse.store.study_file import RECORDS
from exfuse.sweeps.parallel import at_once
from exfuse.sweeps.session import _elsewhere, _with_images
from tests.command import Command
from tests.records import leave_record

Compose = Callable[..., RunDescription]
AUTO = "runtime.micro_batch=auto"
BATCH = 4


@pytest.fixture
def typed(small_overrides: list[str], tmp_path: Path) -> list[str]:
    return [*small_overrides, f"paths.runs={tmp_path / 'runs'}"]


@pytest.fixture(scope="module")
def known_peaks() -> dict[str, int]:
    return {}


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, known_peaks: dict[str, int], tmp_path: Path) -> list[RunDescription]:
    """Of which runs the peak was asked; that of a run of which another test asked is taken from there."""
    asked = list[RunDescription]()

    def once(run: RunDescription, on_gpu: bool) -> int:
        asked.append(run)
        what = to_plain(run) | {"paths": None, "sweep": None, "name": None}, on_gpu
        if (key := repr(what)) not in known_peaks:
            known_peaks[key] = training_peak(run, on_gpu)
        return known_peaks[key]

    monkeypatch.setattr(peak, "training_peak", once)
    return asked


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch, compose_config: Compose, typed: list[str]) -> Callable[..., None]:
    """Leave memory for so many images of a run at once and for no more: ``room(2, "+ablation=exfuse")``."""

    def leave(images: int, *overrides: str) -> None:
        needed = peak.training_peak(in_parts(compose_config(*typed, *overrides), images), on_gpu=False)
        monkeypatch.setattr(micro_batch, "memory_limit", lambda: round(needed / micro_batch._OF_MEMORY) + 2)

    return leave


@pytest.mark.parametrize(("asked", "parts"), [(1, 4), (2, 2), (3, 2), (4, 1), (100, 1)])
def test_a_number_makes_as_few_parts_as_it_allows_and_the_key_of_those(
    asked: int, parts: int, typed: list[str], compose_config: Compose
) -> None:
    settled = settle(compose_config(*typed, f"runtime.micro_batch={asked}"))
    assert settled.trainer.accumulate_grad_batches == parts
    spelt_out = compose_config(*typed, f"trainer.accumulate_grad_batches={parts}")
    assert settled == spelt_out
    assert plan_run(settled).folder == plan_run(spelt_out).folder


def test_parts_divide_the_batch_of_a_pretraining_that_may_come_first(typed: list[str], compose_config: Compose) -> None:
    pretrained = ["backbone.init=pretrained", "backbone.missing=make"]
    pretrained += ["recipe.batch_size=12", "pretraining.recipe.batch_size=8"]
    settled = settle(compose_config(*typed, *pretrained, "runtime.micro_batch=4"))
    assert settled.trainer.accumulate_grad_batches == 4  # three would leave 8 images undivided
    with pytest.raises(ConfigError, match=r"runtime.micro_batch=2: .* leave at least 3 images of 12 at once"):
        settle(compose_config(*typed, *pretrained, "runtime.micro_batch=2"))


def test_parts_are_said_once(typed: list[str], compose_config: Compose) -> None:
    with pytest.raises(ConfigError, match="Leave one of them out"):
        settle(compose_config(*typed, "runtime.micro_batch=2", "trainer.accumulate_grad_batches=2"))


@pytest.mark.parametrize("images", [1, 2, 4])
def test_auto_takes_what_fits(images: int, typed: list[str], compose_config: Compose, room: Callable[..., None]) -> None:
    room(images)
    assert images_of([compose_config(*typed, AUTO)]) == images


def test_rows_are_tried_with_no_more_than_the_largest_so_far_takes(
    typed: list[str], compose_config: Compose, room: Callable[..., None], asked: list[RunDescription]
) -> None:
    room(2, "+ablation=exfuse")
    rows = [compose_config(*typed, AUTO, f"+ablation={row}") for row in ("exfuse", "baseline")]
    small = compose_config(*typed, AUTO, "recipe.batch_size=1")  # which limits nobody
    asked.clear()
    assert images_of([*rows, small]) == 2
    parts = [(run.choices["ablation"], run.trainer.accumulate_grad_batches) for run in asked[:-1]]
    assert parts == [("exfuse", 1), ("exfuse", 2), ("baseline", 2)]


def test_what_never_fits_is_refused_with_sizes(
    typed: list[str], compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(micro_batch, "memory_limit", lambda: 2**29)
    with pytest.raises(ConfigError, match=r"baseline with 1 image at once takes about 1\.\d GiB, and there are 0\.[45]"):
        settle(compose_config(*typed, AUTO, "+ablation=baseline"))


def test_runs_side_by_side_share_the_memory(
    typed: list[str], compose_config: Compose, room: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    room(2)
    limit = micro_batch.memory_limit()
    monkeypatch.setattr(micro_batch, "memory_limit", lambda: 3 * limit)
    assert images_of([compose_config(*typed, AUTO)], at_once=3) == 2


def test_a_gpu_s_own_memory_decides(typed: list[str], compose_config: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    run = compose_config(*typed, AUTO, "trainer=auto", "trainer.precision=bf16-mixed")
    needed = peak.training_peak(in_parts(run, 2), on_gpu=True)
    monkeypatch.setattr(micro_batch, "gpus_for", lambda _: ["0", "3"])
    sizes = {("0", "3"): round(needed / micro_batch._OF_GPU) + 2}
    monkeypatch.setattr(micro_batch, "gpu_memory", lambda gpus: sizes[tuple(gpus)])
    assert images_of([run]) == images_of([run], at_once=2) == 2
    sizes[("0", "3")] *= 2
    assert images_of([run], at_once=3) == 2  # two of them share one


def test_a_begun_run_keeps_its_parts_and_is_refused_where_they_do_not_fit(
    typed: list[str], compose_config: Compose, room: Callable[..., None]
) -> None:
    auto = compose_config(*typed, AUTO)
    room(2)
    begun = settle(auto)
    leave_record(plan_run(begun).folder, RUNNING, config=to_plain(begun))
    room(4)
    assert settle(auto) == begun
    assert settle(compose_config(*typed, AUTO, "overwrite=true")).trainer.accumulate_grad_batches == 1
    room(1)
    with pytest.raises(ConfigError, match=r"began with 2 images at once, and here 1 fit.* runtime.micro_batch=1"):
        settle(auto)
    assert settle(compose_config(*typed, "runtime.micro_batch=1")).trainer.accumulate_grad_batches == BATCH


def test_a_finished_run_is_found_whatever_fits_here(
    typed: list[str], compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = in_parts(compose_config(*typed), 2)
    leave_record(plan_run(done).folder, DONE, config=to_plain(done))
    monkeypatch.setattr(micro_batch, "memory_limit", lambda: 0)
    assert settle(compose_config(*typed, AUTO)) == done


def test_a_run_that_a_studys_folder_holds_is_found_whatever_fits_here(
    typed: list[str], compose_config: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = f"sweep.known={tmp_path / 'study'}"
    done = in_parts(compose_config(*typed, known), 2)
    folder = RunFolder(tmp_path / "study" / RECORDS, plan_run(done).folder.key)
    leave_record(folder, DONE, config=to_plain(done))
    (folder.path / COUNTS).touch()
    monkeypatch.setattr(micro_batch, "memory_limit", lambda: 0)
    assert settle(compose_config(*typed, AUTO, known)) == done


def test_all_rows_of_a_study_take_what_fits_its_largest(
    typed: list[str], compose_config: Compose, room: Callable[..., None], command: Command, tmp_path: Path
) -> None:
    room(2, "+ablation=exfuse")
    alone = [images_of([compose_config(*typed, AUTO, f"+ablation={row}")]) for row in ("baseline", "exfuse")]
    assert alone == [BATCH, 2]
    study = tmp_path / "study"
    words = ["train", "-m", *typed, AUTO, "+ablation=baseline,exfuse", "seed=0", "sweep.missing=skip", f"sweep.output={study}"]
    _, said, told = command(*words, f"hydra.sweep.dir={tmp_path}/sweep")
    assert "2 images at once in all runs" in said, told
    settled = [in_parts(compose_config(*typed, f"+ablation={row}"), 2) for row in ("baseline", "exfuse")]
    folders = [plan_run(run).folder for run in settled]
    text = (study / "study.json").read_text()
    assert all(folder.key in text for folder in folders)

    leave_record(folders[0], RUNNING, config=to_plain(settled[0]))
    room(4, "+ablation=exfuse")
    _, said, told = command(*words, f"hydra.sweep.dir={tmp_path}/sweep")
    assert "2 images at once in all runs" in said, told  # one of them has begun


def test_rows_that_are_overrides_take_what_fits_the_largest_too(
    typed: list[str], room: Callable[..., None], command: Command, tmp_path: Path
) -> None:
    room(2, "+ablation=exfuse")
    (tmp_path / "conf" / "study").mkdir(parents=True)
    rows = "".join(f"    {row}: {{overrides: [+ablation={row}]}}\n" for row in ("baseline", "exfuse"))
    text = f"# @package _global_\nhydra: {{mode: MULTIRUN}}\nstudy:\n  name: two\n  title: Two\n  rows:\n{rows}"
    (tmp_path / "conf" / "study" / "two.yaml").write_text(text)
    folders = [f"hydra.sweep.dir={tmp_path}/sweep", f"sweep.output={tmp_path}/study", "--config-dir", f"{tmp_path}/conf"]
    _, said, told = command("train", *typed, AUTO, "+study=two", "seed=0", "sweep.missing=skip", *folders)
    assert "2 images at once in all runs" in said, told


@pytest.mark.parametrize("said", [{"n_jobs": 3}, {"n_jobs": -1}, {}])
def test_launchers_say_how_many_runs_share_the_memory(said: dict[str, int]) -> None:
    most = _elsewhere(OmegaConf.create({"hydra": {"launcher": said}, "trainer": {"accelerator": "cpu"}}))
    assert most == (3 if said.get("n_jobs") == 3 else at_once("auto", "cpu", alone=False))


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (["seed=0"], ["seed=0", "runtime.micro_batch=2"]),  # a study's file says auto
        (["runtime.micro_batch=auto", "seed=0"], ["seed=0", "runtime.micro_batch=2"]),
        (["runtime.micro_batch=3", "seed=0"], ["runtime.micro_batch=3", "seed=0"]),
    ],
)
def test_a_job_that_says_a_number_itself_keeps_it(job: list[str], expected: list[str]) -> None:
    assert _with_images(job, 2) == expected
