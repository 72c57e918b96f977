"""Trainings that stop by a rule, that average their weights, and that run out of time; each killed and resumed to the bit."""

import pytest
import torch
from msgspec.structs import replace

from exfuse.composition.reading import read_split
from exfuse.data.subsets import divide
from exfuse.errors import ConfigError
from exfuse.runs import training
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.runs.plan import plan_run
from exfuse.store.description import NO_STOP
from exfuse.store.record import Stopped
from exfuse.store.tuning import is_pruned
from exfuse.tasks.finite import FiniteNumbers
from tests.sharing import amount
from tests.small_runs import only_run

PATIENT = ("recipe.epochs=4", "stop.patience=1", "stop.min_delta=0.9")  # the first look is the best, the second one too many
AVERAGED = ("recipe.ema_decay=0.5", "loss=sum")


class Killed(BaseException):
    """What no handler takes for a mistake."""


def killed_at(monkeypatch, step):
    """Let the next training end in the middle of this step, or while it is scored."""
    with monkeypatch.context() as patch:
        if step == "scoring":
            patch.setattr(training, "report_outcome", lambda *_: (_ for _ in ()).throw(Killed))
        else:
            usual = FiniteNumbers.on_train_batch_end

            def die(self, trainer, *rest):
                usual(self, trainer, *rest)
                if trainer.global_step == step:
                    raise Killed

            patch.setattr(FiniteNumbers, "on_train_batch_end", die)
        yield


def assert_equal(found, expected, where=""):
    """The same tensors and numbers, at any depth."""
    assert type(found) is type(expected), where
    if isinstance(found, torch.Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(found, dict):
        assert found.keys() == expected.keys(), where
        for name, value in found.items():
            assert_equal(value, expected[name], f"{where}/{name}")
    elif isinstance(found, (list, tuple)):
        for number, pair in enumerate(zip(found, expected, strict=True)):
            assert_equal(*pair, f"{where}/{number}")
    else:
        assert found == expected, where


def content(run):
    kept = torch.load(run.last, weights_only=True)
    mine = {name: state for name, state in kept["callbacks"].items() if name.startswith(("Stopping", "AveragedWeights"))}
    weights = {name: kept[name] for name in ("state_dict", "current_model_state", "averaging_state") if name in kept}
    return {**weights, "callbacks": mine, "optimizer": kept["optimizer_states"], "step": kept["global_step"]}


@pytest.mark.parametrize(
    ("rule", "stopped", "kills"),
    [
        ([*PATIENT, *AVERAGED], Stopped(2.0, 6, 4), [4, "scoring"]),
        (["stop.steps=5", "recipe.ema_decay=0.5"], Stopped(1.25, 5, 2), amount([], ["scoring"])),  # as the first is
        (["stop.epochs=1"], Stopped(1.0, 4, 2), []),
        (["held_out.share=0.2", "+stop.floors=[0.99]"], Stopped(1.0, 3, 2), []),
    ],
    ids=["patience", "steps", "epochs", "floors"],
)
def test_a_rule_stops_a_training_killed_and_resumed_or_not(train_small, tmp_path, monkeypatch, rule, stopped, kills):
    whole = train_small(*rule, runs=tmp_path / "whole")
    record = whole.record()
    assert record.done
    assert record.stopped == stopped
    assert content(whole)["step"] == stopped.steps
    assert is_pruned(record) == ("+stop.floors=[0.99]" in rule)
    assert len(record.looks) >= int(stopped.epochs)
    loaded = load_checkpoint(whole.path)[0].state_dict()  # by all that use a run: what was scored, the average
    assert_equal(dict(loaded), {name.removeprefix("model."): value for name, value in content(whole)["state_dict"].items()})
    for step in kills:
        runs = tmp_path / f"killed {step}"
        for _ in killed_at(monkeypatch, step):
            with pytest.raises(Killed):
                train_small(*rule, runs=runs)
        before = content(only_run(runs))
        assert before["step"] == (3 if step == 4 else stopped.steps)
        if step != "scoring":  # what is averaged lies beside the average
            assert any(
                not torch.equal(value, before["current_model_state"][name]) for name, value in before["state_dict"].items()
            )
        resumed = train_small(*rule, runs=runs)
        assert_equal(content(resumed), content(whole))
        again = resumed.record()
        assert (again.key, again.scores, again.stopped, again.health) == (
            record.key, record.scores, record.stopped, record.health
        )  # fmt: skip


def test_a_wall_clock_limit_interrupts_and_is_no_part_of_the_key(train_small, tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        train_small("recipe.epochs=1", "+trainer.max_time=00:00:00:00")
    run = only_run(tmp_path / "runs")
    assert run.record().status == "interrupted"
    assert "trainer.max_time=00:00:00:00 is over after step 1" in capsys.readouterr().err
    assert train_small("recipe.epochs=1").key == run.key
    assert run.record().done
    assert run.record().stopped is None


def test_what_a_rule_looks_at_is_held_out_of_train_and_never_val(compose_config, small_overrides):
    run = compose_config(*small_overrides, *PATIENT, "stop.share=0.25", "stop.seed=3")
    plan = plan_run(run)
    train, val = (read_split(run.data, name) for name in ("train", "val"))
    parts = divide(train, 0.25, 3)
    assert plan.splits["train"].items == parts["train"].items
    assert plan.splits["stop"].items == parts["val"].items
    assert plan.splits["val"].items == val.items
    assert plan.manifests["stop"] == parts["val"].manifest()
    searched = plan_run(compose_config(*small_overrides, *PATIENT, "held_out.share=0.2")).splits
    sets = [{item.id for item in searched[name].items} for name in ("train", "stop", "val")]
    assert set.union(*sets) == {item.id for item in train.items}  # a search's val is a part of train, and another one
    assert sum(map(len, sets)) == len(train)


def test_only_what_changes_a_training_is_in_its_key(compose_config, small_overrides):
    def key(*typed):
        return plan_run(compose_config(*small_overrides, *typed)).folder.key

    usual = key()
    assert key("recipe.ema_decay=null", "stop.patience=null") == usual
    assert key("recipe.val_every=2") == usual
    patient = {key(*PATIENT), key(*PATIENT, "recipe.val_every=2"), key(*PATIENT, "stop.share=0.3"), key("recipe.epochs=4")}
    assert len(patient | {usual, key("stop.epochs=1"), key("stop.steps=1"), key("recipe.ema_decay=0.9")}) == 8


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("stop.epochs=3", r"stop\.epochs=3: expected at most recipe\.epochs, 2\."),
        ("stop.share=0.3", r"stop\.share: this is of stop\.patience, which is null\."),
        ("stop.min_delta=0.1 stop.epochs=1", r"stop\.min_delta: this is of stop\.patience"),
        ("stop.patience=0", r"stop\.patience=0: expected a whole number of at least 1"),
        ("stop.share=1 stop.patience=1", r"stop\.share=1: expected a number above 0 and below 1"),
        ("stop.steps=-1", r"stop\.steps=-1: expected"),
        ("recipe.epochs=6 recipe.val_every=5 stop.patience=1", r"stop\.patience=1: 6 epochs validated every 5 are 1 look, "),
        ("recipe.epochs=6 stop.epochs=2 stop.patience=2", r"stop\.patience=2: 2 epochs"),
        ("recipe.ema_decay=0.9 trainer.precision=bf16-true", r"trainer\.precision=bf16-true: ema_decay=0\.9 averages"),
        ("+stop.every=2", r"stop\.every: set recipe\.val_every"),
        ("recipe.ema_decay=1", r"recipe\.ema_decay=1: expected a number above 0 and below 1"),
        ("recipe.ema_decay=0", r"recipe\.ema_decay=0: expected"),
        ("+trainer.max_time=5", r"trainer\.max_time=5: expected"),
        ("+trainer.max_time=1:00", r"trainer\.max_time=1:00: expected days, hours, minutes and seconds"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(compose_config, small_overrides, typed, says):
    with pytest.raises(ConfigError, match=says):
        compose_config(*small_overrides, *typed.split())


def test_a_rule_that_looks_takes_its_interval_from_the_recipe(compose_config, small_overrides):
    run = compose_config(*small_overrides, *PATIENT, "recipe.val_every=2")
    assert run.stop == replace(NO_STOP, patience=1, min_delta=0.9, every=2)
