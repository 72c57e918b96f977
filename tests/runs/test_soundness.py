"""A run is what its record says: it ends as failed where its numbers are none, or before its last epoch."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from exfuse.errors import UserError
from exfuse.runs import training
from exfuse.tasks.finite import FiniteNumbers
from tests.runs.test_training import TrainSmall
from tests.small_runs import only_run


def test_a_loss_that_is_no_number_ends_the_run_as_failed_and_names_the_step(train_small: TrainSmall, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The loss is not finite at step \d, epoch 1\. .*recipe\.lr"):
        train_small("optimizer@recipe.optimizer=sgd", "recipe.lr=1e9", "recipe.gradient_clip=null")
    run = only_run(tmp_path / "runs")
    record = run.record()
    assert record is not None
    assert (record.status, record.scored) == ("failed", None)
    assert "not finite at step" in record.why
    assert record.diverged  # by which a tuned study passes over its rate
    assert not run.last.exists()


def test_a_weight_that_is_no_number_is_never_written_into_a_checkpoint(tmp_path: Path) -> None:
    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = torch.nn.Linear(2, 1)

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            return self.model(batch[0]).mean()

        def on_train_batch_end(self, *given: object) -> None:
            if given[-1] == 3:
                torch.nn.init.constant_(self.model.bias, float("inf"))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    saved = pl.callbacks.ModelCheckpoint(tmp_path, save_on_train_epoch_end=True)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=2, callbacks=[saved, FiniteNumbers()], **quiet)  # type: ignore[arg-type]
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 2)))
    with pytest.raises(UserError, match=r"^bias is not finite after step 4, epoch 1"):
        trainer.fit(Module(), data)
    assert not list(tmp_path.iterdir())


def test_a_training_that_stops_before_its_last_epoch_is_not_done(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stops(training.TrainingCosts):
        def on_train_epoch_end(self, trainer: pl.Trainer, *_: object) -> None:
            trainer.should_stop = True

    monkeypatch.setattr(training, "TrainingCosts", Stops)
    with pytest.raises(UserError, match="stopped after 1 of 2 epochs"):
        train_small()
    record = only_run(tmp_path / "runs").record()
    assert record is not None
    assert record.status == "failed"
    monkeypatch.undo()
    assert train_small().finished()  # goes on with the epoch that is missing


@pytest.mark.parametrize("broken", ["show_scores", "print_outcome"])
def test_whatever_is_shown_of_a_finished_run_never_undoes_it(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("closing tag '[/bold]' matches no open tag")

    monkeypatch.setattr(training, broken, fail)
    run = train_small("recipe.epochs=1")
    assert run.finished()
    assert "It is done, but what was to be shown of it was not" in capsys.readouterr().err
