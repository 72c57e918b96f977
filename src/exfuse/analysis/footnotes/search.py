"""How the rows of a tuned or a sequential study came to their settings and seeds, at what cost, and what that left open."""

import itertools
from collections.abc import Callable, Iterable, Sequence

from exfuse.analysis.document import SHOWN
from exfuse.analysis.footnotes.wording import percent, span, taken
from exfuse.errors import plural, rounded, some
from exfuse.store.record import Record
from exfuse.store.study import Study
from exfuse.store.tuning import Space, Trial, Tuning, is_pruned

_FEW_SEARCHED = 30  # images, chosen: below, a search says that its choice is partly chance


def about_looks(study: Study) -> list[str]:
    """How a sequential study went, and which of its comparisons are decided."""
    if (sequential := study.sequential) is None:
        return []
    rule, verdicts = sequential.rule, {(look.row, look.base): look for look in sequential.looks if look.verdict}
    size = f" or shown to be smaller than {rule.size:g} points" if rule.size else ""
    told = [
        f"{study.row(row).title} vs {study.row(base).title} {look.verdict} at {plural(look.seeds, 'seed')}"
        for (row, base), look in verdicts.items()
    ]
    return [
        f"Sequential: seeds were added in the order {', '.join(map(str, rule.seeds))}, most useful comparison first, until "
        f"each was told from zero{size}; {plural(len(sequential.looks), 'look')} after {rule.first} seeds or more, "
        f"{plural(sequential.runs, 'run')}, {rounded(sequential.hours)} h. p counts every look and every comparison (5 % over "
        f"all of them); [low, high] does not. Ended: {sequential.ended or 'not yet'}. Decided: {'; '.join(told) or 'none'}."
    ]


def about_search(study: Study) -> list[str]:
    """How the rows of a tuned study were tuned, at what cost, and what that left open."""
    tuning = study.tuning
    if tuning is None:
        return []
    tried = [trial for trials in tuning.trials.values() for trial in trials]
    records = [record for trial in tried if (record := study.searched.get(trial.key or "")) is not None]
    declared, images = tuning.declared, [record.images for record in records if record.images]
    asked = f"{plural(declared.trials, 'setting')} that Optuna asked for, " if declared.trials else ""
    scored, learnt = ([one[split] for one in images] for split in ("val", "train"))
    of = f" ({span(scored)} images; the other {span(learnt)} were learnt)" if images else ""
    luck = (
        f" Of {max(scored)} images which settings are best is partly chance." if images and max(scored) < _FEW_SEARCHED else ""
    )
    sentences = [
        f"Tuned: every row tried {asked}{' and '.join(_grids(tuning))} with seed {declared.seed} at {percent(declared.epochs)} "
        f"of the epochs, scored on {percent(declared.held_out)} of train{of}, never on val; its runs here take "
        f"what was best for it and all of train. The search took {plural(len(tried), 'run')}, {taken(records)}.{luck}",
        *_of_others(records, [record for _, _, record in study.done()]),
    ]
    if failed := _failed(study, tuning):
        sentences.append(f"Failed in the search, and counted as worst there: {some(failed, SHOWN)}.")
    sentences += _passed_over(study, tuning)
    if given_up := sum(is_pruned(record) for record in records):
        sentences.append(f"Given up there, below the median of finished runs: {plural(given_up, 'run')}.")
    if open_ended := [study.row(row).title for row in tuning.chosen if tuning.at_end(row)]:
        bound = f" after {plural(declared.widen, 'widening')}" if declared.widen else ""
        sentences.append(f"Best at the end of the grid{bound}: {some(open_ended, SHOWN)}.")
    return sentences


def _grids(tuning: Tuning) -> list[str]:
    """Values of each setting that were tried, or what they were drawn from."""
    declared, grids = tuning.declared, []
    for key, values in tuning.grid.items():
        added = [value for value in values if value not in declared.grid[key]]
        widened = f", widened for all rows by {_values_text(added)}" if added else ""
        grids.append(f"{key} of {_values_text(declared.grid[key])}{widened}")
    for key, space in declared.space.items():
        between = f"from {space.low:g} to {space.high:g}" if isinstance(space, Space) else f"of {_values_text(space)}"
        grids.append(f"{key} {between}")
    return grids


def _failed(study: Study, tuning: Tuning) -> list[str]:
    """Which trials failed, and which diverged."""
    trials = [(study.row(row).title, one) for row, found in tuning.trials.items() for one in found]
    failed = [f"{title} {_settings_text(one)}" for title, one in trials if one.failed]
    records = [(title, one, study.searched.get(one.key or "")) for title, one in trials if not one.failed]
    return failed + [
        f"{title} {_settings_text(one)} (diverged)" for title, one, record in records if record and record.diverged
    ]


def _of_others(records: Sequence[Record], of_table: Sequence[Record]) -> list[str]:
    """In what the search's runs are others than the table's, beside what a search is for."""
    found = []
    if other := [what for what, of in _PROVENANCE.items() if not {*map(of, records)} <= {*map(of, of_table)} and of_table]:
        found.append(f"The search's runs are of another {' and '.join(other)} than the table's.")
    if code := [name for name, values in _own_code(records).items() if not values <= _own_code(of_table).get(name, values)]:
        found.append(f"The search's runs are of other code of {some(code, SHOWN)} than the table's.")
    return found


def _passed_over(study: Study, tuning: Tuning) -> list[str]:
    """What was best in the search and diverged with all of train."""
    following, standing = list[str](), list[str]()
    for row, of_row in tuning.passed_over.items():
        for _, same in itertools.groupby(of_row, _settings_text):
            trials = list(same)
            stands = trials[0].settings == tuning.chosen.get(row)
            told = f"{study.row(row).title} {_settings_text(trials[0])} ({plural(len(trials), 'run')})"
            (standing if stands else following).append(told)
    return [
        f"{said}: {', '.join(told)}."
        for said, told in (
            ("Best in the search, but passed over for the next best, for with all of train it diverged", following),
            ("Diverged with all of train, yet best, for nothing sound was left", standing),
        )
        if told
    ]


_PROVENANCE: dict[str, Callable[[Record], object]] = {
    "commit": lambda record: record.environment.commit,
    "torch": lambda record: record.environment.packages.get("torch"),
}


def _own_code(records: Iterable[Record]) -> dict[str, set[str]]:
    """Contents that each name of own code had."""
    found: dict[str, set[str]] = {}
    for record in records:
        for name, content in record.environment.code.items():
            found.setdefault(name, set()).add(content)
    return found


def _settings_text(trial: Trial) -> str:
    return ", ".join(f"{key}={value}" for key, value in trial.settings.items())


def _values_text(values: Sequence[object]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
