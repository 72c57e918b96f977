"""What linear probes read from maps before and after SEB: an arrow for each row, level and question."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from exfuse.analysis.figures import style
from exfuse.store.probes import ProbeSummary

TITLES = {"class": "class of a cell", "border": "border or not"}


def draw(summaries: Sequence[ProbeSummary], title: str) -> Figure:
    """One panel a question; rows grouped by level, an open dot before SEB, a filled one after, bars of one standard deviation.

    Args:
        summaries: of all questions; each has the same rows and levels.
        title: names the data and the seeds.
    """
    questions = list(dict.fromkeys(one.question for one in summaries))
    places = list(dict.fromkeys((one.level, one.row) for one in summaries))
    with style.look():
        figure = Figure(figsize=(4.4 * len(questions) + 1.2, 1.2 + 0.26 * len(places)), layout="constrained")
        panels = figure.subplots(1, len(questions), squeeze=False, sharey=True)[0]
        for axes, question in zip(panels, questions, strict=True):
            chosen = {(one.level, one.row): one for one in summaries if one.question == question}
            style.list_rows(axes, [f"{row}  {level}" for level, row in places])
            for place, key in enumerate(places):
                if key in chosen:
                    _draw_one(axes, place, chosen[key])
            chance = 100 * max(one.chance for one in chosen.values())
            axes.axvline(chance, color=style.GREY, linewidth=0.8, linestyle=":")
            axes.annotate("guessing", (chance, -0.5), (2, 2), textcoords="offset points", fontsize=7, color=style.GREY)
            axes.set_title(TITLES[question], loc="left", pad=14)
            axes.set_xlabel("balanced accuracy of a linear classifier, %")
        handles = [
            panels[0].plot([], [], "o", mfc="white", color=style.BLUE, label="before SEB")[0],
            panels[0].plot([], [], "o", color=style.ORANGE, label="after SEB")[0],
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def _draw_one(axes: Axes, place: int, one: ProbeSummary) -> None:
    before, after = 100 * one.before, 100 * one.after
    if before != after:
        axes.annotate("", (after, place), (before, place), arrowprops={"arrowstyle": "->", "color": style.GREY, "lw": 1})
    axes.errorbar(before, place, xerr=100 * (one.before_sd or 0), fmt="o", mfc="white", color=style.BLUE, markersize=5, lw=1)
    if before != after:
        axes.errorbar(after, place, xerr=100 * (one.after_sd or 0), fmt="o", color=style.ORANGE, markersize=5, lw=1)
