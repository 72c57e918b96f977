"""The seam to Plotly: figures as plain data, and the library's script packed for a page. Nothing else imports plotly."""

import base64
import gzip
import json
from collections.abc import Iterable, Sequence
from typing import Any

import plotly
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

Trace = go.Scatter
Chart = dict[str, Any]  # Plotly's data and layout; colours are CSS variables that the page resolves by its theme
_INK, _FAINT, _GRID = "var(--ink)", "var(--faint)", "var(--grid)"
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif'


def library() -> str:
    """Plotly's script, gzipped and in base64: 4.8 MB become 1.9, and a browser need not parse it before it has painted."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def library_name() -> str:
    """Name and version, for the page's footer."""
    return f"Plotly {plotly.__version__}"


def points(x: Sequence[Any], y: Sequence[Any], **settings: Any) -> go.Scatter:
    """Points or lines."""
    return go.Scatter(x=list(x), y=list(y), **settings)


def chart(traces: Sequence[go.Scatter], height: int, x_title: str, y_title: str = "", **layout: Any) -> Chart:
    """A chart in the page's style.

    Args:
        traces: of `points`.
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


def span(values: Iterable[float]) -> list[float]:
    """A range of an axis that holds all values, and zero, with a margin."""
    known = [0.0, *values]
    margin = 0.06 * (max(known) - min(known)) or 1.0
    return [min(known) - margin, max(known) + margin]


def row_height(rows: int) -> int:
    """Height in pixels of a chart that lists so many rows."""
    return 70 + 34 * max(rows, 2)
