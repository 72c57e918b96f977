"""A table as one HTML file that needs nothing else: light and dark, no script, no network."""

from collections.abc import Sequence

from jinja2 import Environment, StrictUndefined

from src.analysis.document import Table

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ tables[0].title }}</title>
<style>
:root { --ink: #1b1f24; --paper: #ffffff; --faint: #5b6570; --line: #d5dae0; --band: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --paper: #14181d; --faint: #9aa5b1; --line: #39424c; --band: #1c2229; }
}
body { color: var(--ink); background: var(--paper); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem;
  max-width: 90rem; }
h1 { font-size: 1.3rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .3rem .65rem; }
thead th { border-bottom: 1px solid var(--ink); font-weight: 600; }
tbody tr:nth-child(even) { background: var(--band); }
.left { text-align: left; } .right { text-align: right; } .centre { text-align: center; }
.state { color: var(--faint); font-style: italic; }
ul { color: var(--faint); font-size: .9rem; padding-left: 1.2rem; max-width: 60rem; }
pre { overflow-x: auto; background: var(--band); border: 1px solid var(--line); padding: .6rem .8rem; }
</style>
</head>
<body>
{% for table in tables %}
<h1>{{ table.title }}</h1>
{% for note in table.notes if note %}
<p>{{ note }}</p>
{% endfor %}
{% if table.rows %}
<div class="scroll">
<table>
<thead>
<tr>
{% for column in table.columns %}
<th scope="col" class="{{ column.align }}" title="{{ column.explanation }}">{{ column.header }}</th>
{% endfor %}
</tr>
</thead>
<tbody>
{% for row in table.cells() %}
<tr>
{% for cell in row %}
<td class="{{ table.columns[loop.index0].align }}{{ ' state' if cell.state }}">{{ cell.text }}
{%- if cell.marks %}<sup>{{ cell.marks | join }}</sup>{% endif %}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endif %}
{% if table.footnotes %}
<ul>
{% for footnote in table.footnotes %}
<li>{{ footnote.mark }} {{ footnote.text }}</li>
{% endfor %}
</ul>
{% endif %}
{% if table.command %}
<pre>{{ table.command }}</pre>
{% endif %}
{% endfor %}
</body>
</html>
"""
_TEMPLATE = Environment(
    autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
).from_string(_PAGE)


def render(tables: Sequence[Table]) -> str:
    """All tables on one page; headers explain themselves when pointed at."""
    return _TEMPLATE.render(tables=tables)
