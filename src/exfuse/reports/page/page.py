"""From a study to the text of its page; what the page cannot show, and why, is said at its head."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

from jinja2 import PackageLoader
from markupsafe import Markup

from exfuse.analysis.cells import p_text, points_text
from exfuse.analysis.comparisons import compare_with_each
from exfuse.analysis.document import Table, Value
from exfuse.analysis.formats.html import environment
from exfuse.errors import plural
from exfuse.reports.page import answers, browser, charts, classes, cost, curves, effects, features, ladder
from exfuse.reports.page.data import PageData, Section
from exfuse.store.checked import leaves
from exfuse.store.metric import number

_MOST_BASES = 16  # rows of a study whose every pair is compared for the page
_REASONS = {
    "missing": "no seed has finished in both rows of a comparison",
    "other images": "rows were scored on different images",
    "one group": "all images are one group without order, and there is one seed",
}


def notices(data: PageData, sections: set[str]) -> list[str]:
    """Sentences on unfinished runs, single seeds and missing parts.

    Args:
        data: of the page.
        sections: ids of those that the page has.
    """
    study = data.study
    found = []
    unfinished = Counter(run.status for row in study.rows for run in row.runs.values() if not run.done)
    total = sum(len(row.runs) for row in study.rows)
    if unfinished:
        said = ", ".join(f"{number} {status}" for status, number in sorted(unfinished.items()))
        found.append(f"{total - sum(unfinished.values())} of {total} runs have finished; the others: {said}.")
    done = [len(row.records) for row in study.rows if row.records]
    if not done:
        return [*found, "Nothing has been scored yet: there are no charts."]
    if max(done) == 1:
        found.append("One seed: intervals are over images only and say nothing about the noise of training.")
    intervals = [one for one in data.rendering.comparisons.values() if one.interval]
    if not intervals:
        reasons = dict.fromkeys(_REASONS[one.reason] for one in data.rendering.comparisons.values())
        found.append(f"No differences with intervals: {'; '.join(reasons) or 'no row builds on another'}.")
    if len(study.rows) > _MOST_BASES and any(row.on for row in study.rows):
        most = plural(_MOST_BASES, "row")
        found.append(f"Differences are to the row that each builds on; another can be chosen in studies of at most {most}.")
    if study.imported:
        return found
    if "curves" not in sections:
        found.append(f"No training curves: {curves.why_none(data)}.")
    if "browser" not in sections:
        why = "none were gathered from the runs' checkpoints"
        if data.examples is not None:
            fits = browser.held(data, data.examples)
            why = "they do not fit, see megabytes=" if fits else "those that were gathered are of other runs"
        found.append(f"No predictions on images: {why}.")
    found += filter(None, [features.why_not_all(data)])
    return found + _left_out(data)


def _left_out(data: PageData) -> list[str]:
    """Runs whose predictions are missing, one sentence a reason."""
    by_reason: dict[str, list[str]] = {}
    for row in data.study.rows:
        for seed, run in row.runs.items():
            if run.folder.key in data.left_out:
                reason = data.left_out[run.folder.key].splitlines()[0]
                by_reason.setdefault(reason, []).append(f"{row.title} seed {seed}")
    return [f"No predictions of {', '.join(runs)}: {reason}" for reason, runs in by_reason.items()]


# From a study to the text of its page.

_SCRIPTS = ("theme.js", "copy.js", "charts.js", "variants.js", "columns.js", "rows.js", "masks.js", "browser.js")


def render_page(data: PageData) -> str:
    """The page as one HTML file that needs nothing else.

    Its text and tables come first; the data of the charts, the images and at last the library follow, so that a browser paints
    before it reads them.

    Args:
        data: of one study.
    """
    found = [curves.section(data), ladder.section(data), classes.section(data), cost.section(data), effects.section(data)]
    sections = [section for section in found if section is not None]
    bases = _bases(data)
    text = _fill(data, sections, bases)
    for pictures in (browser.section, features.section):
        found_too = pictures(data, data.bound - len(text.encode()))
        if found_too is not None:
            sections.append(found_too)
            text = _fill(data, sections, bases)
    return text


def _fill(data: PageData, sections: Sequence[Section], bases: dict[str, dict[str, tuple[str, str]]]) -> str:
    study = data.study
    env = environment(PackageLoader("exfuse.reports.page"))
    env.globals |= {"swatches": [data.looks[row.name].swatch for row in study.rows]}
    template = env.get_template("page.html.jinja")
    drawn = {name: chart for section in sections for name, chart in section.charts.items()}
    variants = [{"name": row.name, "title": row.title, "swatch": data.looks[row.name].swatch} for row in study.rows]
    return template.render(
        study=study,
        table=_shown(data.rendering.tables[0], {section.id for section in sections}),
        answers=(answered := answers.answers(data)),
        certainty=answers.certainty(data) if answered else "",
        sections=sections,
        notices=notices(data, {section.id for section in sections}),
        facts=_facts(data),
        runs=_runs(data),
        variants=variants,
        bases=bases,
        settings=(settings := _settings(data)),
        rows=_json({"bases": bases, "settings": settings, "names": [row.name for row in study.rows]}),
        data={section.id: _json(section.data) for section in sections if section.data is not None},
        **common_parts(drawn),
    ).lstrip()


def common_parts(drawn: Mapping[str, charts.Chart], scripts: Sequence[str] = _SCRIPTS) -> dict[str, Any]:
    """What every page has: styles, both themes' colours, scripts, its charts and what draws them, by a template's names."""
    return {
        "css": Markup(_asset("page.css")),
        "light": Markup(charts.css_variables(dark=False)),
        "dark": Markup(charts.css_variables(dark=True)),
        "scripts": Markup("\n".join(_asset(name) for name in scripts)),
        "early": Markup(_asset("early.js")),
        "charts": _json(drawn),
        "library": Markup(charts.library() if drawn else ""),
        "library_name": charts.library_name(),
    }


def _shown(table: Table, sections: set[str]) -> Table:
    """Without the columns, but for those of the score, that have no number in any row, and the notes that sections show."""
    empty = {
        column.key for column in table.columns if all(row[column.key].state or not row[column.key].text for row in table.rows)
    }
    kept = [column for column in table.columns if column.group == "score" or column.key not in empty]
    ordered = [*(one for one in kept if one.group == "score"), *(one for one in kept if one.group != "score")]
    return replace(table, columns=ordered, footnotes=[note for note in table.footnotes if note.about not in sections])


def _bases(data: PageData) -> dict[str, dict[str, tuple[str, str]]]:
    """By row that a reader may choose as the baseline, what the other rows' cells of difference and p then say."""
    study = data.study
    if not any(row.on for row in study.rows) or len(study.rows) > _MOST_BASES or study.sequential is not None:
        return {}
    found = {
        base: {
            name: (points_text(one.interval, study.metric), p_text(one.adjusted or 0.0)) if one.interval else (one.reason, "")
            for name, one in compared.items()
        }
        for base, compared in (compare_with_each(study) if study.done() else {}).items()
    }
    return {name: rows for name, rows in found.items() if any(p for _, p in rows.values())}


def _settings(data: PageData) -> list[dict[str, Any]]:
    """Of every run that has a record its name, key and those settings that are not the same in all."""
    runs = [(row, seed, run) for row in data.study.rows for seed, run in row.runs.items()]
    runs = [one for one in runs if one[2].record]
    flat = [{key: str(value) for key, value in leaves(run.record.config)} for _, _, run in runs if run.record]
    keys = [key for key in dict.fromkeys(key for one in flat for key in one) if len({one.get(key) for one in flat}) > 1]
    return [
        {"name": f"{row.title}, seed {seed}", "key": run.folder.key, "settings": [[key, one.get(key, "")] for key in keys]}
        for (row, seed, run), one in zip(runs, flat, strict=True)
    ]


def _asset(name: str) -> str:
    return (resources.files("exfuse.reports.page") / "assets" / name).read_text()


def _json(content: Any) -> Markup:
    """JSON that may stand in a script element: nothing in it can end the element."""
    return Markup(json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def _facts(data: PageData) -> list[tuple[str, str]]:
    """The line below the title: what was trained and scored on what."""
    records = [record for _, _, record in data.study.done()]
    planned = sum(len(row.runs) for row in data.study.rows)
    found = [("variants", str(len(data.study.rows))), ("runs", f"{len(records)} of {planned}")]
    if not records:
        return found

    def of(values: list[Any]) -> str:
        return " or ".join(dict.fromkeys(map(str, values)))

    metric, images = data.study.metric, of([record.images["val"] for record in records])
    told = [("score", f"{metric.header}{metric.lower}"), ("images", images)]
    if not data.study.imported:
        told = [
            ("train images", of([record.images["train"] for record in records])),
            ("val images", images),
            ("backbone", of([record.encoder for record in records])),
            ("epochs", of([record.config["recipe"]["epochs"] for record in records])),
        ]
    seeds = ", ".join(map(str, sorted({record.seed for record in records})))
    return [("data", of([record.data for record in records])), *told, *found, ("seeds", seeds)]


def _runs(data: PageData) -> list[dict[str, Value]]:
    """One line a run: where the numbers come from."""
    metric = data.study.metric
    return [
        {
            "title": row.title,
            "seed": seed,
            "status": run.status,
            "score": number(metric.scale * run.done.score, metric.digits + 1) if run.done else "",
            "key": run.folder.key,
            "origin": (run.record.imported or str(run.record.environment.commit or "")[:7]) if run.record else "",
        }
        for row in data.study.rows
        for seed, run in row.runs.items()
    ]
