import pytest
import torch

from exfuse.errors import ConfigError
from exfuse.models.classifier import ClassifierScores
from exfuse.tasks.classification import classification_losses


def cross_entropy(scores, shares):
    """-sum over classes of share * log softmax, averaged over the batch, written out."""
    logs = scores - scores.exp().sum(1, keepdim=True).log()
    return -(shares * logs).sum(1).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_every_classifier_has_its_smoothed_cross_entropy(smoothing):
    main, branch, label = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 2, 1, 0])
    losses = classification_losses(ClassifierScores(main, {"res2": branch}), label, smoothing)
    shares = torch.eye(3)[label] * (1 - smoothing) + smoothing / 3
    assert list(losses) == ["main", "res2"]
    torch.testing.assert_close(losses["main"], cross_entropy(main, shares))
    torch.testing.assert_close(losses["res2"], cross_entropy(branch, shares))


def test_shares_of_a_mixed_batch_are_targets_too():
    scores, shares = torch.randn(4, 3), torch.rand(4, 3).softmax(1)
    losses = classification_losses(ClassifierScores(scores, {}), shares, 0.0)
    torch.testing.assert_close(losses["main"], cross_entropy(scores, shares))


def test_a_weight_for_each_branch_is_asked_for_by_name(compose_config):
    from exfuse.composition.pretraining import build_classification_task, build_classifier_model

    config = compose_config("technique/ss=heads_removed", "~pretraining.branches.weights.res2")
    with pytest.raises(ConfigError, match=r"pretraining\.branches\.weights: res3, res4, res5: expected one for each of res2"):
        build_classification_task(config, build_classifier_model(config, 3), ("a", "b", "c"))


def test_the_total_is_the_heads_loss_and_the_weighted_branches(compose_config, monkeypatch):
    from exfuse.composition.pretraining import build_classification_task, build_classifier_model

    config = compose_config("technique/ss=heads_removed", "recipe.epochs=1")
    model = build_classifier_model(config, 3)
    task = build_classification_task(config, model, ("a", "b", "c"))
    logged = {}
    monkeypatch.setattr(task, "log", lambda name, value, **_: logged.update({name: value}))
    monkeypatch.setattr(task, "log_dict", logged.update)
    total = task.training_step({"image": torch.randn(4, 3, 64, 64), "label": torch.tensor([0, 1, 2, 0])}, 0)
    weights = {"main": 1.0, "res2": 0.1, "res3": 0.2, "res4": 0.3, "res5": 0.4}
    expected = sum(weight * logged[f"train/loss_{name}"] for name, weight in weights.items())
    torch.testing.assert_close(total.detach(), expected)
