"""What is finished is shown again at once: no torch, and little of a processor's time."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig  # noqa: F401 - registers Hydra's resolvers before configs are composed

from exfuse.config.overrides import describe_run
from exfuse.files import sha256
from exfuse.metrics.iou import Areas
from exfuse.runs.plan import plan_run
from exfuse.store.description import label_of, to_plain
from exfuse.store.folder import COUNTS, RunFolder
from exfuse.store.record import Environment, Record, Scores
from tests.pace import patience, processor

ROWS = ("baseline", "ss", "ss_lr", "ss_lr_ecre", "ss_lr_seb", "ss_lr_seb_dap", "exfuse")
SMALL = ("trainer=cpu", "data.images.train=40", "data.images.val=20", "data.size=64")
# seconds of a processor: twice what is promised on a quiet machine, as others may share this one's caches and cores
SECOND_START, SCORES = 4.0, 2.0


def finish(row: str, seed: int, root: Path) -> RunFolder:
    """Leave what a finished run leaves, without a training."""
    planned = plan_run(describe_run([f"+ablation={row}", f"seed={seed}", f"paths.runs={root}/outputs/runs", *SMALL]))
    run, folder, splits, manifests = planned
    classes, images = list(splits["train"].classes), len(splits["val"])
    counts = np.stack([np.roll(np.diag(np.arange(len(classes))), ROWS.index(row) > image, 1) for image in range(images)])
    folder.path.mkdir(parents=True)
    np.savez_compressed(folder.path / COUNTS, counts=counts.astype(np.int32), ids=[item.id for item in splits["val"].items])
    scores = Scores.of(Areas.of_counts(counts), classes, counts.sum(0))
    record = Record(
        key=folder.key,
        status="done",
        name=run.name,
        label=label_of(run),
        choices=run.choices,
        seed=seed,
        manifests=manifests,
        images={name: len(split) for name, split in splits.items()},
        config=to_plain(run),
        environment=Environment(commit="a" * 40),
        scored=scores,
        confusion_sha256=sha256(folder.path / COUNTS),
    )
    folder.write(record)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every run of the paper's table 3, three seeds each."""
    root = tmp_path_factory.mktemp("finished")
    before = Path.cwd()
    os.chdir(root)
    try:
        for row in ROWS:
            for seed in range(3):
                finish(row, seed, root)
    finally:
        os.chdir(before)
    return root


def processor_seconds(folder: Path, *words: str, enough: float) -> tuple[float, str]:
    """Of the command in a process of its own, the better of two starts unless the first takes no more than ``enough``.

    Also what it printed; torch must not load.
    """
    code = (
        "import os, sys\nfrom exfuse.__main__ import main\ntry:\n    main()\n"
        "finally:\n    print('torch' in sys.modules, sum(os.times()[:2]), file=sys.stderr)"
    )
    found = list[float]()
    while len(found) < 2 and min(found, default=enough) >= enough:
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, timeout=patience(300)
        )
        assert done.returncode == 0, done.stderr
        torch, seconds = done.stderr.split()[-2:]
        assert torch == "False"
        found.append(float(seconds))
    return min(found), done.stdout


def test_a_finished_study_starts_again_in_little_time(finished: Path) -> None:
    rows = f"+ablation={','.join(ROWS)}"
    study = ("train", "-m", rows, "seed=0,1,2", f"paths.runs={finished}/outputs/runs", "sweep.missing=skip", *SMALL)
    processor_seconds(finished, *study, enough=math.inf)  # draws the figures
    seconds, printed = processor_seconds(finished, *study, enough=SECOND_START)
    assert "21 skipped" in printed
    assert seconds < processor(SECOND_START, seconds)


def test_the_scores_of_a_finished_run_are_there_at_once(finished: Path) -> None:
    runs = f"paths.runs={finished}/outputs/runs"
    seconds, printed = processor_seconds(finished, "train", "+ablation=exfuse", runs, *SMALL, enough=SCORES)
    assert "is already trained" in printed
    assert seconds < processor(SCORES, seconds)
    key = next((finished / "outputs" / "runs").glob("*/record.json")).parent.name
    seconds, printed = processor_seconds(finished, "runs", "show", key, runs, enough=SCORES)
    assert key in printed
    assert seconds < processor(SCORES, seconds)
