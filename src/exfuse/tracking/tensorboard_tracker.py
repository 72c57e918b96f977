"""TensorBoard as a tracker of runs: the only place that knows its writer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from exfuse.files import folder_name
from exfuse.tasks.prediction import PredictedImage
from exfuse.tracking.pictures import class_scores_table, strip
from exfuse.tracking.tracker import Tracker

FOLDER = "tensorboard"
_FLUSHED = 10  # seconds until a value is on the disk


class TensorBoardTracker(Tracker):
    """Event files in the run's folder, under a name for people, so that ``tensorboard --logdir outputs`` compares runs.

    A resumed run writes a further file, by which TensorBoard forgets what an earlier start logged beyond the checkpoint.
    """

    place = "TensorBoard"

    def open(self) -> None:
        """See `Tracker.open`."""
        self._writer: SummaryWriter | None = None
        self._last = 0

    @property
    def _folder(self) -> Path:
        return self._info.folder / FOLDER / folder_name(self._info.name)

    def _write(self, step: int) -> SummaryWriter:
        if self._writer is None:
            again = step if self._folder.is_dir() else None
            self._writer = SummaryWriter(str(self._folder), purge_step=again, flush_secs=_FLUSHED)
        self._last = max(self._last, step)
        return self._writer

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker.log`."""
        self._do(lambda: self._scalars(values, step))

    def log_examples(self, examples: Sequence[PredictedImage], classes: Sequence[str], step: int) -> None:
        """See `Tracker.log_examples`: image, truth, prediction and errors side by side."""
        self._do(lambda: self._pictures("val", examples, classes, step))

    def log_outcome(self, counts: NDArray[np.int64], examples: Sequence[PredictedImage], classes: Sequence[str]) -> None:
        """See `Tracker.log_outcome`: the table of classes is text."""
        self._do(lambda: self._write(self._last).add_text("final/classes", class_scores_table(counts, classes), self._last))
        self._do(lambda: self._pictures("final", examples, classes, self._last))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """See `Tracker.summarise`: with what the run is, in the tab of hyperparameters."""
        self._do(lambda: self._summarise(values))

    def close(self, exit_code: int) -> None:  # noqa: ARG002 - TensorBoard knows none
        """See `Tracker.close`."""
        if self._writer is not None:
            self._writer.close()

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._write(step).add_scalar(name, value, step)

    def _pictures(self, place: str, examples: Sequence[PredictedImage], classes: Sequence[str], step: int) -> None:
        for example in examples:
            self._write(step).add_image(f"{place}/{example.id}", strip(example, classes), step, dataformats="HWC")

    def _summarise(self, values: Mapping[str, Any]) -> None:
        writer = self._write(self._last)
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}
        for part in hparams(self._info.parameters, dict.fromkeys(numbers, 0)):
            writer._get_file_writer().add_summary(part)
        self._scalars(numbers, self._last)
