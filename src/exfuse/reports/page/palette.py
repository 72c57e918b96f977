"""One colour a variant, the same in every chart, table and picture of a page, in light and dark."""

from collections.abc import Sequence

from exfuse.store.study import StudyRow

# Okabe and Ito's colours without black and yellow, told apart with any kind of colour vision; grey for the baseline. For a dark
# ground the darker ones are lightened.
_LIGHT = ("#5f6b76", "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7")
_DARK = ("#a3adb8", "#4ba3dd", "#f0b429", "#2bbf91", "#ee7733", "#8fd0f5", "#e39cc3")
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "x")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_BAND = 0.13  # opacity of a band over seeds; chosen


class Look:
    """How a variant is drawn: its colour as a CSS variable, and by what it differs from others of the same colour.

    Attributes:
        colour, band: CSS values, defined for both themes by `css_variables`.
        symbol, dash: names of Plotly's.
    """

    def __init__(self, place: int) -> None:
        colour, turn = place, 0
        if place >= len(_LIGHT):  # grey is the first row's alone
            turn, colour = divmod(place - 1, len(_LIGHT) - 1)
            colour += 1
        self.colour = f"var(--v{colour})"
        self.band = f"var(--v{colour}-band)"
        self.symbol = _SYMBOLS[turn % len(_SYMBOLS)]
        self.dash = _DASHES[turn % len(_DASHES)]


def looks(rows: Sequence[StudyRow]) -> dict[str, Look]:
    """The look of each row by its name, in the order of the table."""
    return {row.name: Look(place) for place, row in enumerate(rows)}


def css_variables(dark: bool) -> str:
    """Definitions of every colour that a `Look` names."""
    lines = []
    for place, colour in enumerate(_DARK if dark else _LIGHT):
        red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
        lines.append(f"--v{place}: {colour}; --v{place}-band: rgba({red}, {green}, {blue}, {_BAND});")
    return " ".join(lines)
