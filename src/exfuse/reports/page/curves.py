"""Training curves: the mean over seeds of each variant, with a band from the lowest to the highest seed."""

import statistics
from collections.abc import Mapping, Sequence

from exfuse.reports.page.charts import Chart, RowStyle, Trace, chart, escape, scatter
from exfuse.reports.page.data import PageData, Section
from exfuse.store.history import History, curve, metrics

_FIRST = ("val/miou", "val/pixel_accuracy", "train/loss_main")
_NAMES = {
    "val/miou": "mIoU on val (%)",
    "val/pixel_accuracy": "pixel accuracy on val (%)",
    "train/loss_main": "training loss of the scores",
    "train/loss_cross_entropy": "cross entropy of the scores in training",
    "train/loss": "training loss",
}
_PERCENT = ("val/miou", "val/pixel_accuracy")
_MOST = 120  # points of a curve; of more, neighbours are averaged. Chosen


def section(data: PageData) -> Section | None:
    """None where no finished run has a history."""
    histories = {name: by_seed for name, by_seed in data.histories.items() if by_seed}
    if not histories:
        return None
    chosen = _chosen(histories)
    if not chosen:
        return None
    charts = {f"curves-{place}": _draw(metric, histories, data) for place, metric in enumerate(chosen)}
    lacking = [row.title for row in data.study.rows if row.records and len(data.histories[row.name]) < len(row.records)]
    choices = [{"chart": f"curves-{place}", "name": _title(metric)} for place, metric in enumerate(chosen)]
    several = any(len(by_seed) > 1 for by_seed in histories.values())
    every = [values for by_seed in histories.values() for history in by_seed.values() for values in history.values()]
    single = "val/miou" not in chosen and any("val/miou" in values for values in every)
    content = {"single": single, "where": data.where, "choices": choices, "lacking": lacking, "several": several}
    return Section("curves", "Training curves", content, charts)


def why_none(data: PageData) -> str:
    """Why the finished runs leave no curve."""
    if not any(data.histories.values()):
        return "no logs of the runs were found when this page was made"
    return "no run was validated or logged twice, as in a training of one epoch: a single value is no curve, see the table"


def _chosen(histories: Mapping[str, Mapping[int, History]]) -> list[str]:
    """Scores and each part of the loss by itself, then one learning rate: its groups differ by a factor alone.

    What no run has twice is no curve. The whole loss is none either: it has other parts in other rows.
    """
    every = [history for by_seed in histories.values() for history in by_seed.values()]
    known = [name for name in metrics(every) if any(len(curve(history, name)) > 1 for history in every)]
    parts = any(name.startswith("train/loss_") for name in known)
    losses = ["train/loss"] if "train/loss" in known and not parts else []
    losses += [name for name in known if name.startswith("train/loss_") and name not in _FIRST]
    rates = [name for name in known if name.startswith("lr")][:1]
    return [name for name in _FIRST if name in known] + losses + rates


def _title(metric: str) -> str:
    if metric in _NAMES:
        return _NAMES[metric]
    if metric.startswith("train/loss_"):
        return f"auxiliary training loss: {metric.removeprefix('train/loss_').replace('_', ' ')}"
    return "learning rate" if metric.startswith("lr") else metric


def _draw(metric: str, histories: Mapping[str, Mapping[int, History]], data: PageData) -> Chart:
    scale = 100 if metric in _PERCENT else 1
    bands, lines_of = [], []
    for row in data.study.rows:
        by_seed = {seed: curve(history, metric) for seed, history in histories.get(row.name, {}).items()}
        steps, lines = common_steps([one for one in by_seed.values() if one])
        if not steps:
            continue
        look = data.looks[row.name]
        values = [[scale * value for value in line] for line in lines]
        bands += band(row.name, steps, values, look)
        lines_of.append(mean(row.name, escape(row.title), steps, values, look))
    # all bands first, so that no line lies under one
    return chart([*bands, *lines_of], 420, "optimiser step", escape(_title(metric)))


def band(name: str, steps: Sequence[float], lines: Sequence[Sequence[float]], look: RowStyle) -> list[Trace]:
    """From the lowest to the highest seed; nothing for one seed."""
    if len(lines) < 2:
        return []
    across = list(zip(*lines, strict=True))
    there_and_back = [*steps, *reversed(steps)]
    edge = [*map(max, across), *reversed([min(values) for values in across])]
    style = {"mode": "lines", "line": {"width": 0, "color": look.colour}, "fill": "toself", "fillcolor": look.band}
    return [scatter(there_and_back, edge, hoverinfo="skip", meta={"variant": name, "band": True}, **style)]


def mean(
    name: str, title: str, steps: Sequence[float], lines: Sequence[Sequence[float]], look: RowStyle, unit: str = "step"
) -> Trace:
    """The mean over seeds; ``unit`` of ``steps``."""
    across = list(zip(*lines, strict=True))
    means = [statistics.mean(values) for values in across]
    seeds = f", mean of {len(lines)} seeds" if len(lines) > 1 else ""
    hover = [
        f"{title}{seeds}<br>{unit} {step:g}: {value:.4g}" + (f" ({min(one):.4g} to {max(one):.4g})" if len(lines) > 1 else "")
        for step, value, one in zip(steps, means, across, strict=True)
    ]
    mode = "lines+markers" if len(steps) <= 20 else "lines"
    line = {"color": look.colour, "width": 2.2, "dash": look.dash}
    marker = {"size": 6, "symbol": look.symbol, "color": look.colour}
    described = {"hovertext": hover, "hoverinfo": "text", "meta": {"variant": name}, "name": title}
    return scatter(steps, means, mode=mode, line=line, marker=marker, **described)


def common_steps(curves: Sequence[Sequence[tuple[float, float]]]) -> tuple[list[float], list[list[float]]]:
    """The steps that all curves have, and each curve's values there; of more than `_MOST`, neighbours are averaged.

    Args:
        curves: of the seeds of one variant, (step, value) each.
    """
    if not curves:
        return [], []
    tables = [dict(one) for one in curves]
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    lines = [[table[step] for step in steps] for table in tables]
    size = -(-len(steps) // _MOST)
    if size <= 1:
        return list(steps), lines
    return _averaged(steps, size), [_averaged(line, size) for line in lines]


def _averaged(values: Sequence[float], size: int) -> list[float]:
    return [statistics.mean(values[start : start + size]) for start in range(0, len(values), size)]
