"""What a user of W&B sees of a run, read from W&B's own files, and what happens where W&B cannot be reached."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from PIL import Image

from exfuse.errors import ConfigError
from exfuse.store.folder import RunFolder
from exfuse.store.record import Record
from exfuse.tasks.prediction import PredictedImage
from exfuse.tracking.tracker import RunInfo
from tests import entry_points
from tests.pace import patience
from tests.sharing import amount
from tests.small_runs import SMALL, only_run
from tests.tracking.wandb_files import Shown, read_only_start, read_starts
from tests.tracking.wandb_server import KEY, wandb_server

TrainSmall = Callable[..., RunFolder]
LOST = 24  # steps that a killed process may not have handed to the disk yet
EXTRA_SECONDS = patience(30)  # more than a tracker may cost a run that cannot reach W&B, on a busy machine too


def command(tmp_path: Path, *overrides: str) -> list[str]:
    places = [f"data.root={tmp_path}/scenes", f"paths.runs={tmp_path}/runs", f"paths.backbones={tmp_path}/backbones"]
    return ["src.train", *SMALL, *places, "logger=wandb", *overrides]


def environment(tmp_path: Path, **settings: str) -> dict[str, str]:
    """Without what this machine's user has set for W&B."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return own | {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "COLUMNS": "200"} | settings


def run(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = entry_points.run(*command, environment=env)
    print(done.stdout, done.stderr)  # pytest shows it if the test fails
    return done


def record_of(run: RunFolder) -> Record:
    record = run.record()
    assert record is not None
    return record


@pytest.fixture(scope="module")
def tracked_run(
    compose_config: Callable[..., Any], small_overrides: list[str], tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """One finished run that W&B tracked offline."""
    from exfuse.runs.training import train

    runs = tmp_path_factory.mktemp("tracked")
    options = ["logger=wandb", "logger.gradients=2", "logger.examples=3", "logger.examples_every=1"]
    overrides = [*small_overrides, *options, f"paths.runs={runs}", "+ablation=seb_ecre", "trainer.log_every_n_steps=1"]
    train(compose_config(*overrides))
    wandb.teardown()  # as at a process's end: W&B's own process writes what is left
    return only_run(runs)


@pytest.fixture(scope="module")
def shown(tracked_run: RunFolder) -> Shown:
    return read_only_start(tracked_run.path / "wandb")


def test_a_run_is_found_by_its_key_its_stage_and_its_techniques(tracked_run: RunFolder, shown: Shown) -> None:
    assert shown.run.run_id == tracked_run.key
    assert shown.run.job_type == "train"
    assert set(shown.run.tags) == {"ecre-subpixel_supervised", "seb-product"}
    assert shown.run.display_name == "seb_ecre, seed 0"
    assert shown.run.resumed is False
    assert shown.exit_code == 0


def test_the_config_can_be_filtered_by_plain_values_and_is_whole(tracked_run: RunFolder, shown: Shown) -> None:
    expected = {"ablation": "seb_ecre", "seed": 0, "technique_seb": "product", "technique_ss": "none", "data": "scenes"}
    expected |= {"backbone": "resnet18", "backbone_weights": "random", "recipe": "scenes", "epochs": 2, "crop": 64}
    expected |= {"variant": "ecre-subpixel_supervised+seb-product", "key": tracked_run.key, "stage": "train"}
    assert expected.items() <= shown.config.items()
    flat = {name: value for name, value in shown.config.items() if name not in ("config", "_wandb")}
    assert all(isinstance(value, str | int | float) for value in flat.values())
    config = record_of(tracked_run).config
    assert config["trainer"].pop("more") == {}  # W&B keeps no empty mapping
    assert shown.config["config"] == config


def test_curves_have_their_axes_and_stand_at_the_optimisers_steps(tracked_run: RunFolder, shown: Shown) -> None:
    assert [step for step, _ in shown.curve("train/loss")] == list(range(8))
    assert [epoch for epoch, _ in shown.curve("val/miou", "epoch")] == [0, 1]
    assert [step for step, _ in shown.curve("gradients/all")] == [0, 2, 4, 6]
    assert any(name.startswith("lr-") for row in shown.rows for name in row)
    axes = {name: metric.step_metric for name, metric in shown.metrics.items() if metric.step_metric}
    assert axes == {"train/*": "step", "val/*": "epoch", "gradients/*": "step", "lr-*": "step"}
    iou = record_of(tracked_run).scores.iou
    for name, value in iou.items():
        assert shown.curve(f"val/iou/{name}")[-1][1] == pytest.approx(value, abs=1e-6)


def test_gradient_norms_add_up(shown: Shown) -> None:
    row = next(row for row in shown.rows if "gradients/all" in row)
    parts = [value for name, value in row.items() if name.startswith("gradients/") and name != "gradients/all"]
    assert len(parts) >= 3  # encoder, embedding, decoder
    assert row["gradients/all"] == pytest.approx(sum(part**2 for part in parts) ** 0.5)


def test_the_summary_holds_best_and_last_and_the_final_scores_and_costs(tracked_run: RunFolder, shown: Shown) -> None:
    mious = [value for _, value in shown.curve("val/miou")]
    assert shown.summary["val/miou"] == {"max": max(mious), "last": mious[-1]}
    losses = [value for _, value in shown.curve("train/loss")]
    assert shown.summary["train/loss"] == {"min": min(losses), "last": losses[-1]}
    record = record_of(tracked_run)
    assert shown.summary["final/miou"] == record.scores.miou
    assert shown.summary["final/iou/background"] == record.scores.iou["background"]
    for name in ("parameters", "gigamacs", "latency_ms", "train_images_per_second", "peak_memory_mib"):
        assert shown.summary[f"cost/{name}"] == record.cost(name) > 0


def test_pictures_carry_masks_of_truth_prediction_and_errors_with_class_names(shown: Shown) -> None:
    pictures = [row["val/examples"] for row in shown.rows if "val/examples" in row]
    assert len(pictures) == 2  # validations
    assert pictures[0]["count"] == 3
    masks = pictures[0]["all_masks"]
    assert set(masks[0]) == {"truth", "prediction", "errors"}
    for name, mask in masks[0].items():
        ids = np.asarray(Image.open(shown.folder / "files" / mask["path"]))
        assert ids.shape[:2] == (64, 64)
        if name == "truth":
            assert 0 in ids
    labels = shown.config["_wandb"]["mask/class_labels"]["val/examples_wandb_delimeter_truth"]["value"]
    assert (labels["0"], labels["1"], labels["255"]) == ("background", "boat", "void")


def test_the_table_of_val_images_opens_with_the_worst(shown: Shown) -> None:
    table = json.loads(shown.artifacts["final/examples.table.json"].read_text())
    assert table["columns"] == ["id", "image", "mIoU", "pixel accuracy", "worst class"]
    scores = [row[2] for row in table["data"]]
    assert len(scores) == 3
    assert scores == sorted(scores)
    picture = table["data"][0][1]
    assert shown.artifacts[picture["path"]].is_file()
    assert set(picture["masks"]) == {"truth", "prediction", "errors"}
    assert all(shown.artifacts[mask["path"]].is_file() for mask in picture["masks"].values())


def test_the_confusion_chart_holds_shares_of_each_true_class(tracked_run: RunFolder, shown: Shown) -> None:
    panel = shown.config["_wandb"]["visualize"]["final/confusion"]
    assert panel["panel_config"]["panelDefId"] == "wandb/confusion_matrix/v1"
    table = json.loads((shown.folder / "files" / shown.summary["final/confusion_table"]["path"]).read_text())
    counts = np.array(record_of(tracked_run).scores.confusion)
    classes = list(record_of(tracked_run).scores.iou)
    drawn = {(true, predicted): share for true, predicted, share in table["data"]}
    assert len(drawn) == len(classes) ** 2
    for row, true in enumerate(classes):
        for column, predicted in enumerate(classes):
            assert drawn[true, predicted] == pytest.approx(100 * counts[row, column] / counts[row].sum(), abs=0.051)


def test_what_a_later_sync_needs_lies_in_the_runs_folder(tracked_run: RunFolder, shown: Shown) -> None:
    assert shown.artifacts
    assert all(path.is_relative_to(tracked_run.path) for path in shown.artifacts.values())
    assert "WANDB_DATA_DIR" not in os.environ
    assert (tracked_run.path / "logs" / "version_0" / "metrics.csv").is_file()  # as without W&B


@pytest.mark.parametrize(("error", "exit_code"), [(RuntimeError, 1), (KeyboardInterrupt, 255)])
def test_a_run_that_ends_early_says_how(
    error: type[BaseException], exit_code: int, train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise error("early")

    monkeypatch.setattr("exfuse.runs.training.report_outcome", fail)
    with pytest.raises(error):
        train_small("logger=wandb", "recipe.epochs=1", "logger.group=mine", runs=tmp_path / "runs")
    wandb.teardown()
    shown = read_only_start(only_run(tmp_path / "runs").path / "wandb")
    assert shown.exit_code == exit_code
    assert shown.run.run_group == "mine"
    assert "val/examples" not in shown.summary  # shown at every tenth validation alone


def test_csv_alone_knows_nothing_of_wandb() -> None:
    # timm imports wandb wherever it is installed; this project's own seam must not be among what csv loads
    assert entry_points.run("tests.tracking.csv_alone").returncode == 0


def test_an_unknown_mode_is_refused(train_small: TrainSmall) -> None:
    with pytest.raises(ConfigError, match=r"logger\.mode=onlin: expected offline or online"):
        train_small("logger=wandb", "logger.mode=onlin")


@pytest.mark.slow
def test_a_pretraining_shows_its_stage_and_the_accuracies_of_head_and_branches(
    small_overrides: list[str], tmp_path: Path
) -> None:
    from exfuse.config.overrides import describe_backbone
    from exfuse.runs.pretraining import pretrain

    small = [override for override in small_overrides if not override.startswith(("backbone.init", "recipe."))]
    recipe = {"epochs": 1, "val_every": 1, "batch_size": 8, "augmentation.size": 32, "evaluation.size": 32}
    recipe_overrides = [f"pretraining.recipe.{name}={value}" for name, value in recipe.items()]
    overrides = ["pretraining.data.minimum_side=4", f"paths.backbones={tmp_path}", "+ablation=ss_lr", "logger=wandb"]
    pretrain(describe_backbone([*small, *recipe_overrides, *overrides]))
    wandb.teardown()
    backbone = only_run(tmp_path)
    shown = read_only_start(backbone.path / "wandb")
    assert (shown.run.run_id, shown.run.job_type, shown.exit_code) == (backbone.key, "pretrain", 0)
    assert list(shown.run.tags) == ["ss", "lr"]
    record = record_of(backbone)
    assert record.backbone.accuracy.keys() == {"main", "res2", "res3", "res4", "res5"}
    for name, value in record.backbone.accuracy.items():
        assert shown.summary[f"final/accuracy_{name}"] == value
        assert shown.curve(f"val/accuracy_{name}", "epoch")
    assert shown.summary["cost/parameters"] == record.parameters


@pytest.mark.slow
def test_an_evaluation_is_a_run_of_its_own(tracked_run: RunFolder, tmp_path: Path) -> None:
    overrides = [f"checkpoint={tracked_run.path}", f"output={tmp_path}", "device=cpu", "logger=wandb", "logger.examples=1"]
    done = run(["src.evaluate", *overrides], environment(tmp_path))
    assert done.returncode == 0
    shown = read_only_start(tmp_path / "wandb")
    assert shown.run.run_id == f"{tracked_run.key}-generated_scenes_val-single_scale"
    assert (shown.run.job_type, shown.exit_code) == ("evaluate", 0)
    assert shown.config["trained_run"] == tracked_run.key
    assert shown.config["data"] == "generated scenes val"
    assert shown.config["technique_seb"] == "product"
    assert shown.summary["final/miou"] == record_of(tracked_run).scores.miou


@pytest.mark.slow
@pytest.mark.parametrize("study", amount([""], ["", "seb_fusion"]))
def test_jobs_of_a_multirun_are_runs_of_their_own(study: str, tmp_path: Path) -> None:
    swept = ["technique/seb=none,gate", "seed=0", "recipe.epochs=1", "logger.examples=2"]
    swept += [f"+study={study}"] if study else []
    places = [f"hydra.sweep.dir={tmp_path}/sweep", f"sweep.output={tmp_path}/study"]
    module, *usual = command(tmp_path)
    done = run([module, "-m", *usual, *swept, *places], environment(tmp_path))
    assert done.returncode == 0
    starts = [read_only_start(folder / "wandb") for folder in (tmp_path / "runs").iterdir() if folder.is_dir()]
    assert len({start.run.run_id for start in starts}) == 2
    by_option = {start.config["technique_seb"]: start for start in starts}
    assert by_option.keys() == {"none", "gate"}
    for option, start in by_option.items():
        assert start.run.run_group == start.config["study"] == (study or "study")  # the name of the sweep's folder
        assert list(start.run.tags) == (["baseline"] if option == "none" else [f"seb-{option}"])
        assert start.exit_code == 0
        record = record_of(RunFolder(tmp_path / "runs", start.run.run_id))
        assert start.summary["final/miou"] == record.scores.miou
        assert start.config["config"]["technique"] == record.config["technique"]
        table = json.loads((start.folder / "files" / start.summary["final/examples"]["path"]).read_text())
        assert len(table["data"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("trouble", amount(["wrong key", "no key"], ["refused", "wrong key", "no key"]))
def test_who_cannot_reach_wandb_trains_all_the_same_and_is_told_once_how_to_sync(trouble: str, tmp_path: Path) -> None:
    overrides = ["logger.mode=online", "logger.timeout=5", "recipe.epochs=1"]
    with wandb_server(refuses=True) as server:
        settings = {"WANDB_BASE_URL": "http://127.0.0.1:9" if trouble == "refused" else server.url}
        if trouble != "no key":
            settings["WANDB_API_KEY"] = KEY
        started = time.monotonic()
        done = run(command(tmp_path, *overrides), environment(tmp_path, **settings))
        with_trouble = time.monotonic() - started
    assert done.returncode == 0
    trained = only_run(tmp_path / "runs")
    assert record_of(trained).status == "done"
    assert with_trouble - record_of(trained).seconds < 2 * EXTRA_SECONDS  # imports and drawing the scenes are in it
    told = [line for line in done.stderr.splitlines() if "W&B:" in line]
    assert len(told) == 1
    assert f"wandb sync {trained.path}/wandb" in told[0]
    assert ("wandb login" in told[0]) == (trouble == "no key")
    assert "Traceback" not in done.stderr
    shown = read_only_start(trained.path / "wandb")  # nothing is left of the attempt
    assert shown.folder.name.startswith("offline-run-")
    assert shown.summary["final/miou"] == record_of(trained).scores.miou
    assert shown.exit_code == 0


@pytest.mark.slow
def test_online_the_server_gets_what_the_record_holds(tmp_path: Path) -> None:
    with wandb_server() as server:
        done = run(
            command(tmp_path, "logger.mode=online", "recipe.epochs=1", "trainer.log_every_n_steps=1"),
            environment(tmp_path, WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY),
        )
    assert done.returncode == 0
    assert "W&B:" not in done.stderr
    trained = only_run(tmp_path / "runs")
    assert server.exits == {trained.key: 0}
    assert [row["_step"] for row in server.rows[trained.key]] == [0, 1, 2, 3]
    assert server.runs[trained.key]["jobType"] == "train"
    assert any("media/table/final/examples" in name for name in server.uploads)


@pytest.mark.slow
def test_a_network_lost_in_mid_training_costs_a_bounded_time(tmp_path: Path) -> None:
    overrides = ["logger.mode=online", "logger.timeout=5", "recipe.epochs=6"]
    with wandb_server() as server:
        settings = environment(tmp_path, WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY)
        training = entry_points.start(*command(tmp_path, *overrides), environment=settings)
        wait_for(tmp_path / "runs", "*/checkpoints/last.ckpt", training)
        server.stop()
        _, told = training.communicate()
    assert training.returncode == 0
    trained = only_run(tmp_path / "runs")
    record = record_of(trained)
    assert record.status == "done"
    ended = (trained.path / "record.json").stat().st_mtime
    assert time.time() - ended < EXTRA_SECONDS
    (line,) = [line for line in told.splitlines() if "W&B:" in line]
    assert f"wandb sync --include-online {trained.path}/wandb" in line
    _, shown = read_starts(trained.path / "wandb")  # what it ended with is told to a start of its own
    assert shown.summary["final/miou"] == record.scores.miou
    assert "final/examples.table.json" in shown.artifacts


@pytest.mark.slow
def test_a_killed_and_resumed_run_is_one_run_whose_steps_go_on(tmp_path: Path) -> None:
    overrides = ["recipe.epochs=4", "data.images.train=64", "recipe.batch_size=2", "trainer.log_every_n_steps=1"]
    overrides += ["logger.examples=0"]
    whole = command(tmp_path, *overrides)
    training = entry_points.start(*whole, environment=environment(tmp_path))
    wait_for(tmp_path / "runs", "*/checkpoints/last.ckpt", training)
    time.sleep(2.5)  # some steps into a later epoch, and longer than W&B keeps values from the disk
    training.send_signal(signal.SIGKILL)
    training.wait()
    assert run(whole, environment(tmp_path)).returncode == 0
    trained = only_run(tmp_path / "runs")
    first, second = read_starts(trained.path / "wandb")
    assert first.run.run_id == second.run.run_id == trained.key
    assert (first.exit_code, second.exit_code) == (None, 0)
    steps = [[step for step, _ in start.curve("train/loss")] for start in (first, second)]
    assert steps[0][0] == 0
    assert steps[1][0] % 32 == 0  # from an epoch's end
    assert 32 <= steps[1][0] <= steps[0][-1] + LOST
    assert steps[1] == list(range(steps[1][0], 4 * 32))
    again = dict(second.curve("train/loss"))
    for step, value in first.curve("train/loss"):
        assert again.get(step, value) == value  # steps that were lost give the same values again

    with wandb_server() as server:
        synced = subprocess.run(
            [sys.executable, "-m", "wandb", "sync", f"{trained.path}/wandb"],
            env=environment(tmp_path, WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY),
            timeout=patience(300),
        )
    assert synced.returncode == 0
    assert server.exits == {trained.key: 0}
    rows = server.rows[trained.key]
    own = [row["_step"] for row in rows]  # W&B counts on from what it has; curves have the optimiser's steps as their axis
    assert own == sorted(set(own))
    losses: dict[int, set[float]] = {}
    for row in rows:
        if "train/loss" in row:
            losses.setdefault(row["step"], set()).add(row["train/loss"])
    assert losses.keys() == {*steps[0], *steps[1]}
    assert all(len(values) == 1 for values in losses.values())


@pytest.mark.slow
@pytest.mark.parametrize("lost", amount([True], [True, False]))
def test_tables_arrive_by_a_later_sync(lost: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from exfuse.tracking.wandb_tracker import WandbTracker

    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    info = RunInfo(tmp_path, "key", "train", "name", "study", [], {"seed": 0})
    example = PredictedImage("one", np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8))
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        tracker = WandbTracker(info, "project", None, None, "online" if lost else "offline", 20, 1)
        tracker.start()
        tracker.log({"train/loss": 1.0}, 0)
        if lost:  # W&B asks its server before it takes a table, and waits for it
            monkeypatch.setattr(tracker, "_timeout", 1)
            server.stop()
        tracker.log_outcome(np.ones((2, 2), np.int64), [example], ["ground", "boat"])
        tracker.summarise({"final/miou": 0.5})
        tracker.finish(0)
        assert not server.tables
    wandb.teardown()
    with wandb_server() as server:
        synced = subprocess.run(
            [sys.executable, "-m", "wandb", "sync", "--include-online", f"{tmp_path}/wandb"],
            env=environment(tmp_path, WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY),
            timeout=patience(300),
        )
    assert synced.returncode == 0
    tables = {name: json.loads(sent[name]) for sent in server.tables.values() for name in sent if name.endswith("table.json")}
    assert [row[0] for row in tables["final/examples.table.json"]["data"]] == ["one"]
    assert tables["final/confusion_table.table.json"]["data"][0] == ["ground", "ground", 50.0]
    assert sum("media/images" in name for sent in server.tables.values() for name in sent) == 4  # the image and its masks
    assert {row["train/loss"] for row in server.rows["key"] if "train/loss" in row} == {1.0}
    assert json.loads(server.uploads["wandb-summary.json"])["final/miou"] == 0.5
    assert server.exits == {"key": 0}


def wait_for(folder: Path, pattern: str, process: entry_points.Started) -> None:
    deadline = time.monotonic() + patience(120)
    while not list(folder.glob(pattern)):
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)
