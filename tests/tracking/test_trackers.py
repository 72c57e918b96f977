"""What TensorBoard, MLflow and any logger of Lightning are told of a run, read back from what they wrote."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wandb
from PIL import Image
from pytorch_lightning.loggers import CSVLogger

from exfuse.config import search_path
from exfuse.runs.training import train
from exfuse.store.description import RunDescription
from exfuse.store.folder import RunFolder
from exfuse.store.history import merge_logs
from exfuse.tracking.loggers import lightning_logging
from exfuse.tracking.tracker import RunInfo, tracked
from tests.command import Command
from tests.conftest import REPOSITORY
from tests.pace import patience
from tests.small_runs import only_run
from tests.tracking.wandb_files import read_only_start

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no TensorBoard")
mlflow = pytest.importorskip("mlflow", reason="no MLflow")
TRACKED = (
    "logger=several",
    "logger.names=[tensorboard,mlflow]",
    *(f"logger.parts.{name}.{key}" for name in ("tensorboard", "mlflow") for key in ("examples=2", "examples_every=2")),
    *("recipe.epochs=2", "data.images.train=8", "trainer.log_every_n_steps=1"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trackers")


@pytest.fixture(scope="module")
def run(compose_config: Callable[..., RunDescription], small_overrides: list[str], place: Path) -> RunFolder:
    """One run that two trackers were told of at once."""
    more = (*TRACKED, f"logger.parts.mlflow.uri=sqlite:///{place}/mlflow.db", f"paths.runs={place}/runs")
    train(compose_config(*small_overrides, *more, "+ablation=seb"))
    return only_run(place / "runs")


def events(folder: Path) -> "event_accumulator.EventAccumulator":
    (written,) = {path.parent for path in folder.rglob("events.*")}
    everything = dict.fromkeys(("scalars", "images", "tensors"), 0)
    return event_accumulator.EventAccumulator(str(written), everything).Reload()


def test_tensorboard_has_curves_pictures_classes_as_text_and_settings_with_scores(run: RunFolder) -> None:
    found, record = events(run.path / "tensorboard"), run.record()
    assert record is not None
    assert record.scored is not None
    assert [path.name for path in (run.path / "tensorboard").iterdir()] == ["seb_seed_0"]
    curves = merge_logs(run.path)
    for name in ("train/loss", "val/miou"):
        told = {point.step: point.value for point in found.Scalars(name)}
        assert told == pytest.approx({step: values[name] for step, values in curves.items() if name in values}, rel=1e-5)
    (score,) = found.Scalars("final/miou")
    assert score.value == pytest.approx(record.scored.miou)
    tags = found.Tags()
    pictures = [tag for tag in tags["images"] if tag.startswith(("val/", "final/"))]
    assert len(pictures) == 4
    picture = found.Images(pictures[0])[0]
    assert max(picture.height, (picture.width - 3 * 4) / 4) == 64  # four of an image's size, three gaps between
    (text,) = found.Tensors("final/classes/text_summary")
    assert "| class | IoU % |" in text.tensor_proto.string_val[0].decode()
    settings = found.summary_metadata
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= settings.keys()
    assert b"technique_seb" in settings["_hparams_/session_start_info"].plugin_data.content


def test_mlflow_has_the_same_in_its_database(run: RunFolder, place: Path) -> None:
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{place}/mlflow.db")
    experiment = client.get_experiment_by_name("exfuse")
    (told,) = client.search_runs([experiment.experiment_id])
    record = run.record()
    assert record is not None
    assert record.scored is not None
    assert (told.data.tags["exfuse.key"], told.info.run_name, told.info.status) == (record.key, "seb, seed 0", "FINISHED")
    assert told.data.params["technique_seb"] == "product"
    assert told.data.metrics["final/miou"] == pytest.approx(record.scored.miou)
    assert told.data.metrics["cost/parameters"] == record.parameters
    for name in ("train/loss", "val/miou"):
        found = {point.step: point.value for point in client.get_metric_history(told.info.run_id, name)}
        assert found == pytest.approx({step: values[name] for step, values in merge_logs(run.path).items() if name in values})
    kept = Path(told.info.artifact_uri.removeprefix("file://"))
    assert {path.name for path in kept.iterdir()} == {"config.json", "final", "val"}
    assert len([*kept.glob("final/*.png")]) == 2
    assert "| class | IoU % |" in (kept / "final" / "classes.md").read_text()
    assert json.loads((kept / "config.json").read_text())["variant"] == "seb-product"
    strip = np.asarray(Image.open(next(kept.glob("final/*.png"))))
    assert strip.shape[1] % 4 == 0  # three gaps of four pixels between four pictures of one width
    assert (strip[:, strip.shape[1] // 4 - 3 : strip.shape[1] // 4 + 1] == 255).all()


def test_a_finished_run_is_sent_afterwards_and_again_adds_nothing(run: RunFolder, place: Path, command: Command) -> None:
    database = f"sqlite:///{place}/mlflow.db"
    words = ("tracker=mlflow", f"tracker.uri={database}", "tracker.experiment=later", "tracker.examples=0", "device=cpu")
    for _ in range(2):
        status, told, complaint = command("runs", "log", run.path, *words)
        assert status == 0, complaint
        assert "mlflow has it" in told
    client = mlflow.MlflowClient(tracking_uri=database)
    (later,) = client.search_runs([client.get_experiment_by_name("later").experiment_id])
    (first,) = client.search_runs([client.get_experiment_by_name("exfuse").experiment_id])
    assert later.data.metrics == pytest.approx(first.data.metrics)
    assert later.data.params == first.data.params | {"stage": "train"}
    number = {one.info.experiment_id: len(client.get_metric_history(one.info.run_id, "train/loss")) for one in (first, later)}
    assert len({*number.values()}) == 1


def test_pictures_of_a_finished_run_are_predicted_anew(run: RunFolder, place: Path, command: Command) -> None:
    kept = run.path / "tensorboard"
    kept.rename(place / "told_while_it_trained")
    assert command("runs", "log", run.path, "tracker=tensorboard", "tracker.examples=2", "device=cpu")[0] == 0
    before, after = events(place / "told_while_it_trained"), events(kept)
    tags = [tag for tag in after.Tags()["images"] if tag.startswith("final/")]
    assert len(tags) == 2
    for tag in tags:
        assert before.Images(tag)[0].encoded_image_string == after.Images(tag)[0].encoded_image_string


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("tracker=csv",), "Choose wandb, tensorboard, mlflow or several"),
        (("tracker=tensorbord",), "Did you mean 'tensorboard'?"),
        ((), "tracker is not set"),
        (("tracker=several", "tracker.names=[comet]"), "there is no such part"),
        (("tracker=several", "tracker.names=[]"), "nobody would be told"),
    ],
)
def test_who_is_told_nothing_is_refused_in_a_line(run: RunFolder, command: Command, words: tuple[str, ...], says: str) -> None:
    status, _, complaint = command("runs", "log", run.path, *words)
    assert status == (1 if words else 2)
    assert says in complaint
    assert len(complaint.splitlines()) == 1


def test_a_tracker_that_fails_is_said_once_and_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(save_dir: str) -> CSVLogger:
        raise OSError("nobody is there")

    info = RunInfo(tmp_path, "0" * 16, "train", "x, seed 0", None, (), {"seed": 0})
    with tracked(lightning_logging(info, gradients=None, logger=broken, timeout=5.0).loggers) as trackers:
        trackers[0].log({"train/loss": 1.0}, 0)
    told = capsys.readouterr().err
    assert told.count("nobody is there") == 1
    assert f"exfuse runs log {'0' * 16}" in told


def test_who_cannot_be_told_has_nothing_and_the_run_is_named(run: RunFolder, place: Path, command: Command) -> None:
    (place / "full").write_text("no folder")
    words = ("tracker=mlflow", f"tracker.uri=sqlite:///{place}/full/mlflow.db", "tracker.examples=0", "device=cpu")
    status, told, complaint = command("runs", "log", run.path, *words)
    assert status == 1
    assert "has it" not in told
    assert f"mlflow was not told all of seb, seed 0 ({run.key})" in complaint


@pytest.mark.usefixtures("run")  # whose database it is: MLflow takes seconds to make one
def test_mlflow_takes_any_class_and_an_end_once(place: Path, tmp_path: Path) -> None:
    from exfuse.tracking.mlflow_tracker import MlflowTracker

    info = RunInfo(tmp_path, "0" * 16, "train", "x, seed 0", None, (), {"seed": 0})
    uri = f"sqlite:///{place}/mlflow.db"
    for _ in range(2):
        tracker = MlflowTracker(info, uri, "odd", 0, patience(60))
        tracker.start()
        tracker.log({"train/loss": 1.0}, 3)
        tracker.summarise({"final/iou/car, parked & driver's": 0.5})
        tracker.finish(0)
        assert not tracker.failed
    client = mlflow.MlflowClient(tracking_uri=uri)
    (told,) = client.search_runs([client.get_experiment_by_name("odd").experiment_id])
    assert (told.info.status, told.data.metrics["final/iou/car_ parked _ driver_s"]) == ("FINISHED", 0.5)
    assert len(client.get_metric_history(told.info.run_id, "final/iou/car_ parked _ driver_s")) == 1


def test_any_logger_of_lightning_is_told_by_one_file(
    run: RunFolder, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "logger").mkdir(parents=True)
    (tmp_path / "conf" / "logger" / "other.yaml").write_text(
        "# Lightning's own CSV files, as any other logger.\n"
        "_target_: exfuse.tracking.loggers.lightning_logging\n_partial_: true\ngradients: null\ntimeout: 20\n"
        "logger:\n  _target_: pytorch_lightning.loggers.CSVLogger\n  _partial_: true\n  save_dir: told\n  version: mine\n"
    )
    status, _, complaint = command("runs", "log", run.path, "tracker=other", "--config-dir", "conf")
    assert status == 0, complaint
    (table,) = (tmp_path / "told").rglob("metrics.csv")
    assert table.parent.name == "mine"
    assert table.parent.parent.name == "seb, seed 0"
    assert {"train/loss", "val/miou", "final/miou"} <= {*table.read_text().splitlines()[0].split(",")}
    assert "technique_seb: product" in (table.parent / "hparams.yaml").read_text()
    search_path.use([])


def test_a_resumed_run_shows_each_step_once_in_tensorboard(tmp_path: Path) -> None:
    """An earlier start logged three steps beyond its last checkpoint; these are trained, and told, again."""
    from exfuse.tracking.tensorboard_tracker import TensorBoardTracker

    info = RunInfo(tmp_path, "0" * 16, "train", "x, seed 0", None, (), {"seed": 0})
    for first, last in ((0, 6), (3, 8)):
        tracker = TensorBoardTracker(info, 0, 30.0)
        tracker.start()
        for step in range(first, last):
            tracker.log({"train/loss": float(10 * first + step)}, step)
        tracker.finish(0)
    told = [(point.step, point.value) for point in events(tmp_path / "tensorboard").Scalars("train/loss")]
    assert told == [(0, 0), (1, 1), (2, 2), (3, 33), (4, 34), (5, 35), (6, 36), (7, 37)]


def test_wandb_is_sent_a_finished_run_that_it_never_saw(run: RunFolder, command: Command) -> None:
    status, told, complaint = command("runs", "log", run.path, "tracker=wandb", "tracker.examples=2", "device=cpu")
    assert status == 0, complaint
    assert "wandb has it" in told
    wandb.teardown()  # as at a process's end: W&B's own process writes what is left
    start, record = read_only_start(run.path / "wandb"), run.record()
    assert record is not None
    assert record.scored is not None
    assert (start.run.run_id, start.run.display_name, start.exit_code) == (record.key, "seb, seed 0", 0)
    assert start.summary["final/miou"] == pytest.approx(record.scored.miou)
    curve = {step: values["train/loss"] for step, values in merge_logs(run.path).items() if "train/loss" in values}
    assert dict(start.curve("train/loss", "step")) == pytest.approx(curve)
    assert start.artifacts  # tables of pictures and confusion


def test_a_studys_tables_and_figures_stand_beside_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    study = REPOSITORY / "experiments" / "seb_fusion_camvid"
    for _ in range(2):  # the second time in the place of the first
        status, told, complaint = command("report", "tensorboard", study)
        assert status == 0, complaint
    assert "outputs/reports/tensorboard/seb_fusion_camvid" in told
    found = events(tmp_path / "outputs")
    (text,) = found.Tensors("seb_fusion/text_summary")
    assert text.tensor_proto.string_val[0].decode().rstrip() in (study / "table.md").read_text()
    assert "seb_fusion/ladder" in found.Tags()["images"]
    (tmp_path / "outputs" / "reports" / "tensorboard" / "seb_fusion_camvid" / "mine.txt").touch()
    assert "not written by exfuse" in command("report", "tensorboard", study)[2]
