"""W&B as a tracker of runs: the only place that knows wandb's runs, and mends the file of one that was killed."""

import os
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import wandb
from numpy.typing import NDArray

from exfuse.errors import ConfigError
from exfuse.palette import VOID
from exfuse.tasks.prediction import WRONG, PredictedImage
from exfuse.tracking.background import Background
from exfuse.tracking.tracker import RunInfo, Tracker

# set before wandb loads: it reports its own errors home, which prints and waits where there is no network
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")


# of curves by the beginning of their names: the axis, and what the summary keeps beside the last value
_CURVES = {"train/": ("step", "min"), "val/": ("epoch", "max"), "gradients/": ("step", "mean"), "lr-": ("step", "max")}
_FLUSHED = 0.25  # seconds until a value is on the disk; W&B's 15 would lose a run that is killed early
_GRACE = 5.0  # seconds
_DATA_DIR = "WANDB_DATA_DIR"
_SIDE = 512  # pixels, the longest side of a picture (chosen)


class WandbTracker(Tracker):
    """A W&B run whose id is the run's key, so that a resumed run continues its own.

    The optimiser's step is logged as ``step``, the axis of training curves; W&B's own count only grows. Offline, each start of
    a run leaves a folder of its own, and ``wandb sync FOLDER/wandb`` sends them in order as one run. Online, a run that cannot
    start within ``timeout`` seconds goes on offline, and one that loses its connection is kept on the disk; either is said
    once, with the command that sends it later. W&B asks its server before it takes a table, and where none answers it keeps
    none: what such a run ended with is told to an offline start of its own. Once started, W&B works in a thread of its own and
    training never waits for it.

    Args:
        info: of the run.
        project, entity, group: W&B's own.
        mode: ``offline`` or ``online``.
        timeout: seconds that W&B may take to answer at the start, and again to take what is left at the end.
        examples: see `Tracker`.
    """

    place = "W&B"

    def __init__(
        self,
        info: RunInfo,
        project: str,
        entity: str | None,
        group: str | None,
        mode: Literal["offline", "online"],
        timeout: float,
        examples: int,
    ) -> None:
        super().__init__(info, examples, 2 * timeout + _GRACE)  # twice: it may first have to take what was logged before
        self._project, self._entity, self._group, self._mode, self._answers = project, entity, group, mode, timeout
        self._run: wandb.Run | None = None
        self._first_step = self._last_step = 0
        self._places_data = self._online = False
        self._outcome: list[Callable[[Any], object]] = []

    def start(self) -> None:
        """See `Tracker.start`; W&B asks for no key: who has none is told how to log in."""
        self._mend_earlier_starts()
        # what tables hold waits there until it is sent: in the run's folder, not in the home of a node that comes and goes
        self._places_data = _DATA_DIR not in os.environ
        os.environ.setdefault(_DATA_DIR, str(self._folder / "data"))
        if self._mode == "online" and (why := self._start_online()):
            self._say(why)
        try:
            self.open()  # in this thread, as W&B wants it
            self._background = Background(self._say)
        except Exception as error:  # wandb raises all sorts, and none of them is worth a training
            self._say(error)

    def open(self) -> None:
        """See `Tracker.open`."""
        self._run = self._run or self._begin("offline")
        self._choose_axes(self._run)

    def later(self) -> str:
        """See `Tracker.later`."""
        online = " --include-online" if list(self._folder.glob("run-*")) else ""
        return f"wandb sync{online} {self._folder}"

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker.log`. Steps that W&B has from before an interruption are not sent again: they have the same values."""
        if step < self._first_step:
            return
        row = {**values, "step": step}
        if not any(name.startswith(beginning) for name in row for beginning, (axis, _) in _CURVES.items() if axis == "epoch"):
            row.pop("epoch", None)  # W&B joins what has one step: the next epoch's first would move a validation's point
        self._log(lambda: row, step)

    def log_examples(self, examples: Sequence[PredictedImage], classes: Sequence[str], step: int) -> None:
        """See `Tracker.log_examples`: images whose masks W&B's viewer switches on and off, with a slider over the steps."""

        def pictures() -> dict[str, Any]:
            # W&B shows the images of one key at one size
            shown = [example.at_most(_SIDE) for example in examples]
            height, width = np.max([example.truth.shape for example in shown], axis=0)
            return {"val/examples": [_masked(example.padded(int(height), int(width)), classes) for example in shown]}

        self._log(pictures, step)

    def log_outcome(self, counts: NDArray[np.int64], examples: Sequence[PredictedImage], classes: Sequence[str]) -> None:
        """See `Tracker.log_outcome`."""
        self._end_with(lambda run: run.log({"final/confusion": _confusion_chart(counts, classes)}, step=self._last_step))
        if examples:
            self._end_with(lambda run: run.log({"final/examples": _examples_table(examples, classes)}, step=self._last_step))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """See `Tracker.summarise`."""
        self._end_with(lambda run: run.summary.update(dict(values)))

    def finish(self, exit_code: int) -> None:
        """See `Tracker.finish`."""
        super().finish(exit_code)
        if self._online and self.failed and self._outcome:
            self._keep_outcome(exit_code)
        self._run = None
        if self._places_data:
            os.environ.pop(_DATA_DIR, None)

    def close(self, exit_code: int) -> None:
        """See `Tracker.close`."""
        assert self._run is not None
        self._run.finish(exit_code=exit_code)

    def _end_with(self, call: Callable[[Any], object]) -> None:
        self._outcome.append(call)
        self._tell(call)

    def _keep_outcome(self, exit_code: int) -> None:
        """Tell what the run ended with to an offline start, which `wandb sync` sends behind the one that was cut off."""
        try:
            wandb.teardown()  # its service would wait for the network
            run = self._begin("offline")
            for call in self._outcome:
                call(run)
            run.finish(exit_code=exit_code)
        except Exception as error:  # wandb raises all sorts, and none of them is worth a training
            self._say(error)

    def _start_online(self) -> Exception | None:
        """Start; or say why not, with nothing left of the attempt."""
        before = set(self._folder.glob("run-*"))
        try:
            wandb.setup(wandb.Settings(silent=True))
            if not wandb.login(prompt=False, verify=False):
                return ConfigError("no API key is configured (`wandb login` asks for one)")
            self._run = self._begin("online")
            self._online = True
            return None
        except Exception as error:  # wandb raises all sorts, and none of them is worth a training
            wandb.teardown()  # its service would hold the id of the run that failed
            for folder in set(self._folder.glob("run-*")) - before:
                shutil.rmtree(folder, ignore_errors=True)
            return error

    def _begin(self, mode: Any) -> Any:
        info = self._info
        return wandb.init(
            id=info.key,
            name=info.name,
            project=self._project,
            entity=self._entity,
            group=self._group,
            job_type=info.stage,
            tags=list(info.tags),
            config=dict(info.config),
            dir=info.folder,
            mode=mode,
            resume="allow",
            settings=wandb.Settings(
                silent=True,
                console="off",  # the folder has the output; progress bars would flood W&B's page
                init_timeout=self._answers,
                finish_timeout=self._answers,
                finish_timeout_raises=True,
                x_transaction_log_flush_interval=_FLUSHED,
            ),
        )

    def _choose_axes(self, run: Any) -> None:
        self._first_step = self._last_step = int(run.step)
        for axis in ("step", "epoch"):
            run.define_metric(axis, hidden=True)
        for beginning, (axis, kept) in _CURVES.items():
            run.define_metric(f"{beginning}*", step_metric=axis, summary=f"{kept},last")

    def _log(self, make: Callable[[], dict[str, Any]], step: int) -> None:
        self._last_step = last = max(step, self._last_step)  # W&B drops what comes with an earlier one
        self._tell(lambda run: run.log(make(), step=last))

    def _tell(self, call: Callable[[Any], object]) -> None:
        """Have W&B do something in its own time; a failure is said once and ends no training."""
        run = self._run
        self._do(lambda: call(run))

    @property
    def _folder(self) -> Path:
        return self._info.folder / "wandb"

    def _mend_earlier_starts(self) -> None:
        """Make what killed processes left such that `wandb sync` takes it, and then what follows."""
        for file in self._folder.glob("*run-*/*.wandb"):
            if not cut_to_whole_records(file):
                shutil.rmtree(file.parent, ignore_errors=True)


def _masked(example: PredictedImage, classes: Sequence[str]) -> wandb.Image:
    """An image with three masks: truth, prediction and where they differ."""
    names = {**dict(enumerate(classes)), WRONG: "wrong", VOID: "void"}
    masks = {"truth": example.truth, "prediction": example.prediction, "errors": example.errors()}
    return wandb.Image(
        example.image,
        caption=example.id,
        masks={name: {"mask_data": mask, "class_labels": names} for name, mask in masks.items()},
        classes=[{"id": id, "name": name} for id, name in names.items()],
    )


def _examples_table(examples: Sequence[PredictedImage], classes: Sequence[str]) -> wandb.Table:
    """One row an image, the worst first, so that the table opens where there is something to see."""
    scored = [(example, example.scores(classes)) for example in examples]
    scored.sort(key=lambda pair: (pair[1]["miou"] is None, pair[1]["miou"]))
    columns = ["miou", "pixel_accuracy", "worst"]
    rows = [
        [example.id, _masked(example.at_most(_SIDE), classes), *(scores[name] for name in columns)]
        for example, scores in scored
    ]
    return wandb.Table(columns=["id", "image", "mIoU", "pixel accuracy", "worst class"], data=rows)


def _confusion_chart(counts: NDArray[np.int64], classes: Sequence[str]) -> Any:
    """W&B's own heat map; in % of each true class' pixels, as counts of millions would not fit into its cells."""
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows = [
        [true, predicted, round(float(shares[row, column]), 1)]
        for row, true in enumerate(classes)
        for column, predicted in enumerate(classes)
    ]
    return wandb.plot_table(
        "wandb/confusion_matrix/v1",
        wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=rows),
        {name: name for name in ("Actual", "Predicted", "nPredictions")},
        {"title": "% of each true class' pixels"},
    )


# Mend the file of a W&B run whose process was killed: at a record that is cut short, `wandb sync` stops for good.

_MAGIC, _VERSIONED = b":W&B", 7  # bytes of the file's header
_BLOCK, _HEADER = 32768, struct.Struct("<IHB")  # a record lies in one piece or several, none across two blocks
_FULL, _LAST = 1, 4  # kinds of pieces that end a record


def cut_to_whole_records(path: Path) -> bool:
    """Cut a file in W&B's log format behind its last whole record; whether one is left.

    Args:
        path: a ``.wandb`` file that nobody writes any more. One of another format is left as it is.
    """
    data = path.read_bytes()
    if data[:4] != _MAGIC:
        return True
    end = _end_of_records(data)
    if end < len(data):
        os.truncate(path, end)
    return end > _VERSIONED


def _end_of_records(data: bytes) -> int:
    position = end = _VERSIONED
    while position + _HEADER.size <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER.size:  # too little for a header: padding
            position += left
            continue
        _, length, kind = _HEADER.unpack_from(data, position)
        position += _HEADER.size + length
        if kind == 0 or position > len(data):
            break
        if kind in (_FULL, _LAST):
            end = position
    return end
