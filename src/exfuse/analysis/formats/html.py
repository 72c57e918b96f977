"""A table as one HTML file that needs nothing else: light and dark, no script, no network."""

from collections.abc import Sequence

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader, StrictUndefined

from exfuse.analysis.document import Table


def environment(*loaders: BaseLoader) -> Environment:
    """Jinja as every HTML file of this project uses it: text escaped, a wrong name an error.

    Args:
        loaders: of templates beside those of tables, ``table.html.jinja`` and ``standalone.html.jinja``.
    """
    return Environment(
        loader=ChoiceLoader([*loaders, PackageLoader("exfuse.analysis.formats")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


_TEMPLATE, _FOR_WORD = (environment().get_template(f"{name}.html.jinja") for name in ("standalone", "word"))


def render(tables: Sequence[Table]) -> str:
    """All tables on one page; headers explain themselves when pointed at."""
    return _TEMPLATE.render(tables=tables).lstrip()


def render_for_word(tables: Sequence[Table]) -> str:
    """All tables as word processors import them: sizes in points, borders at the cells, nothing that they do not know."""
    return _FOR_WORD.render(tables=tables).lstrip()
