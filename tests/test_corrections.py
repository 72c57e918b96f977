from pathlib import Path

from tests.corrections import line, quick, slow

PAGE = Path(__file__).parents[1] / "docs" / "corrections.md"


def test_the_docs_show_what_was_and_what_is():
    """What is measured in seconds is measured here; the rest by ``python -m tests.corrections``."""
    page = PAGE.read_text().splitlines()
    table = page[page.index("|---|---:|---:|") + 1 :]
    measured = [line(what, *measure()) for what, measure in quick()]
    assert table[: len(measured)] == measured
    shown = [row.split("|")[1].strip() for row in table[len(measured) :] if row.startswith("|")]
    assert shown == [what for what, _ in slow(1)]
