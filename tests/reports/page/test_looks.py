"""Rows of a study look different from each other, in charts and beside their names."""

from exfuse.palette import VARIANTS
from exfuse.reports.page.charts import RowStyle


def test_rows_of_one_colour_differ_in_shape_beside_their_names_as_in_charts() -> None:
    styles = [RowStyle(place) for place in range(2 * len(VARIANTS))]
    assert len({style.colour for style in styles}) == len(VARIANTS)
    assert len({(style.colour, style.symbol) for style in styles}) == len(styles)
    assert len({style.swatch for style in styles}) == len(styles)
    assert all(("polygon" in style.swatch) == (style.symbol != "circle") for style in styles)
