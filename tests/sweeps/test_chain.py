"""The three stages as a user starts them, on generated data in the layouts of COCO, SBD and VOC."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console

from exfuse.config.overrides import compose_config, describe_run
from exfuse.errors import ConfigError, DataError, UserError
from exfuse.runs.child import Ended
from exfuse.store.folder import RunFolder
from exfuse.sweeps.chain import Stage, plan_chain, run_chain
from tests import entry_points
from tests.conftest import REPOSITORY
from tests.extras import require
from tests.pace import patience
from tests.records import SCORES, leave_record
from tests.sharing import FULL
from tests.sweeps.three_layouts import write_layouts

_SMALL = [
    *("trainer=cpu", "backbone.init=random", "trainer.enable_progress_bar=false", "runtime.workers=0", "runtime.threads=1"),
    *("recipe.epochs=2", "recipe.val_every=1", "recipe.batch_size=4", "recipe.augmentation.crop=64", "+ablation=seb_ecre"),
]
_DATA = {"coco": "voc_coco", "sbd": "voc_aug", "voc": "voc"}
_CHAIN = [
    *(f"chain.stages.{stage}.recipe=scenes" for stage in ("coco", "sbd", "voc")),
    "chain.stages.sbd.overrides=['recipe.epochs=8','recipe.lr=0.001']",
]


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    require("coco")
    return write_layouts(tmp_path_factory.mktemp("layouts"), each=8, val=4, size=64)


def typed(layouts: list[str], runs: Path) -> list[str]:
    # trainval's count is a key of the other chain's last stage alone
    return [*(one for one in layouts if "trainval" not in one), *_SMALL, f"paths.runs={runs}"]


def stages(chain: list[str]) -> Any:
    found = compose_config("chain", chain)[0].chain.stages
    return OmegaConf.to_container(found) if OmegaConf.is_config(found) else found


def plan(layouts: list[str], runs: Path, *overrides: str, chain: list[str] = _CHAIN) -> list[Stage]:
    return plan_chain(stages(chain), [*typed(layouts, runs), *overrides])


def test_a_stage_knows_its_images_and_starts_from_the_key_of_the_one_before(layouts: list[str], tmp_path: Path) -> None:
    stages = plan(layouts, tmp_path)
    assert [stage.name for stage in stages] == ["coco", "sbd", "voc"]
    assert [stage.images for stage in stages] == [24, 16, 8]
    assert [stage.epochs for stage in stages] == [2, 8, 2]
    assert not any("init_from" in override for override in stages[0].overrides)
    for before, stage in itertools.pairwise(stages):
        assert stage.overrides[-1] == f"init_from={before.folder.key}"
    assert "data.coco_root" not in " ".join(stages[2].overrides)


def test_what_changes_a_stage_changes_every_key_after_it_and_none_before(layouts: list[str], tmp_path: Path) -> None:
    def keys(*overrides: str, chain: list[str] = _CHAIN) -> list[str]:
        return [stage.folder.key for stage in plan(layouts, tmp_path, *overrides, chain=chain)]

    usual = keys()
    assert len(set(usual)) == 3
    longer = keys(chain=[*_CHAIN[:3], "chain.stages.sbd.overrides=['recipe.epochs=9']"])
    assert [one == other for one, other in zip(usual, longer, strict=True)] == [True, False, False]
    assert not set(usual) & set(keys("seed=1"))
    last = keys(chain=[*_CHAIN, "chain.stages.voc.overrides=['recipe.lr=1e-4']"])
    assert [one == other for one, other in zip(usual, last, strict=True)] == [True, True, False]
    assert keys("data.minimum_pixels=10") == usual


def test_no_stage_is_scored_on_what_one_before_it_learns_from(layouts: list[str], tmp_path: Path) -> None:
    held_out = "chain.stages.voc.overrides=['held_out.share=0.5','held_out.seed=1000','seed=1000']"
    with pytest.raises(DataError, match=r"Stage coco learns from \d+ images that stage voc is scored on, e\.g\. "):
        plan(layouts, tmp_path, chain=[*_CHAIN, held_out])
    with pytest.raises(DataError, match=r"that stage voc is scored on, .*, or set stop\.epochs instead of stop\.patience"):
        plan(layouts, tmp_path, "stop.patience=1")
    alike = [f"chain.stages.{stage}.data=voc" for stage in ("coco", "sbd")]
    others = ("sbd", "coco", "minimum_pixels", "train_aug")
    own = [one for one in typed(layouts, tmp_path) if not any(key in one for key in others)]
    assert plan_chain(stages([*_CHAIN, *alike]), [*own, "stop.patience=1"])  # no stage learns from that part
    assert plan(layouts, tmp_path, "debug.val_is_train=true")  # asks for it


def test_the_chain_for_the_test_server_shares_all_but_the_last_stage(layouts: list[str], tmp_path: Path) -> None:
    usual = plan(layouts, tmp_path)
    # the last stage counts trainval, no train
    own = [one.replace("counts.train=", "counts.trainval=") for one in typed(layouts, tmp_path)]
    for_the_server = plan_chain(stages(["chain=three_stages_test", *_CHAIN]), own)
    assert [stage.folder.key for stage in usual[:2]] == [stage.folder.key for stage in for_the_server[:2]]
    assert usual[2].folder.key != for_the_server[2].folder.key
    assert for_the_server[2].images == 12
    assert "trained on its val" in for_the_server[2].data


@pytest.mark.parametrize("name", sorted(path.stem for path in (REPOSITORY / "conf" / "chain").glob("*.yaml")))
def test_every_chain_composes_with_its_own_recipes_at_falling_rates(layouts: list[str], tmp_path: Path, name: str) -> None:
    last = "trainval" if "test" in name else "train"
    own = [one.replace("counts.train=", f"counts.{last}=") for one in typed(layouts, tmp_path) if "recipe." not in one]
    planned = plan_chain(stages([f"chain={name}"]), own)
    rates = [describe_run(stage.overrides).recipe.lr for stage in planned]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == len(rates) == 3


@pytest.mark.parametrize(
    ("chain", "override", "says"),
    [
        ([], "recipe=voc", r"recipe=voc: each stage has its own recipe"),
        ([], "data=voc", r"data=voc: each stage has its own data"),
        ([], "data.rot=/x", r"data\.rot=/x: no stage's data have this key.*coco \(data=voc_coco\)"),
        (["chain.stages=null"], "seed=0", "chain.stages is empty"),
    ],
)
def test_an_override_that_no_stage_can_follow_is_refused(
    layouts: list[str], tmp_path: Path, chain: list[str], override: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=rf"(?s){says}"):
        plan(layouts, tmp_path, override, chain=[*(_CHAIN if not chain else []), *chain])


def test_planning_needs_no_torch(layouts: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom exfuse.__main__ import do\n"
        f"do(['chain', 'plan=true', *{_CHAIN!r}, *{typed(layouts, tmp_path)!r}])\n"
        "heavy = {'torch', 'timm', 'pytorch_lightning', 'albumentations'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=patience(120))
    assert done.returncode == 0, done.stderr


def test_a_stage_that_began_with_a_model_that_is_no_longer_there_is_trained_anew(
    layouts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stage 1 was trained anew by hand: its key is the same, its weights are not."""
    stages = plan(layouts, tmp_path)
    trained: list[list[str]] = []

    def leave(number: int, checkpoint: str, **more: object) -> None:
        folder = stages[number].folder
        folder.path.mkdir(parents=True, exist_ok=True)
        (folder.path / "confusion.npz").touch()
        leave_record(folder, "done", scores=SCORES, checkpoint_sha256=checkpoint, **more)

    def trains(_: str, overrides: list[str], log: None, **__: object) -> Ended:
        number = next(number for number, stage in enumerate(stages) if f"data={_DATA[stage.name]}" in overrides)
        before = stages[number - 1].folder.record()
        assert before is not None
        leave(number, f"new {number}", init_from={"checkpoint": before.checkpoint_sha256})
        trained.append(overrides)
        return Ended(0, "", False)

    monkeypatch.setattr("exfuse.sweeps.chain.run_child", trains)
    leave(0, "old 0")
    leave(1, "old 1", init_from={"checkpoint": "old 0"})
    leave(2, "old 2", init_from={"checkpoint": "old 1"})
    run_chain(stages, Console())
    assert not trained
    leave(0, "new 0")
    run_chain(stages, Console())
    assert trained == [[*stage.overrides, "overwrite=true"] for stage in stages[1:]]
    run_chain(stages, Console())
    assert len(trained) == 2


class Chains:
    """Starts the chain as a user does.

    Attributes:
        runs: the store of its runs.
        stages: where each stage's run lies.
    """

    def __init__(self, layouts: list[str], runs: Path) -> None:
        self.runs, self.command = runs, ["src.chain", *_CHAIN, *typed(layouts, runs)]
        self.stages = {stage.name: stage.folder for stage in plan(layouts, runs)}

    def start(self) -> entry_points.Started:
        return entry_points.start(*self.command, environment=os.environ | {"COLUMNS": "300"}, merged=True)

    def wait_for_an_epoch_of(self, stage: str, chain: entry_points.Started, after: int = 0) -> int:
        """Wait until a stage has saved an epoch later than ``after`` nanoseconds; the process that trains it."""
        folder = self.stages[stage]
        for _ in range(30000):
            if folder.last.exists() and folder.last.stat().st_mtime_ns > after:
                return entry_points.holder(folder.root / f".{folder.key}.lock")
            assert chain.poll() is None, chain.communicate()[0]
            time.sleep(0.02)
        raise AssertionError(f"{stage} saved no epoch")

    def record(self, stage: str) -> dict[str, Any]:
        return json.loads((self.stages[stage].path / "record.json").read_text())

    def starts(self, stage: str) -> int:
        return len(list((self.stages[stage].path / "logs").glob("version_*")))


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return torch.load(folder.last, weights_only=True)["state_dict"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_chain_killed_in_stage_2_ends_with_the_weights_of_one_that_never_was(layouts: list[str], tmp_path: Path) -> None:
    whole = Chains(layouts, tmp_path / "whole")
    chain = whole.start()
    told, _ = chain.communicate(timeout=patience(900))
    assert chain.returncode == 0, told
    assert f"The model of the last stage: {whole.stages['voc'].path}" in told

    killed = Chains(layouts, tmp_path / "killed")
    shutil.copytree(whole.stages["coco"].path, killed.stages["coco"].path)  # the first stage is done
    chain = killed.start()
    os.kill(killed.wait_for_an_epoch_of("sbd", chain), signal.SIGKILL)  # the stage's training
    told, _ = chain.communicate(timeout=patience(120))
    assert chain.returncode == 1
    assert f"Stage 2 of 3, sbd, run {killed.stages['sbd'].key}: its process was ended by signal 9" in told
    assert "The same command goes on with this stage" in told
    assert "Traceback" not in told
    assert killed.record("sbd")["status"] == "killed"
    assert not killed.stages["voc"].path.exists()
    first_stage = killed.stages["coco"].last.stat().st_mtime_ns
    step = torch.load(killed.stages["sbd"].last, weights_only=True)["global_step"]
    assert 0 < step < 32

    if FULL:  # make test kills a sweep, whose trainings are started in the same way
        saved = killed.stages["sbd"].last.stat().st_mtime_ns
        chain = killed.start()
        training = killed.wait_for_an_epoch_of("sbd", chain, after=saved)
        chain.send_signal(signal.SIGKILL)  # the chain itself; its training must not outlive it
        chain.communicate()
        assert entry_points.ends(training)
        assert killed.record("sbd")["status"] in ("interrupted", "done")

    chain = killed.start()
    told, _ = chain.communicate(timeout=patience(900))
    assert chain.returncode == 0, told
    assert f"Stage 1 of 3, coco: run {killed.stages['coco'].key} is done." in told
    assert killed.stages["coco"].last.stat().st_mtime_ns == first_stage
    assert killed.starts("coco") == 1
    assert {name: folder.key for name, folder in killed.stages.items()} == {
        name: folder.key for name, folder in whole.stages.items()
    }
    for stage in ("coco", "sbd", "voc"):
        resumed, uninterrupted = weights(killed.stages[stage]), weights(whole.stages[stage])
        assert resumed.keys() == uninterrupted.keys()
        for name, value in uninterrupted.items():
            assert torch.equal(resumed[name], value), (stage, name)
        assert killed.record(stage)["scores"] == whole.record(stage)["scores"]
    assert killed.record("voc")["init_from"]["key"] == killed.stages["sbd"].key
    assert killed.record("voc")["init_from"]["checkpoint"] == killed.record("sbd")["checkpoint_sha256"]


@pytest.mark.slow
def test_a_stage_that_fails_stops_the_chain_with_its_reason(layouts: list[str], tmp_path: Path) -> None:
    chains = Chains(layouts, tmp_path / "runs")
    chains.command.append("recipe.batch_size=17")
    done = entry_points.run(*chains.command, timeout=patience(900))
    assert done.returncode == 1
    assert "Stage 2 of 3, sbd" in done.stderr
    assert "recipe.batch_size=17 is more than the 16 images" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ({"voc": None}, r"chain\.stages\.voc is not a stage"),
        ({"voc": {"data": "voc"}}, r"chain\.stages\.voc is not a stage: .*recipe"),
        ({"voc": {"data": "voc", "recipe": "scenes", "overrides": "recipe.lr=1"}}, r"chain\.stages\.voc .*overrides: .*array"),
        ({"voc": {"data": "voc", "recipe": "scenes", "epochs": 3}}, r"chain\.stages\.voc .*epochs"),
        ({}, r"chain\.stages is empty"),
    ],
)
def test_stages_that_are_none_are_named(stages: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        plan_chain(stages, [])
