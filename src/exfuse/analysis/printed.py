"""A study's table as a paper prints it: few columns, rows named by what they add, a mark for findings, short notes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from exfuse.analysis.cells import TICK, points_text
from exfuse.analysis.comparisons import ALPHA, Compared
from exfuse.analysis.document import EMPTY, Cell, Column, Table
from exfuse.analysis.footnotes.intervals import about_columns
from exfuse.analysis.footnotes.training import about_health, brief_data
from exfuse.errors import UserError, plural
from exfuse.store.study import Study, StudyRow

FOUND = "*"  # the mark of a finding
_OWN = ("variant", "miou", "score", "difference", "paper")  # columns that are printed unless others are chosen


def printed(study: Study, table: Table, compared: Compared, chosen: Sequence[str] = (), names: Mapping[str, str] = {}) -> Table:
    """The table for print.

    Rows are numbered, and a row's name says what it adds to which other row, so that neither ticks nor two names take room.
    An option that all rows with a technique share is named once, below.

    Args:
        study: of the table.
        table: of `exfuse.analysis.table.build_table`.
        compared: its comparisons.
        chosen: keys of columns, in order; none: name, what rows differ in, score, difference, and the paper's number if any.
        names: what rows and columns are called instead, by the row's name or the column's key.

    Raises:
        UserError: if a column or a name is of nothing that there is.
    """
    rows = {row.name: row for row in study.rows}
    if unknown := [name for name in names if name not in rows and all(name != column.key for column in table.columns)]:
        known = ", ".join([*rows, *(column.key for column in table.columns)])
        raise UserError(f"names.{unknown[0]}: neither a row nor a column of {study.name}. There are {known}.")
    table.choose(chosen)  # refuses what is no column
    shared = _shared_options(study)
    cells = [_row(study, row, one, compared, shared, names) for row, one in zip(study.rows, table.rows, strict=True)]
    usual = {study.metric.key: study.metric.name, **_HEADERS}
    columns = [replace(one, header=names.get(one.key, usual.get(one.key, one.header))) for one in table.columns]
    found = replace(table, columns=[_PLACE, *columns], rows=cells, notes=[])
    keys = list(chosen or [column.key for column in columns if _by_itself(column.key, study, found)])
    if "variant" in keys and any(row.on for row in study.rows):
        keys.insert(keys.index("variant"), _PLACE.key)
    return replace(found.choose(keys), brief=_brief(study, compared, shared, keys))


_SHORT = 18  # letters of a name that a figure has room for
_PLACE = Column("number", "", "by which other rows' names refer to it")
_HEADERS = {"variant": "", "difference": "\N{GREEK CAPITAL LETTER DELTA} [95 %]"}


def added(study: Study, row: StudyRow, base: StudyRow, shared: Mapping[str, str] = {}) -> list[str]:
    """The techniques in whose options a row differs from its base; empty where it differs in the decoder too, or in none.

    Args:
        shared: options, by technique, that go without saying beside the paper's.
    """
    changed = [known for known in study.techniques if row.options[known.name] != base.options[known.name]]
    names = []
    for known in changed:
        option = row.options[known.name]
        bare = base.options[known.name] == known.baseline and option in (known.paper, shared.get(known.name))
        gone = option == known.baseline
        names.append(f"without {known.short}" if gone else known.short if bare else f"{known.short} {spaced(option)}")
    return names if row.decoder == base.decoder else []


def _shared_options(study: Study) -> dict[str, str]:
    """By technique, the option of all rows that use it, if it is one and not the paper's."""
    found = {}
    for technique in study.techniques:
        used = {row.options[technique.name] for row in study.rows} - {technique.baseline}
        if len(used) == 1 and technique.paper not in used:
            found[technique.name] = used.pop()
    return found


def _row(
    study: Study,
    row: StudyRow,
    cells: Mapping[str, Cell],
    compared: Compared,
    shared: Mapping[str, str],
    names: Mapping[str, str],
) -> dict[str, Cell]:
    found = dict(cells)
    name = spaced(row.title)
    if row.on is not None:
        base, changes = f"({_number(study, row.on)})", _signed(study, row, shared)
        name = f"{base} {changes}" if changes else name if _one_base(study) else f"{name} over {base}"
    found["variant"] = replace(cells["variant"], text=names.get(row.name, name))
    found[_PLACE.key] = Cell(str(_number(study, row.name)))
    for technique in study.techniques:
        if technique.name in cells and row.options[technique.name] == shared.get(technique.name):
            found[technique.name] = replace(cells[technique.name], text=TICK)
    if "seeds" in cells:
        found["seeds"] = replace(cells["seeds"], text=cells["seeds"].text.partition(":")[0], state=False)
    one = compared.rows.get(row.name)
    if "difference" in cells and one is not None and one.interval is not None:
        marks = cells["difference"].marks + ((FOUND,) if one.found else ())
        found["difference"] = replace(cells["difference"], text=points_text(one.interval, study.metric), marks=marks)
    return found


def _signed(study: Study, row: StudyRow, shared: Mapping[str, str]) -> str:
    """``+ LR + SEB``: what a row adds to the one that it builds on; empty where that is no technique."""
    changes = added(study, row, study.row(row.on), shared) if row.on is not None else []
    return " ".join(change if change.startswith("without") else f"+ {change}" for change in changes)


def labels(study: Study) -> dict[str, str]:
    """What figures call each row: its title where all are short, else ``5 = 3 + SEB``, numbered as the printed table is."""
    if all(len(row.title) <= _SHORT for row in study.rows):
        return {row.name: row.title for row in study.rows}
    shared, found = _shared_options(study), {}
    for number, row in enumerate(study.rows, 1):
        changes = _signed(study, row, shared)
        found[row.name] = f"{number} = {_number(study, row.on or '')} {changes}" if changes else f"{number} {spaced(row.title)}"
    return found


def _one_base(study: Study) -> str | None:
    """The row that all others build on, if it is one."""
    bases = {row.on for row in study.rows if row.on is not None}
    return bases.pop() if len(bases) == 1 else None


def _number(study: Study, row: str) -> int:
    return [one.name for one in study.rows].index(row) + 1


def spaced(name: str) -> str:
    """A name of files and command lines as a name for people."""
    return name.replace("_", " ")


def _by_itself(key: str, study: Study, table: Table) -> bool:
    """Whether a column is printed where none were chosen: it is one of few, and says something that the names do not."""
    if key in (*_OWN, "decoder", *study.varies, *(study.tuning.keys if study.tuning else ())):
        return key != "paper" or any(row.get(key, EMPTY).text and not row[key].state for row in table.rows)
    if key == "seeds":
        return len({row[key].text for row in table.rows}) > 1
    return study.factors is not None and key in study.factors


def _brief(study: Study, compared: Compared, shared: Mapping[str, str], keys: Sequence[str]) -> list[str]:
    """Notes on the columns that are printed, and on the data."""
    seeds = sorted({len(row.records) for row in study.rows if row.records})
    if not seeds:
        return ["No run has finished."]
    shown = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else plural(seeds[0], "seed")
    read = f"{study.metric.name} in {study.metric.sign}{study.metric.lower}"
    said = f"{read}, mean ± standard deviation over {shown}." if seeds[-1] > 1 else f"{read}, one seed."
    found = [said] if study.metric.key in keys else []
    if "difference" in keys and (intervals := [one for one in compared.rows.values() if one.interval]):
        base = f"row {_number(study, base_name)}" if (base_name := _one_base(study)) else "the row named"
        found.append(f"Brackets: 95 % interval of the difference to {base}, paired by seed and image.")
        tested = len(intervals) + sum(one.interval is not None for one in compared.claims)
        adjusted = f"adjusted for {plural(tested, 'comparison')}"
        some = any(one.found for one in intervals)
        found.append(f"{FOUND} p < {ALPHA}, {adjusted}." if some else f"No difference has p < {ALPHA}, {adjusted}.")
    records = [record for _, _, record in study.done()]
    number = sum(one.adjusted is not None for one in (*compared.rows.values(), *compared.claims))
    if "p" in keys and number:
        found.append(f"p: two-sided, adjusted for {plural(number, 'comparison')}; bold: below {ALPHA}.")
    found += [*about_columns(study, keys), *(about_health(records) if "health" in keys else [])]
    named = {technique.name: technique.short for technique in study.techniques}
    if shared:
        found.append(f"{'; '.join(f'{named[name]}: {spaced(option)}' for name, option in shared.items())}.")
    found.append(brief_data(study))
    return found
