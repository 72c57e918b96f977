"""What texts say of studies: marked blocks of Markdown that are written, and checked, from the records.

A block stands between two lines, ``<!-- KIND of FOLDER -->`` and ``<!-- end -->``, FOLDER being a study's, seen from the text:

- ``answers``: a sentence for each difference: what it was worth, with which certainty, and what the paper says;
- ``findings``: every difference and claim of the study, with its adjusted p;
- ``scores``: mIoU of its rows;
- ``probes``: what `exfuse report probe` read from its maps before and after SEB, with adjusted p.
"""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from exfuse.analysis import cells
from exfuse.analysis.cells import number, p_text, points_text, said
from exfuse.analysis.comparisons import ALPHA, Compared, Comparison, compare, holm
from exfuse.analysis.document import MINUS
from exfuse.analysis.footnotes.intervals import about_claims, scope
from exfuse.analysis.footnotes.training import where
from exfuse.analysis.formats.markdown import escape, table_lines
from exfuse.analysis.frequent import ENOUGH, by_images
from exfuse.analysis.printed import added
from exfuse.analysis.student import student
from exfuse.analysis.table import Parts, compare_parts
from exfuse.errors import UserError, plural
from exfuse.files import write_text
from exfuse.store.study import Study
from exfuse.store.study_file import RECORDS
from exfuse.store.study_reading import load_study

_END = "<!-- end -->"
_BLOCK = re.compile(rf"<!-- (\w+) of (\S+) -->\n(.*?){_END}", re.DOTALL)
_MARK = re.compile(r"<!-- \w+ of \S+ -->|<!-- end -->")
_INTERVAL = re.compile(rf"\[[+{MINUS}-]?\d+(\.\d+)?, ?[+{MINUS}-]?\d+(\.\d+)?\]")
_GENERATED = "table.md"  # of a study, which its own check compares


def write_texts(folders: Iterable[Path]) -> list[Path]:
    """Write all blocks of the Markdown files in the folders anew; the files that changed.

    Raises:
        UserError: if a block cannot be written: its study cannot be read, or its marks are wrong.
    """
    changed = []
    for path in _texts(folders):
        before = _text(path)
        if (after := _written(path, before)) != before:
            write_text(path, after)
            changed.append(path)
    return changed


def check_texts(folders: Iterable[Path]) -> int:
    """Compare all blocks of the Markdown files in the folders with what the records give; the number of files with blocks.

    Raises:
        UserError: naming the first block that says something else, or an interval that is written by hand.
    """
    found = 0
    for path in _texts(folders):
        text = _text(path)
        remedy = f"Write it anew: exfuse study tabulate {path.parent}"
        for old, new in zip(_BLOCK.finditer(text), _BLOCK.finditer(_written(path, text)), strict=True):
            if old[0] != new[0]:
                before, given = old[3].splitlines(), new[3].splitlines()
                line = next((f"they say: {one}" for one in given if one not in before), "")
                line = line or next((f"they do not say: {one}" for one in before if one not in given), "in this order")
                raise UserError(f"{path}, {old[1]} of {old[2]}: this is not what the records give; {line}\n{remedy}")
        if by_hand := _INTERVAL.search(_BLOCK.sub("", text)):
            raise UserError(
                f"{path}: the interval {by_hand[0]} is written by hand. Let a block write it from the records: "
                "<!-- findings of FOLDER --> and <!-- end -->."
            )
        found += bool(_BLOCK.search(text))
    return found


def _texts(folders: Iterable[Path]) -> list[Path]:
    found = dict.fromkeys(path for folder in folders for path in sorted(folder.rglob("*.md")) if RECORDS not in path.parts)
    return [path for path in found if path.name != _GENERATED]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 ({error}). Save it as UTF-8.") from error


def _written(path: Path, text: str) -> str:
    marks, blocks = len(_MARK.findall(text)), len(_BLOCK.findall(text))
    if marks != 2 * blocks:
        raise UserError(
            f"{path}: {marks} marks make no pairs: a block begins with <!-- KIND of FOLDER --> and ends with {_END}."
        )

    def write(block: re.Match[str]) -> str:
        kind, folder = block[1], path.parent / block[2]
        if kind not in _KINDS:
            raise UserError(f"{path}: no block is called {kind!r}. There are {', '.join(_KINDS)}.")
        lines = _KINDS[kind](folder.resolve())
        return f"<!-- {kind} of {block[2]} -->\n{''.join(f'{line}{chr(10)}' for line in lines)}{_END}"

    return _BLOCK.sub(write, text)


@cache
def _compared(folder: Path) -> tuple[Study, Compared]:
    study = load_study(folder)
    return study, compare(study)


def findings(study: Study, compared: Compared) -> list[str]:
    """Every difference and claim of a study as lines of Markdown, findings first."""
    rows = [one for one in compared.rows.values() if one.interval]
    if not rows:
        return ["No two rows can be compared."]
    clear = [f"- **{_pair(study, one)}: {said(one, study.metric)}**" for one in rows if one.found]
    unclear = [f"{_pair(study, one)} {said(one, study.metric)}" for one in rows if not one.found]
    without = [f"{_pair(study, one)} ({one.reason})" for one in compared.rows.values() if not one.interval]
    lines = clear or ["- No difference is a finding."]
    if unclear:
        lines.append(f"- Not told apart: {'; '.join(unclear)}.")
    if without:
        lines.append(f"- Without an interval: {'; '.join(without)}.")
    lines += [f"- {told}" for told in about_claims(study, compared, escape, "**")]
    claims = sum(one.interval is not None for one in compared.claims)
    family = plural(len(rows), "comparison") + (f" and {plural(claims, 'claim')}" if claims else "")
    notes = [f"p is adjusted for {family}; a finding has p below {ALPHA}.", *scope(study, rows)]
    return [*lines, *_in_frequent(study, compare_parts(study)), f"- {' '.join(notes)}"]


def _in_frequent(study: Study, parts: Parts) -> list[str]:
    """Where some classes are rare, every difference over the others."""
    if (shown := by_images(study)) is None:
        return []
    told = []
    for one in parts["frequent"].values():
        p = "" if one.adjusted is None else f", p {p_text(one.adjusted)}"
        told_of = f"{_pair(study, one)} {points_text(one.interval) if one.interval else one.reason}{p}"
        told.append(f"**{told_of}**" if one.found else told_of)
    tests = _tests(parts)
    family = f" p is adjusted for {plural(tests, 'test')} in parts of what mIoU is of." if tests else ""
    return [f"- Over the {len(shown.frequent)} classes that {ENOUGH} images or more show: {'; '.join(told)}.{family}"]


def _tests(parts: Parts) -> int:
    return sum(part.adjusted is not None for by_row in parts.values() for part in by_row.values())


def _answers(folder: Path) -> list[str]:
    study, compared = _compared(folder)
    rows = [one for one in compared.rows.values() if one.interval]
    if not rows:
        return ["No two rows can be compared."]
    parts = compare_parts(study)
    tests = _tests(parts)
    what = " and ".join([*(["pixels"] if study.edge_radius is not None else []), *(["classes"] if by_images(study) else [])])
    notes = [
        f"{study.metric.differences} with 95 % intervals; {where(study)}. p is adjusted for {plural(len(rows), 'comparison')}"
        f"{f', in parts of the {what} for {tests}' if tests else ''}; decided: below {ALPHA}."
    ]
    if any(row.paper is not None for row in study.rows):
        notes.append("The paper's numbers are differences of its own table, on other data.")
    answers = [_answer(study, one, parts) for one in rows]
    return [*answers, *_in_frequent(study, parts), f"- {' '.join([*notes, *scope(study, rows)])}"]


def _answer(study: Study, one: Comparison, parts: Parts) -> str:
    """What a row was worth over the one that it builds on, where in the image that is decided, and the paper's number."""
    row, base = study.row(one.row), study.row(one.base)
    about = " and ".join(added(study, row, base)) or escape(row.title)
    gains = one.interval is not None and study.metric.gains(one.interval.estimate)
    lead = f"**{about} {'gains' if gains else 'loses'}**" if one.found else f"{about}: not decided"
    parts_told = [f"{lead}, {said(one, study.metric)} ({_pair(study, one)})"]
    for measure in cells.measures(study):
        part = parts.get(measure.key, {}).get(one.row)
        if part and part.found and part.interval and part.adjusted is not None:
            parts_told.append(f"**{measure.header.replace(' %', '')} {points_text(part.interval)}**, p {p_text(part.adjusted)}")
    theirs = row.paper is not None and base.paper is not None
    paper = f" The paper: {number(row.paper - base.paper, signed=True)}." if theirs else ""  # type: ignore[operator]
    return f"- {'; '.join(parts_told)}.{paper}"


def _pair(study: Study, one: Comparison) -> str:
    return f"{escape(study.row(one.row).title)} vs {escape(study.row(one.base).title)}"


def _scores(folder: Path) -> list[str]:
    study, _ = _compared(folder)
    rows = [row for row in study.rows if row.records]
    shown = [cells.score(row, study, ()).text for row in rows]
    return table_lines([study.metric.header, *(escape(row.title) for row in rows)], [[escape(study.name), *shown]])


def _probes(folder: Path) -> list[str]:
    """Accuracy after SEB minus before, in points, by question, level and row: Student's interval over seeds."""
    changes: dict[tuple[str, str], dict[str, list[float]]] = {}
    path = folder / "probe" / "probe.csv"
    if not path.is_file():
        raise UserError(f"{path} is missing: exfuse report probe writes it.")
    try:
        for one in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
            if one["seb"] != "none":
                by_row = changes.setdefault((one["question"], one["level"]), {})
                by_row.setdefault(one["row"], []).append(float(one["after"]) - float(one["before"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no table of probes ({error}): exfuse report probe writes it anew.") from error
    tested = [
        (key, row) for key, by_row in changes.items() for row, values in by_row.items() if any(values) and len(values) > 1
    ]
    adjusted = dict(zip(tested, holm([student(changes[key][row]).p for key, row in tested]), strict=True))
    rows = list(dict.fromkeys(row for by_row in changes.values() for row in by_row))
    body = [
        [f"{question}, {level}", *(_probe_cell(by_row.get(row, []), adjusted.get(((question, level), row))) for row in rows)]
        for (question, level), by_row in changes.items()
        if any(any(values) for values in by_row.values())
    ]
    note = (
        f"Balanced accuracy after minus before, points. p is adjusted for {plural(len(tested), 'probe')}; bold: below {ALPHA}."
    )
    return [*table_lines(["", *rows], body), "", note]


def _probe_cell(values: Sequence[float], adjusted: float | None) -> str:
    if not any(values):
        return "as before" if values else ""
    if adjusted is None:
        return number(100 * values[0], signed=True)
    mean, low, high = (number(100 * value, signed=True) for value in student(values)[:3])
    text = f"{mean} [{low}, {high}], p {p_text(adjusted)}"
    return f"**{text}**" if adjusted < ALPHA else text


_KINDS: Mapping[str, Callable[[Path], list[str]]] = {
    "answers": _answers,
    "findings": lambda folder: findings(*_compared(folder)),
    "scores": _scores,
    "probes": _probes,
}
