"""What a study's table costs by the number of its records: 10 to 5,000 of made-up counts, read, resampled and written."""

import cProfile
import pstats
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from exfuse.analysis.rendering import Rendering
from exfuse.benchmarks.report import Measurement, hold, table_of_shares
from exfuse.config.overrides import describe_run
from exfuse.files import sha256
from exfuse.metrics.iou import iou_per_class, mean_iou, pixel_accuracy
from exfuse.store.description import RunDescription, to_plain
from exfuse.store.folder import COUNTS, RunFolder
from exfuse.store.record import DONE, Record, Scores
from exfuse.store.study_file import RECORDS, SCHEMA, RowFile, StudyFile, write_study
from exfuse.store.study_reading import load_study
from exfuse.store.variants import own
from exfuse.timing import median_ms

_RECORDS = (10, 100, 1_000, 5_000)
_SECONDS = "<= 5"
_LINEAR = "<= 1.25"  # times as long as in proportion
_CLASSES, _IMAGES, _PIXELS = ("ground", "boat", "cart", "tree"), 20, 400  # pixels of each class in an image
_ROWS = ("none", "product", "sum", "gate", "concat")  # options of SEB; each has a fifth of the records
_VARIED = 7  # different counts a row: making them is not what is measured


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    """Wall time of everything between study.json and the texts of a table, files hot."""
    lines, before = [], (0, 0.0)
    with tempfile.TemporaryDirectory() as scratch:
        folders = {}
        for number in _RECORDS:
            progress(f"writing {number:,} records")
            folders[number] = _write(Path(scratch) / str(number), number)
        for number, folder in folders.items():
            progress(f"a table of {number:,} records")
            tabulate = partial(_tabulate, folder)
            (taken,) = median_ms([tabulate], 3, 1, device)
            seconds, details = taken / 1e3, f"{_IMAGES} images and {len(_CLASSES)} classes each, {len(_ROWS)} rows, no figures"
            last = number == _RECORDS[-1]
            told = partial(_profile, tabulate)
            item = f"table of {number:,} records"
            lines.append(hold(item, seconds, None, "s", _SECONDS if last else "", details, profile=told))
            if before[0] >= 100:  # below, it is the same for any number
                least = before[1] * number / before[0]
                lines.append(
                    hold(f"{item} / in proportion to {before[0]:,}", seconds, least, "s", _LINEAR, details, profile=told)
                )
            before = number, seconds
    return lines


def _tabulate(folder: Path) -> None:
    Rendering(load_study(folder)).texts()


def _write(folder: Path, number: int) -> Path:
    rows: list[RowFile] = []
    for place, option in enumerate(_ROWS):
        run = describe_run([f"technique/seb={option}", "backbone.init=random", "trainer.precision=32-true"])
        keys: dict[int, str | None] = {seed: f"{place:08x}{seed:08x}" for seed in range(number // len(_ROWS))}
        for seed, key in keys.items():
            _write_run(RunFolder(folder / RECORDS, str(key)), run, seed, 0.6 + 0.03 * place)
        options = {technique.name: run.choices[f"technique/{technique.name}"] for technique in own()}
        rows.append(RowFile(f"row {place}", options, run.choices["decoder"], keys, rows[0].name if rows else None))
    write_study(folder, StudyFile(schema=SCHEMA, name=f"made_up_{number}", title="Made up", command="none", rows=rows))
    return folder


def _write_run(folder: RunFolder, run: RunDescription, seed: int, quality: float) -> None:
    noise = np.random.default_rng([seed % _VARIED, round(100 * quality)])
    right = noise.binomial(_PIXELS, quality, (_IMAGES, len(_CLASSES)))
    counts = np.zeros((_IMAGES, len(_CLASSES), len(_CLASSES)), np.int32)
    for true in range(len(_CLASSES)):
        counts[:, true, true], counts[:, true, true - 1] = right[:, true], _PIXELS - right[:, true]
    folder.path.mkdir(parents=True)
    np.savez(folder.path / COUNTS, counts=counts, ids=np.array([f"image{number}" for number in range(_IMAGES)]))
    total = counts.sum(0, dtype=np.int64)
    iou = dict(zip(_CLASSES, iou_per_class(total).tolist(), strict=True))
    folder.write(
        Record(
            key=folder.key,
            status=DONE,
            choices=run.choices,
            seed=seed,
            manifests={"train": "a" * 64, "val": "b" * 64},
            images={"train": 1, "val": _IMAGES},
            config=to_plain(replace(run, seed=seed)),
            confusion_sha256=sha256(folder.path / COUNTS),
            scored=Scores(float(mean_iou(total)), float(pixel_accuracy(total)), iou, _IMAGES, total.tolist()),
        )
    )


def _profile(call: Callable[[], object]) -> str:
    """Functions of one call by their own time."""
    profiler = cProfile.Profile()
    profiler.runcall(call)
    found = pstats.Stats(profiler).get_stats_profile().func_profiles
    taken = [(1e3 * one.tottime, f"{Path(one.file_name).name}:{one.line_number} {name}") for name, one in found.items()]
    return table_of_shares(taken, "function")
