"""What a record keeps of how a training went."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from exfuse.composition.segmentation import build_model
from exfuse.palette import VOID
from exfuse.tasks.health import TrainingHealth, level_correlations

RATES = [0.2, 0.6, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]  # warm-up ends with the third step, after which the rate falls
LOSSES = [9.0, 8.0, 3.0, 2.0, 1.0, 1.5, 0.5, 2.5, 0.1]  # of nine steps
PIXELS = [4, 4, 4, 2, 4, 1, 4, 3, 4]  # that are labelled
PER_EPOCH = 3


def mask(labelled: int) -> torch.Tensor:
    return torch.tensor([0] * labelled + [VOID] * (4 - labelled), dtype=torch.uint8).view(1, 2, 2)


def fit(losses, parts: int = 1, stop_after: int | None = None, minimised=None, recipe: float = 0.0) -> TrainingHealth:
    """Go through a training of nine steps, each divided into so many parts; killed and resumed after some epochs, if asked."""
    health = TrainingHealth()
    trainer = SimpleNamespace(
        global_step=0,
        callback_metrics={},
        optimizers=[SimpleNamespace(param_groups=[{"lr": RATES[0], "initial_lr": recipe}])],
        strategy=SimpleNamespace(reduce=lambda sums, **_: sums),
    )
    task = SimpleNamespace(device="cpu", first_gradients={"decoder": 1.0})
    for epoch in range(3):
        if epoch == stop_after:
            resumed = TrainingHealth()
            resumed.load_state_dict(health.state_dict())
            health = resumed
        health.on_train_epoch_start(trainer, task)
        for step in range(epoch * PER_EPOCH, (epoch + 1) * PER_EPOCH):
            for part in range(parts):
                trainer.callback_metrics["train/loss_main"] = torch.tensor(losses[step])
                if minimised is not None:
                    trainer.callback_metrics["train/loss_cross_entropy"] = torch.tensor(losses[step])
                    trainer.callback_metrics["train/loss_main"] = torch.tensor(minimised(losses[step]))
                if part == parts - 1:
                    trainer.global_step += 1
                    trainer.optimizers[0].param_groups[0]["lr"] = RATES[step + 1]
                health.on_train_batch_end(trainer, task, None, {"mask": mask(PIXELS[step])}, step)
        health.on_train_epoch_end(trainer, task)
    return health


def test_a_training_that_ends_within_its_warm_up_has_not_left_it_where_the_rate_falls() -> None:
    assert fit(LOSSES, recipe=max(RATES)).highest is not None
    assert fit(LOSSES, recipe=2.1 * max(RATES)).highest is None


def expected(epoch: int) -> float:
    steps = [step for step in range(epoch * PER_EPOCH, (epoch + 1) * PER_EPOCH) if step >= 2]
    return float(np.average([LOSSES[step] for step in steps], weights=[PIXELS[step] for step in steps]))


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("stop_after", [None, 1, 2])
def test_the_highest_epoch_after_warm_up_is_kept_however_steps_are_divided_and_whatever_was_resumed(parts, stop_after):
    found = fit(LOSSES, parts, stop_after).health({})
    assert found.highest_loss == pytest.approx(max(expected(epoch) for epoch in range(3)), rel=1e-12) == 3.0
    assert found.first_loss == LOSSES[0]
    assert found.gradient_norms == {"decoder": 1.0}
    assert found == fit(LOSSES, parts).health({})


def test_health_is_that_of_the_plain_cross_entropy_whatever_else_is_minimised():
    health, plain = fit(LOSSES, minimised=lambda loss: 100 - loss), fit(LOSSES)
    assert health.health({}) == plain.health({})


@pytest.mark.parametrize("place", [4, 8])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_counts_as_infinite(place, value):
    losses = [*LOSSES[:place], value, *LOSSES[place + 1 :]]
    assert fit(losses).health({}).highest_loss == math.inf


def test_within_warm_up_nothing_is_known(monkeypatch):
    monkeypatch.setattr("tests.tasks.test_health.RATES", [0.1 * step for step in range(1, 11)])
    assert fit(LOSSES).health({}).highest_loss is None


def test_correlations_are_pearsons_over_all_images(compose_config):
    assert level_correlations(build_model(compose_config("technique/seb=none"), 4).eval(), [torch.randn(3, 64, 64)]) == {}
    model = build_model(compose_config("technique/seb=product"), 4).eval()
    images = [
        torch.randn(3, *size, generator=torch.Generator().manual_seed(seed)) for seed, size in enumerate([(64, 96), (65, 33)])
    ]
    assert level_correlations(model, images) == {name: pytest.approx(1, abs=1e-9) for name in ("res2", "res3", "res4")}
    generator = torch.Generator().manual_seed(0)
    for parameter in model.embedding.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator)
    with torch.no_grad():
        pairs = [(maps, model.embedding(maps)) for maps in (model.encoder(image[None]) for image in images)]
    for place, (name, found) in enumerate(level_correlations(model, images).items()):
        one, other = (np.concatenate([pair[side][place].flatten().double().numpy() for pair in pairs]) for side in (0, 1))
        assert name == f"res{place + 2}"
        assert found == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-6)
        assert abs(found) < 0.99
