"""What the loop's benchmark times, on a run that takes seconds."""

from pathlib import Path

import pytest
import torch

from exfuse.benchmarks import loop
from exfuse.benchmarks.loop import EpochRates, measure_epochs
from tests.benchmarks import DEVICES


def test_the_ratio_forgives_a_machine_that_drifts():
    drifting = EpochRates(epochs=[90.0, 45.0, 22.5], bare=[125.0, 75.0, 25.0, 25.0])
    assert drifting.ratio == pytest.approx(0.9)


@pytest.fixture
def small_scenes(tmp_path: Path) -> list[str]:
    images = ["data.images.train=16", "data.images.val=2", "data.size=64", f"data.root={tmp_path / 'scenes'}"]
    recipe = ["recipe.batch_size=8", "recipe.augmentation.crop=64", "runtime.threads=1", "runtime.workers=0"]
    return ["trainer=cpu", "backbone.init=random", "trainer.enable_progress_bar=false", *images, *recipe]


@pytest.mark.parametrize("device", DEVICES)
def test_epochs_and_bare_steps_take_turns_and_train_for_real(device, compose_config, small_scenes, monkeypatch):
    monkeypatch.setattr(loop, "_BARE_STEPS", {device: 2})
    monkeypatch.setattr(loop, "_EPOCH_STEPS", {device: 1})
    place = [] if device == "cpu" else ["trainer=gpu", "trainer.enable_progress_bar=false"]
    written: list[int] = []
    save = torch.save

    def counted(content, file):
        written.append(content["global_step"])
        save(content, file)

    monkeypatch.setattr(torch, "save", counted)
    rates = measure_epochs(compose_config(*small_scenes, *place), epochs=3)
    assert len(rates.epochs) == 2
    assert len(rates.bare) == 3
    assert all(rate > 0 for rate in (*rates.epochs, *rates.bare))
    assert 0.05 < rates.ratio < 3
    assert written[:3] == [2, 4, 6]  # a checkpoint an epoch, as a run writes them


def test_the_target_is_held_against_the_recipes_own_cache(monkeypatch):
    configs = []

    def measured(config, epochs):
        configs.append(config)
        return EpochRates([94.0] * epochs, [100.0] * (epochs + 1))

    monkeypatch.setattr(loop, "measure_epochs", measured)
    first, *others = loop.measure("cpu", lambda _: None)
    assert [config.runtime.cache for config in configs] == ["auto", "disk", "none"]
    assert all(config.recipe.batch_size == 8 and config.trainer.accelerator == "cpu" for config in configs)
    assert (first.target, first.met, first.ratio) == (">= 0.95", False, pytest.approx(0.94))
    assert all(not other.target for other in others)


def test_photographs_where_they_are_and_scenes_where_not(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("VOC_ANIMALS", str(tmp_path))
    assert loop._choose_data()[0] == "voc_animals"
    monkeypatch.setenv("VOC_ANIMALS", str(tmp_path / "nowhere"))
    option, says = loop._choose_data()
    assert option == "scenes"
    assert "VOC_ANIMALS" in says
