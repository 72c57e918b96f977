"""How every figure looks and how it is saved: colour-blind-safe, and the same bytes each time."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from rich.cells import cell_len

from exfuse.analysis import letters
from exfuse.analysis.resampling import Interval
from exfuse.errors import plural
from exfuse.files import write_atomically
from exfuse.palette import variant_place

matplotlib.use("Agg")

# Okabe and Ito's colours, told apart with any kind of colour vision.
BLUE, ORANGE, GREEN, GREY, BLACK = "#0072B2", "#D55E00", "#009E73", "#8a8f94", "#202428"
_SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 9,
    "figure.titlesize": 9,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 8,
    "legend.fontsize": 7.5,
    "pdf.fonttype": 42,  # TrueType, embedded: journals refuse Type 3
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "study",  # ids in an SVG are random otherwise
    "svg.fonttype": "path",  # looks the same without the fonts
    "text.parse_math": False,  # a dollar in a name is a dollar
}
_MARKERS = ("o", "D", "s", "^", "P", "X")
_DATED: dict[str, dict[str, None]] = {".svg": {"Date": None}, ".png": {"Software": None}, ".pdf": {"CreationDate": None}}
MOST_ROWS = 40  # more cannot be read in one picture
SUFFIXES = (".svg", ".png")
ALL = (*SUFFIXES, ".pdf")
PAGE, COLUMN = 6.9, 3.3  # inches: of a page of a paper and of one of its two columns
OF_COLUMN = "_column"
WIDTHS = {"": PAGE, OF_COLUMN: COLUMN}  # by what files' names end in
Item = TypeVar("Item")


_DPI = 200  # of a PNG


@contextmanager
def look(**settings: Any) -> Iterator[None]:
    """Draw with this house's settings of matplotlib and with ``settings``, dots in their names replaced by two underscores."""
    more = {name.replace("__", "."): value for name, value in settings.items()}
    with matplotlib.rc_context(cast(Any, _SETTINGS | {"font.family": letters.families()} | more)):
        yield


def save(figure: Figure, path: Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Write ``path`` with each of ``suffixes``, atomically and without a date."""
    written = []
    with look(), letters.letters_told(path.name):
        fix_layout(figure)
        for suffix in suffixes:
            target = path.with_suffix(suffix)
            metadata = _DATED[suffix]

            def write(scratch: Path, metadata: dict[str, None] = metadata) -> None:
                figure.savefig(scratch, dpi=_DPI, metadata=metadata, facecolor="white")

            write_atomically(target, write)
            written.append(target)
    return written


def fix_layout(figure: Figure) -> None:
    """Lay the figure out now and never again: not for each format, nor after positions were read."""
    if (engine := figure.get_layout_engine()) is not None:
        figure.set_dpi(_DPI)  # letters have other widths at other resolutions
        engine.execute(figure)
        figure.set_layout_engine(None)  # not "none": with that, matplotlib draws once more for every file


def draw_interval(axes: Axes, place: int, interval: Interval, colour: str, decided: bool, scale: float) -> None:
    """An interval, times ``scale``, at y = ``place``: a line, and the estimate on it, filled if it is decided, else hollow."""
    axes.plot([scale * interval.low, scale * interval.high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
    axes.plot(scale * interval.estimate, place, "o", color=colour, mfc=colour if decided else "white", mew=1.6, markersize=6.5)


def decided_handles() -> list[Line2D]:
    """Of a legend: what filled and hollow marks mean."""
    told = {"adjusted p < 0.05": GREY, "not decided": "white"}
    return [Line2D([], [], color=GREY, marker="o", mfc=face, mew=1.6, linewidth=2, label=label) for label, face in told.items()]


def marker(place: int) -> str:
    """Of a study's row, by its place: told apart from others of the same colour."""
    return _MARKERS[variant_place(place)[1] % len(_MARKERS)]


def width_of(names: Iterable[str]) -> float:
    """Inches that the longest line of the names takes, at 8 points."""
    return 0.066 * max((cell_len(line) for name in names for line in name.splitlines()), default=0)


def wrapped(names: Mapping[str, str], width: float) -> dict[str, str]:
    """Names of rows in lines that leave room beside them in a figure so wide."""
    return {key: textwrap.fill(name, 40 if width > COLUMN else 16) for key, name in names.items()}


def title(figure: Figure, text: str) -> None:
    """Above the whole figure, in as many lines as it takes."""
    figure.suptitle(textwrap.fill(text, int(figure.get_figwidth() / 0.066)), parse_math=False)


def fit_below(axes: Axes) -> None:
    """So few numbers below the axes that none touches another, and what they are in as many lines as it takes."""
    inches = axes.get_position().width * axes.figure.get_figwidth()  # type: ignore[union-attr]
    axes.xaxis.set_major_locator(MaxNLocator(max(2, int(inches / 0.55))))
    lines = axes.get_xlabel().splitlines()
    axes.set_xlabel("\n".join(textwrap.fill(line, max(12, int(inches / 0.056))) for line in lines))


def shown_rows(rows: Sequence[Item]) -> Sequence[Item]:
    """The rows that a picture shows: the first `MOST_ROWS`."""
    return rows[:MOST_ROWS]


def left_out(rows: Sequence[object]) -> str:
    """What a title says of the rows that are not shown; empty if all are."""
    return f" (first {MOST_ROWS} of {plural(len(rows), 'row')})" if len(rows) > MOST_ROWS else ""


def list_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name horizontal rows from top to bottom at y = 0, 1, 2, ... with a faint line each."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", color="#e3e6e9", linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_axisbelow(True)
