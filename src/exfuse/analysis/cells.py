"""One cell of a study's table each: from a row and its comparison to text for people and numbers for programs."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from exfuse.analysis.comparisons import Comparison
from exfuse.analysis.document import EMPTY, EN_DASH, Cell, Value
from exfuse.analysis.frequent import ENOUGH, by_images, of_frequent
from exfuse.analysis.paper import departures
from exfuse.analysis.resampling import Interval
from exfuse.metrics.iou import Areas, mean_iou
from exfuse.store.costs import CostColumn
from exfuse.store.metric import MIOU, Metric, number
from exfuse.store.record import Scores
from exfuse.store.study import MISSING, Run, Study, StudyRow
from exfuse.store.study_file import setting_name
from exfuse.store.variants import Technique

MIXED, RANDOM, FEWER, UNSUPERVISED, ONE_SEED, AT_END, DIVERGED = "†", "‡", "§", "¶", "‖", "⊣", "◊"  # marks of footnotes
TICK, NOTHING, OTHER_DATA = "✓", EN_DASH, "other data"


class Measure(NamedTuple):
    """A column beside mIoU that says where a row gains: in some of the classes, or of the pixels.

    Attributes:
        areas: per image, (images, classes), of a finished run; None where they were not counted.
    """

    key: str
    header: str
    explanation: str
    areas: Callable[[Run], Areas | None]


def measures(study: Study) -> tuple[Measure, ...]:
    """Frequent classes where others are rare; interior, edge and boundary where the study asks for them."""
    delta = "and in parentheses the points above the row it builds on, with the 95 % interval"
    found = []
    if by_images(study):
        found.append(Measure("frequent", "frequent mIoU %", f"of classes in {ENOUGH} images or more, {delta}", of_frequent))
    if (radius := study.edge_radius) is not None:
        found += [
            Measure(key, header, f"{of}, {delta}", partial(_part_of, key, radius))
            for key, header, of in (
                ("interior", "interior mIoU %", f"of pixels farther than {radius} px from borders"),
                ("edge", f"edge mIoU % ({radius} px)", f"of pixels within {radius} px of a border"),
                ("boundary", "boundary IoU %", "mean boundary IoU"),
            )
        ]
    return tuple(found)


def _part_of(name: str, radius: int, run: Run) -> Areas | None:
    return run.boundary_areas.parts(radius)[name] if run.boundary_areas else None


def tick(row: StudyRow, technique: Technique) -> Cell:
    """Whether the row uses a technique; any option but the paper's is named."""
    option = row.options[technique.name]
    used = option != technique.baseline
    text = "" if not used else TICK if option == technique.paper else f"{TICK} {option}"
    blind = (
        technique.name == "ss" and used and any(record.weights_name in ("timm", "package") for record in row.records.values())
    )
    return Cell(text, {technique.name: option}, (UNSUPERVISED,) if blind else ())


def setting(row: StudyRow, name: str) -> Cell:
    """The value of a setting that the study varies, such as ``backbone.output_stride``."""
    values = {str(record.setting(name)) for record in row.records.values()}
    text = " or ".join(sorted(values)) or NOTHING
    return Cell(text, {setting_name(name): text if values else None}, state=not values)


def tuned(row: StudyRow, study: Study, key: str) -> Cell:
    """What the study's search settled for the row, marked where that lay at the end of the grid."""
    chosen = study.tuning.chosen.get(row.name, {}) if study.tuning else {}
    if key not in chosen:
        return Cell("search not finished", {key: None}, state=True)
    value = chosen[key]
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return Cell(text, {key: value}, (AT_END,) if study.tuning and key in study.tuning.at_end(row.name) else ())


def states(row: StudyRow) -> str:
    """Statuses of the runs that did not finish: ``failed 1, missing 2``; empty if all did."""
    counted = Counter(run.status for run in row.runs.values() if not run.done)
    return ", ".join(f"{status} {number}" for status, number in sorted(counted.items()))


def seeds(row: StudyRow) -> Cell:
    """``3``, or ``2 of 3: failed 1``."""
    done, planned = len(row.records), len(row.runs)
    values: dict[str, Value] = {"seeds_done": done, "seeds_planned": planned, "unfinished": states(row)}
    if done == planned > 0:
        return Cell(str(done), values)
    return Cell(f"{done} of {planned}: {states(row)}" if planned else "0", values, state=True)


def epochs(row: StudyRow) -> Cell:
    """Where a rule stopped the row's trainings, seed by seed: ``stopped at 16, 22 of 60``."""
    stopped = [record.stopped for record in row.records.values() if record.stopped]
    each = [one.stopped.epochs if one.stopped else one.setting("recipe.epochs") for one in row.records.values()]
    listed = ", ".join(f"{number:.4g}" for number in (each if stopped else dict.fromkeys(each)) if number is not None)
    of = " or ".join(dict.fromkeys(str(one.of) for one in stopped))
    return Cell(f"stopped at {listed} of {of}" if stopped else listed or NOTHING, {"epochs": listed}, state=not listed)


def score(row: StudyRow, study: Study, all_seeds: Sequence[int]) -> Cell:
    """Mean and standard deviation (n - 1) over the finished seeds, as people read the study's metric."""
    metric = study.metric
    key, scores = metric.key, row.scores(metric.scale)
    values: dict[str, Value] = {f"{key}_mean": None, f"{key}_sd": None}
    values |= {"miou_devkit": None} if study.counted else {}
    values |= {f"{key}_seed_{seed}": scores.get(seed) for seed in all_seeds}
    if not scores:
        statuses = {run.status for run in row.runs.values()} or {MISSING}
        return Cell(statuses.pop() if len(statuses) == 1 else states(row), values, state=True)
    values[f"{key}_mean"] = mean = statistics.fmean(scores.values())
    if study.counted:
        values["miou_devkit"] = statistics.fmean(100 * _devkit(record.scores) for record in row.records.values())
    text = number(mean, metric.digits)
    if len(scores) > 1:
        values[f"{key}_sd"] = spread = statistics.stdev(scores.values())
        text += f" ± {number(spread, metric.digits)}"
    return Cell(text, values, _marks(row, study))


def _devkit(scores: Scores) -> float:
    """By the devkit's definition, which records of earlier versions do not tell."""
    known = scores.devkit_miou
    return float(mean_iou(np.array(scores.confusion), devkit=True)) if known is None else known


def difference(row: StudyRow, study: Study, comparison: Comparison | None) -> Cell:
    """The row's score minus that of the row it builds on, with its interval."""
    values: dict[str, Value] = dict.fromkeys(("on", "difference", "low", "high", "p", "p_holm", "finding"))
    if comparison is None:
        return Cell("", values)
    values["on"] = comparison.base
    interval = comparison.interval
    if interval is None:
        return Cell(comparison.reason, values, state=True)
    scale = study.metric.scale
    points = {"difference": scale * interval.estimate, "low": scale * interval.low, "high": scale * interval.high}
    values |= points | {"p": interval.p_value, "p_holm": comparison.adjusted, "finding": "yes" if comparison.found else "no"}
    both = {*_marks(row, study), *_marks(study.row(comparison.base), study)}
    marks = [mark for mark, bears in ((MIXED, MIXED in both), (ONE_SEED, interval.seeds == 1)) if bears]
    text = f"{points_text(interval, study.metric)} vs {study.row(comparison.base).title}"
    return Cell(text, values, tuple(marks), strong=comparison.found)


def part(row: StudyRow, measure: Measure, comparison: Comparison | None) -> Cell:
    """A mean IoU of some classes or pixels in %, over the finished seeds, with its difference to the row that it builds on."""
    names = ("", "_sd", "_difference", "_low", "_high", "_p", "_p_holm")
    values: dict[str, Value] = {f"{measure.key}{name}": None for name in names}
    parts = [measure.areas(row.runs[seed]) for seed in row.records]
    totals = [areas.total() for areas in parts if areas is not None]
    if not parts or len(totals) < len(parts):
        return Cell("not measured" if parts else NOTHING, values, state=True)
    if not all(total.true.any() for total in totals):
        return Cell("no such pixel", values, state=True)
    scores = [100 * float(total.mean_iou()) for total in totals]
    values[measure.key] = mean = statistics.fmean(scores)
    values[f"{measure.key}_sd"] = statistics.stdev(scores) if len(scores) > 1 else None
    if comparison is None:
        return Cell(number(mean), values)
    if comparison.interval is None:
        return Cell(f"{number(mean)} ({comparison.reason})", values)
    interval = comparison.interval
    points = (100 * interval.estimate, 100 * interval.low, 100 * interval.high, interval.p_value, comparison.adjusted)
    values |= dict(zip([f"{measure.key}{name}" for name in names[2:]], points, strict=True))
    marks = (ONE_SEED,) if interval.seeds == 1 else ()
    return Cell(f"{number(mean)} ({points_text(interval)})", values, marks, strong=comparison.found)


def points_text(interval: Interval, metric: Metric = MIOU) -> str:
    """``+1.2 [+0.1, +2.3]``: the estimate and its interval, as people read the metric."""
    estimate, low, high = (metric.text(value, signed=True) for value in (interval.estimate, interval.low, interval.high))
    return f"{estimate} [{low}, {high}]"


def said(comparison: Comparison, metric: Metric) -> str:
    """``+1.2 [+0.1, +2.3], p 0.012``, or why there is none."""
    if comparison.interval is None or comparison.adjusted is None:
        return comparison.reason
    return f"{points_text(comparison.interval, metric)}, p {p_text(comparison.adjusted)}"


def adjusted_p(comparison: Comparison | None) -> Cell:
    """p by Holm's method."""
    if comparison is None or comparison.adjusted is None:
        return EMPTY
    return Cell(p_text(comparison.adjusted), strong=comparison.found)


def p_text(value: float) -> str:
    """Three decimals: simulations vouch for no more."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def health(row: StudyRow) -> Cell:
    """The worst run's highest loss as a share of guessing's, and the lowest correlation that SEB leaves; "diverged" above 1."""
    known = [record for record in row.records.values() if record.health is not None]
    diverged = sum(record.diverged for record in known)
    shares = [loss / record.guessing for record in known if record.health and (loss := record.health.highest_loss) is not None]
    correlations = [value for record in known if record.health for value in record.health.correlations.values()]
    values: dict[str, Value] = {
        "highest_loss_share": max(shares, default=None),
        "seb_correlation": min(correlations, default=None),
        "diverged": diverged if known else None,
    }
    if not shares and not correlations:
        return Cell(NOTHING, values, state=True)
    parts = [f"diverged {diverged} of {len(row.records)}"] if diverged else []
    parts += [number(max(shares), 2)] if shares else []
    parts += [f"r {number(min(correlations), 2)}"] if correlations else []
    return Cell(", ".join(parts), values, (DIVERGED,) if diverged else ())


def paper(row: StudyRow, study: Study) -> tuple[Cell, Cell]:
    """The paper's mIoU and how far ours lies from it, in points, where the protocols are the same."""
    empty: dict[str, Value] = {"paper": None, "paper_trust": None}
    if row.paper is None or study.paper is None:
        return Cell("", empty), Cell("", {"difference_to_paper": None})
    records = list(row.records.values())
    if not records or any(departures(record, study.paper) for record in records):
        text = OTHER_DATA if records else NOTHING
        return Cell(text, empty, state=True), Cell(text, {"difference_to_paper": None}, state=True)
    ours = 100 * statistics.fmean(record.scores.miou for record in records)
    trust = f" [{row.paper_trust}]" if row.paper_trust else ""
    ahead = ours - row.paper
    theirs = Cell(f"{row.paper:g}{trust}", {"paper": row.paper, "paper_trust": row.paper_trust})
    return theirs, Cell(number(ahead, signed=True), {"difference_to_paper": ahead})


def cost(row: StudyRow, base: StudyRow | None, column: CostColumn) -> Cell:
    """Mean of a cost over the finished seeds; with ``base``, the row it builds on, the difference to it in parentheses."""
    own, other = row.cost(column.key), base.cost(column.key) if base and column.differs else None
    values: dict[str, Value] = {column.key: own}
    if column.differs:
        values[f"{column.key}_difference"] = None if own is None or other is None else own - other
    if own is None:
        return Cell(NOTHING, values, state=True)
    scaled, digits = column.scale * own, column.digits
    if digits is None:
        digits = min(3, max(0, 2 - math.floor(math.log10(max(scaled, 1e-9)))))
    text = number(scaled, digits)
    return Cell(text if other is None else f"{text} ({number(column.scale * (own - other), digits, signed=True)})", values)


def _marks(row: StudyRow, study: Study) -> tuple[str, ...]:
    marks = []
    if {(row.name, seed) for seed in row.records} & study.deviating:
        marks.append(MIXED)
    if any(record.weights_name == "random" for record in row.records.values()):
        marks.append(RANDOM)
    if len(row.records) < len(row.runs):
        marks.append(FEWER)
    if any(record.diverged for record in row.records.values()):
        marks.append(DIVERGED)
    return tuple(marks)
