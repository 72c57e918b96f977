"""The sentences below a study's table: what was measured on what, how, at what cost, and what the numbers do not say."""

from collections.abc import Mapping, Sequence

import numpy as np

from exfuse.analysis.cells import AT_END, DIVERGED, FEWER, MIXED, ONE_SEED, OTHER_DATA, RANDOM, UNSUPERVISED
from exfuse.analysis.comparisons import Compared
from exfuse.analysis.document import SHOWN, Cell, Footnote
from exfuse.analysis.footnotes.costs import about_costs
from exfuse.analysis.footnotes.intervals import IMAGES_ONLY, about_columns, about_statistics
from exfuse.analysis.footnotes.search import about_looks, about_search
from exfuse.analysis.footnotes.training import (
    about_backbone,
    about_data,
    about_health,
    about_machine,
    about_other_code,
    about_recipe,
)
from exfuse.analysis.paper import TRUST, departures
from exfuse.errors import some
from exfuse.store.study import Study


def footnotes(study: Study, compared: Compared, rows: Sequence[Mapping[str, Cell]]) -> list[Footnote]:
    """Marked footnotes of the marks that ``rows`` bear, then everything that holds for the whole table."""
    used = {mark for row in rows for cell in row.values() for mark in cell.marks}
    records = [record for _, _, record in study.done()]
    found = [note for note in _marked(study) if note.mark in used]
    sentences = [*_overrides(study), *_unfinished(study), *_of_one_class(study)]
    sentences += [*about_statistics(study, compared), *about_columns(study)]
    if study.paper is not None and any(row.paper is not None for row in study.rows):
        sentences += _paper(study)
    costs = list[str]()
    if records and study.imported:
        sentences += about_other_code(records)
    elif records:
        sentences += [about_data(records), *about_search(study), *about_looks(study)]
        sentences += [about_recipe(records), *about_health(records), about_backbone(records), about_machine(study, records)]
        costs = about_costs(study, records)
    return [*found, *map(Footnote, sentences), *(Footnote(sentence, about="cost") for sentence in costs)]


def _marked(study: Study) -> list[Footnote]:
    what = "what rows differ in" if study.imported else "the techniques"
    differing = "; ".join(str(deviation) for deviation in study.deviations)
    return [
        Footnote(f"not under the same settings: differences are not due to {what} alone. {differing}.", MIXED),
        Footnote("backbone from random weights, without pretraining.", RANDOM),
        Footnote("mean over fewer seeds than planned.", FEWER),
        Footnote(IMAGES_ONLY, ONE_SEED),
        Footnote("the best of the search lay at the end of its grid: a value beyond may be better.", AT_END),
        Footnote(
            "diverged: an epoch's mean loss after warm-up lay above that of guessing, ln C; such a row measures no technique.",
            DIVERGED,
        ),
        Footnote("SS is chosen, but the backbone's weights are public ones that know nothing of it.", UNSUPERVISED),
    ]


def _overrides(study: Study) -> list[str]:
    """What rows are that are lists of overrides, unless they are called so."""
    told = {study.row(name).title: " ".join(own) for name, own in study.overrides.items()}
    named = [f"{name}: {own}" for name, own in told.items() if own.replace("+", "") != name.replace("+", "")]
    return [f"Rows are these settings. {'; '.join(named)}."] if named else []


def _unfinished(study: Study) -> list[str]:
    """Why runs did not finish, as far as their records say."""
    found = []
    for row in study.rows:
        for seed, run in row.runs.items():
            if run.record and not run.done:
                said = run.record.why or "no reason known"
                found.append(f"{row.title} seed {seed} {run.status}: {said[:120]}")
    return [f"{some(found, SHOWN, '; ')}."] if found else []


def _of_one_class(study: Study) -> list[str]:
    """Which rows have learnt nothing, so that equal scores are no finding of equality."""
    rows: dict[str, list[str]] = {}
    for row in study.rows:
        scores = [record.scores for record in row.records.values() if record.scored and record.scores.confusion]
        counts = [np.array(one.confusion) for one in scores]
        if counts and all(np.count_nonzero(one.any(0)) == 1 < np.count_nonzero(one.any(1)) for one in counts):
            alone = {[*scores[0].iou][int(one.any(0).argmax())] for one in counts}
            rows.setdefault(" or ".join(map(repr, sorted(alone))), []).append(row.title)
    return [
        f"{name} is all that a run of {', '.join(titles)} predicts: these have learnt nothing yet, and measure no technique."
        for name, titles in rows.items()
    ]


def _paper(study: Study) -> list[str]:
    paper = study.paper
    assert paper is not None
    reasons = dict.fromkeys(reason for _, _, record in study.done() for reason in departures(record, paper))
    trusts = dict.fromkeys(row.paper_trust for row in study.rows if row.paper is not None and row.paper_trust)
    source = f"Paper: {paper.table}, val set"
    if reasons:
        return [f"{source}; \"{OTHER_DATA}\" where a run's protocol is not the paper's: {'; '.join(reasons)}."]
    marks = ", ".join(f"[{trust}] {TRUST.get(trust, 'of unknown trust')}" for trust in trusts)
    return [f"{source}{f'; {marks}' if marks else ''}."]
