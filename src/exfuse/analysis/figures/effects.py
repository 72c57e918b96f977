"""Effects of a factorial study with their intervals: main effects, interactions and Shapley values."""

from matplotlib.figure import Figure

from exfuse.analysis.document import MINUS
from exfuse.analysis.effects import FactorialEffects
from exfuse.analysis.figures import style
from exfuse.analysis.table import list_effects
from exfuse.store.study import Study

_TITLES = {
    "main": "main effect: with minus without",
    "interaction": f"interaction: gain together, more (+) or less ({MINUS}) than apart",
    "Shapley": "Shapley value: share of the whole gain",
}


def draw(study: Study, effects: FactorialEffects, width: float = style.PAGE) -> Figure:
    """One panel a kind of effect, on one axis, ``width`` inches wide."""
    panels = {kind: [one for one in list_effects(effects) if one.kind == kind] for kind in _TITLES}
    panels = {kind: found for kind, found in panels.items() if found}
    heights = [len(found) + 1 for found in panels.values()]
    with style.look():
        figure = Figure(figsize=(width, 1.1 + 0.24 * sum(heights)), layout="constrained")
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (kind, found) in zip(grid, panels.items(), strict=True):
            axes.axvline(0, color=style.GREY, linewidth=1)
            for place, effect in enumerate(found):
                style.draw_interval(axes, place, effect.interval, style.BLUE, effect.found, study.metric.scale)
            style.list_rows(axes, [effect.techniques for effect in found])
            said = _TITLES[kind].partition(":")[0] if width <= style.COLUMN else _TITLES[kind]
            axes.set_title(said, loc="left", fontsize=8)
        separator = "\n" if width <= style.COLUMN else " "
        unit = f"{study.metric.points} of {study.metric.name}, 95 % interval"
        grid[-1].set_xlabel(f"{unit}{separator}(filled: adjusted p below 0.05)")
        style.title(figure, study.title)
    return figure
