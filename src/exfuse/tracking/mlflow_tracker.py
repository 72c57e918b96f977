"""MLflow as a tracker of runs: the only place that knows its client."""

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from numpy.typing import NDArray

from exfuse.tasks.prediction import PredictedImage
from exfuse.tracking.pictures import class_scores_table, strip
from exfuse.tracking.tracker import FAILURE, SUCCESS, RunInfo, Tracker

KEY = "exfuse.key"  # the tag by which a resumed run finds its own
_AT_ONCE, _LONGEST = 100, 500  # what MLflow takes of parameters in a request, and of a value's letters
_STATUS = {SUCCESS: "FINISHED", FAILURE: "FAILED"}


class MlflowTracker(Tracker):
    """A run of an MLflow experiment, found again by the run's key, so that a resumed run continues its own.

    Args:
        info, examples, timeout: see `Tracker`.
        uri: of the server or of a database, such as ``sqlite:///outputs/mlflow.db``; None for what MLflow's own environment
            says, and for that database where it says nothing.
        experiment: its name, made where it is not there.
    """

    place = "MLflow"

    def __init__(self, info: RunInfo, uri: str | None, experiment: str, examples: int, timeout: float) -> None:
        super().__init__(info, examples, timeout)
        self._uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('outputs/mlflow.db').resolve()}"
        self._experiment = experiment

    def open(self) -> None:
        """See `Tracker.open`."""
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # of its tables
        self._values: list[Metric] = []
        self._done, self._last, info = -1, 0, self._info
        places = None
        if self._uri.startswith("sqlite:///"):
            database = Path(self._uri.removeprefix("sqlite:///"))
            database.parent.mkdir(parents=True, exist_ok=True)
            places = (database.parent / "mlflow").resolve().as_uri()
        self._client = MlflowClient(tracking_uri=self._uri)
        known = self._client.get_experiment_by_name(self._experiment)
        experiment = known.experiment_id if known else self._client.create_experiment(self._experiment, places)
        earlier = self._client.search_runs([experiment], f"tags.`{KEY}` = '{info.key}'", max_results=1)
        run = earlier[0] if earlier else self._client.create_run(experiment, run_name=info.name, tags={KEY: info.key})
        self._run, self._had = run.info.run_id, run.data.metrics
        for name in run.data.metrics:  # what it has is not sent again: the same steps have the same values
            self._done = max(self._done, *(point.step for point in self._client.get_metric_history(self._run, name)))
        new = [(name, value) for name, value in info.parameters.items() if name not in run.data.params]
        parameters = iter(Param(name, str(value)[:_LONGEST]) for name, value in new)
        while some := list(islice(parameters, _AT_ONCE)):
            self._client.log_batch(self._run, params=some)
        tags = {"stage": info.stage, **({"study": info.study} if info.study else {}), "techniques": "+".join(info.tags)}
        self._client.log_batch(self._run, tags=[RunTag(name, value) for name, value in tags.items()])
        self._client.log_dict(self._run, dict(info.config), "config.json")

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker.log`."""
        self._do(lambda: self._log(values, step))

    def log_examples(self, examples: Sequence[PredictedImage], classes: Sequence[str], step: int) -> None:
        """See `Tracker.log_examples`: image, truth, prediction and errors side by side, in a file."""
        self._do(lambda: self._pictures(f"val/{step:08d}", examples, classes))

    def log_outcome(self, counts: NDArray[np.int64], examples: Sequence[PredictedImage], classes: Sequence[str]) -> None:
        """See `Tracker.log_outcome`."""
        self._do(lambda: self._client.log_text(self._run, class_scores_table(counts, classes), "final/classes.md"))
        self._do(lambda: self._pictures("final", examples, classes))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """See `Tracker.summarise`."""
        self._do(lambda: self._log(self._news(values), max(self._last, self._done + 1)))

    def close(self, exit_code: int) -> None:
        """See `Tracker.close`."""
        try:
            self._send()
        finally:
            self._client.set_terminated(self._run, _STATUS.get(exit_code, "KILLED"))

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        if step <= self._done:
            return
        self._last, now = max(self._last, step), int(1000 * time.time())
        numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
        self._values += [Metric(_name(name), value, now, step) for name, value in numbers.items()]
        if len(self._values) >= _AT_ONCE:
            self._send()

    def _news(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What MLflow does not have from an earlier telling of the same end."""
        return {name: value for name, value in values.items() if self._had.get(_name(name)) != value}

    def _send(self) -> None:
        values, self._values = self._values, []
        while values:
            self._client.log_batch(self._run, metrics=values[: 10 * _AT_ONCE])
            values = values[10 * _AT_ONCE :]

    def _pictures(self, place: str, examples: Sequence[PredictedImage], classes: Sequence[str]) -> None:
        for example in examples:
            self._client.log_image(self._run, strip(example, classes), f"{place}/{example.id.replace('/', '_')}.png")


def _name(name: str) -> str:
    """A value's name in the letters that MLflow takes."""
    return re.sub(r"[^/\w.\- :]", "_", name.replace("(", "").replace(")", ""))
