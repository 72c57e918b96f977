"""The seam to Plotly: figures as plain data, a colour a variant, the script packed for a page. Nothing else imports it."""

import base64
import gzip
import html
import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import plotly
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from exfuse.analysis.resampling import Interval
from exfuse.palette import VARIANTS, variant_place
from exfuse.store.study import StudyRow

Trace = go.Scatter
Chart = dict[str, Any]  # Plotly's data and layout; colours are CSS variables that the page resolves by its theme
_INK, _FAINT, _GRID = "var(--ink)", "var(--faint)", "var(--grid)"
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif'


@cache
def library() -> str:
    """Plotly's script, gzipped and in base64: 4.8 MB become 1.9, and a browser need not parse it before it has painted."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def library_name() -> str:
    """Name and version, for the page's footer."""
    return f"Plotly {plotly.__version__}"


def scatter(x: Sequence[Any], y: Sequence[Any], **settings: Any) -> go.Scatter:
    """Points or lines."""
    return go.Scatter(x=list(x), y=list(y), **settings)


def bars(
    lengths: Sequence[float], places: Sequence[int], colours: Sequence[str], beyond: Sequence[float], below: Sequence[float]
) -> go.Bar:
    """Bars from zero at places of `row_axis`, with what lies ``beyond`` and ``below`` their ends."""
    error = {"type": "data", "array": [*beyond], "arrayminus": [*below], "symmetric": False, "color": _FAINT, "thickness": 1.5}
    return go.Bar(x=[*lengths], y=[*places], orientation="h", marker={"color": [*colours]}, error_x=error)


def chart(traces: Sequence[go.Scatter | go.Bar], height: int, x_title: str, y_title: str = "", **layout: Any) -> Chart:
    """A chart in the page's style.

    Args:
        traces: of `scatter`.
        height: in pixels; the width is the page's to choose.
        x_title, y_title: of the axes, with units.
        layout: anything else of Plotly's layout.
    """
    axis = {"gridcolor": _GRID, "linecolor": _FAINT, "zerolinecolor": _FAINT, "tickcolor": _FAINT, "automargin": True}
    base = go.Layout(
        height=height,
        font={"family": _FONT, "size": 13, "color": _INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        hoverlabel={"bgcolor": "var(--paper)", "bordercolor": _FAINT, "font": {"color": _INK, "family": _FONT}},
        hovermode="closest",
        showlegend=False,
        xaxis={**axis, "title": {"text": x_title, "standoff": 10, "font": {"size": 13}}, "ticks": "outside", "ticklen": 4},
        yaxis={**axis, "title": {"text": y_title, "standoff": 10, "font": {"size": 13}}},
    )
    figure = go.Figure(list(traces), base)
    figure.layout.template = {}  # Plotly's own would repeat every default
    figure.update_layout(**layout)
    content: Chart = json.loads(figure.to_json())
    content["layout"].pop("template", None)
    return content


def escape(text: str) -> str:
    """Text of data in a chart, where Plotly would read tags."""
    return html.escape(text, quote=False)


def row_axis(names: Sequence[str]) -> dict[str, Any]:
    """A y axis that lists rows from top to bottom; the points' y are 0, 1, 2, ..."""
    return {
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": list(names),
        "range": [len(names) - 0.5, -0.5],
        "fixedrange": True,
        "zeroline": False,
        "ticks": "",
    }


def row_height(rows: int) -> int:
    """Height in pixels of a chart that lists so many rows."""
    return 70 + 34 * max(rows, 2)


def interval_traces(place: int, interval: Interval, colour: str, hover: str, clear: bool, scale: float) -> list[go.Scatter]:
    """An interval times ``scale`` at a place of `row_axis`: a line, and the estimate on it, hollow unless ``clear``."""
    described = {"hovertext": hover, "hoverinfo": "text"}
    ends = [scale * interval.low, scale * interval.high]
    marker = {"color": colour if clear else "var(--paper)", "size": 11, "line": {"color": colour, "width": 2.5}}
    return [
        scatter(ends, [place, place], mode="lines", line={"color": colour, "width": 3}, **described),
        scatter([scale * interval.estimate], [place], mode="markers", marker=marker, **described),
    ]


def interval_chart(
    traces: Sequence[go.Scatter], names: Sequence[str], intervals: Iterable[Interval], x_title: str, scale: float
) -> Chart:
    """Rows of `interval_traces` under one another, on an axis that holds zero and all ``intervals`` times ``scale``."""
    known = [0.0, *(scale * end for one in intervals for end in (one.low, one.high))]
    margin = 0.06 * (max(known) - min(known)) or 1.0
    zero = {"zeroline": True, "zerolinewidth": 1.5, "range": [min(known) - margin, max(known) + margin]}
    return chart(traces, row_height(len(names)), x_title, yaxis=row_axis(names), xaxis=zero)


# One colour a variant, the same in every chart, table and picture of a page, in light and dark.

# For a dark ground the darker of `VARIANTS` are lightened.
_DARK = ("#a3adb8", "#4ba3dd", "#f0b429", "#2bbf91", "#ee7733", "#8fd0f5", "#e39cc3")
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "x")
# the same shapes for HTML, which begins with a circle
_CLIPS = (
    "",
    "50% 0, 100% 50%, 50% 100%, 0 50%",
    "0 0, 100% 0, 100% 100%, 0 100%",
    "50% 0, 100% 100%, 0 100%",
    "33% 0, 67% 0, 67% 33%, 100% 33%, 100% 67%, 67% 67%, 67% 100%, 33% 100%, 33% 67%, 0 67%, 0 33%, 33% 33%",
    "50% 0, 62% 38%, 100% 38%, 69% 60%, 81% 100%, 50% 75%, 19% 100%, 31% 60%, 0 38%, 38% 38%",
    "20% 0, 50% 30%, 80% 0, 100% 20%, 70% 50%, 100% 80%, 80% 100%, 50% 70%, 20% 100%, 0 80%, 30% 50%, 0 20%",
)
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_BAND = 0.13  # opacity of a band over seeds; chosen


class RowStyle:
    """How a variant is drawn: its colour as a CSS variable, and by what it differs from others of the same colour.

    Attributes:
        colour, band: CSS values, defined for both themes by `css_variables`.
        symbol, dash: names of Plotly's.
        swatch: CSS of a small sign in text: its colour in the shape of ``symbol``.
    """

    def __init__(self, place: int) -> None:
        colour, turn = variant_place(place)
        self.colour = f"var(--v{colour})"
        self.band = f"var(--v{colour}-band)"
        self.symbol = _SYMBOLS[turn % len(_SYMBOLS)]
        clip = _CLIPS[turn % len(_CLIPS)]
        self.swatch = f"background: {self.colour}" + (f"; border-radius: 0; clip-path: polygon({clip})" if clip else "")
        self.dash = _DASHES[turn % len(_DASHES)]


def looks(rows: Sequence[StudyRow]) -> dict[str, RowStyle]:
    """The look of each row by its name, in the order of the table."""
    return {row.name: RowStyle(place) for place, row in enumerate(rows)}


def css_variables(dark: bool) -> str:
    """Definitions of every colour that a `RowStyle` names."""
    lines = []
    for place, colour in enumerate(_DARK if dark else VARIANTS):
        red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
        lines.append(f"--v{place}: {colour}; --v{place}-band: rgba({red}, {green}, {blue}, {_BAND});")
    return " ".join(lines)
