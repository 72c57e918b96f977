"""The sentences below a study's table: what was measured on what, how, at what cost, and what the numbers do not say."""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from msgspec.structs import replace

from exfuse.analysis.cells import AT_END, DIVERGED, FEWER, MIXED, ONE_SEED, OTHER_DATA, RANDOM, UNSUPERVISED
from exfuse.analysis.comparisons import ALPHA, Compared, Comparison, resamples
from exfuse.analysis.document import MINUS, SHOWN, TIMES, Cell, Footnote
from exfuse.analysis.frequent import ENOUGH, by_images
from exfuse.analysis.paper import TRUST, departures
from exfuse.analysis.resampling import FRAMES, GROUPS, IMAGES, NOTHING, Interval
from exfuse.errors import plural, rounded, some
from exfuse.store.checked import leaves
from exfuse.store.costs import COSTS, RowCosts
from exfuse.store.measured_costs import FILE, Conditions, MeasuredCosts
from exfuse.store.record import Record, uncommitted_text
from exfuse.store.study import SETTINGS, TOLERANCE, Study
from exfuse.store.tuning import Space, Trial, is_pruned

FEW = 200
_FEW_SEARCHED = 30  # images, chosen: below, a search says that its choice is partly chance
FEW_IMAGES = f"One seed and fewer than {FEW} images: up to 10 % of such intervals missed in simulations, not 5 %."
_PLAIN = "cross_entropy"
IMAGES_ONLY = "interval from one seed: over images only, it says nothing about the noise of training."


def footnotes(study: Study, compared: Compared, rows: Sequence[Mapping[str, Cell]]) -> list[Footnote]:
    """Marked footnotes of the marks that ``rows`` bear, then everything that holds for the whole table."""
    used = {mark for row in rows for cell in row.values() for mark in cell.marks}
    records = [record for _, _, record in study.done()]
    found = [note for note in _marked(study) if note.mark in used]
    sentences = [*_overrides(study), *_unfinished(study), *_of_one_class(study), *_statistics(study, compared)]
    sentences += _parts(study)
    if study.paper is not None and any(row.paper is not None for row in study.rows):
        sentences += _paper(study)
    if records:
        sentences += (
            _other_code(records)
            if study.imported
            else [
                _data(records),
                *_search(study),
                *_looks(study),
                _recipe(records),
                _backbone(records),
                _machine(study, records),
            ]
        )
    costs = _cost_sentences(study, records) if records and not study.imported else []
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


def _statistics(study: Study, compared: Compared) -> list[str]:
    done = sorted({len(row.records) for row in study.rows if row.records})
    if not done:
        return ["No run has finished."]
    fewest, most = done[0], done[-1]
    metric = study.metric
    read = f"{metric.name} in {metric.sign}"
    spread = f"{read}: mean ± standard deviation (n {MINUS} 1) over seeds" if most > 1 else f"{read}, of one seed"
    imported = "of counts summed over the images" if study.counted else "the mean over its images"
    a_score = f"a run's score is {imported}{metric.lower}" if study.imported else "the score is that of the last epoch"
    sentences = [f"{spread}; {a_score}."]
    if fewest < most:
        sentences.append(f"Rows rest on {fewest} to {most} seeds; a difference uses those that both rows have.")
    intervals = [one.interval for one in compared.rows.values() if one.interval]
    return sentences + (_intervals(intervals, study, compared) if intervals else [])


def _intervals(intervals: Sequence[Interval], study: Study, compared: Compared) -> list[str]:
    """How the intervals were made, what they cannot say, and which differences are findings."""
    several, claims = any(one.seeds > 1 for one in intervals), sum(one.interval is not None for one in compared.claims)
    among = f"the table's {plural(len(intervals), 'comparison')}" + (f" and {plural(claims, 'claim')}" if claims else "")
    sentences = [
        f"[low, high]: 95 % interval of the difference, each for itself, from {_drawn(intervals, study)}"
        f"{' and the spread over seeds' if several else ''}; runs are paired by seed and image.",
        *scope(study, [*compared.rows.values()]),
        f"p: two-sided, adjusted {_adjustment(study)} over {among}; bold: below {ALPHA}, a finding.",
    ]
    if any(one.seeds == 1 and one.images < FEW for one in intervals):
        sentences.append(FEW_IMAGES)
    found = [one for one in compared.rows.values() if one.found]
    if found:
        alone = {one.row: " (one seed)" if one.interval and one.interval.seeds == 1 else "" for one in found}
        named = [f"{study.row(one.row).title} vs {study.row(one.base).title}{alone[one.row]}" for one in found]
        which = some(named, SHOWN)
        verb = "is a finding" if len(found) == 1 else "are findings"
        sentences.append(f"{len(found)} of {len(intervals)} differences {verb}: {which}.")
    else:
        sentences.append("No difference is a finding: these runs establish none between any two rows compared.")
    return sentences


def _adjustment(study: Study) -> str:
    return "by Holm's method" if study.sequential is None else "over all looks and, by Bonferroni's method,"


def _drawn(intervals: Sequence[Interval], study: Study) -> str:
    """What the resamples are of."""
    images, units = _range(one.images for one in intervals), [one.units for one in intervals]
    split = "the" if study.imported else "val's"
    drawn = f"{resamples(len(study.done())):,} bootstrap resamples of {split} {images} images"
    kind = units[0].kind
    if kind == NOTHING:
        return "no resampling of images"
    if kind == GROUPS:
        return f"{drawn} by whole groups"
    if kind == FRAMES:
        return f"{drawn} in blocks of {_range(one.length for one in units)} frames, by their autocorrelation"
    return drawn


def where(study: Study) -> str:
    """Data set, split and seeds, as captions name them."""
    records = [record for _, _, record in study.done()]
    if not records:
        return "no finished run"
    names = " and ".join(dict.fromkeys(record.data for record in records))
    images = " or ".join(dict.fromkeys(str(record.images["val"]) for record in records))
    seeds = sorted({record.seed for record in records})
    split = f"{images} images" if study.imported else f"val ({images} images)"
    return f"{names}, {split}, seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def scope(study: Study, compared: Sequence[Comparison]) -> list[str]:
    """Of what other images than these the intervals speak, where that is not of all that are like them."""
    kinds = {one.interval.units.kind for one in compared if one.interval}
    row = study.row(next(one.row for one in compared if one.interval))
    grouping = study.grouping(next(run for run in row.runs.values() if run.done))
    if grouping is None or kinds == {IMAGES}:
        return []
    names = list(dict.fromkeys(grouping.groups))
    if GROUPS in kinds:
        few = f" {plural(len(names), 'group')} know little of others: intervals are wide." if len(names) < 10 else ""
        return [f"Images of one group are alike; there are {plural(len(names), 'group')}.{few}"]
    if NOTHING in kinds:
        return [f"All images are one group ({names[0]}), which says nothing of others: intervals are over seeds alone."]
    sequences = f"one sequence ({names[0]}): intervals speak" if len(names) == 1 else f"{len(names)} sequences: intervals speak"
    return [f"The images are frames of {sequences} of {'it' if len(names) == 1 else 'them'} alone, not of other scenes."]


def _parts(study: Study) -> list[str]:
    """What the columns beside the score are of."""
    said = []
    if found := by_images(study):
        shown = ", ".join(f"{name} {images}" for name, images in found.rare.items())
        said.append(
            f"Frequent: mIoU over the {len(found.frequent)} classes that {ENOUGH} images or more show. The others weigh as "
            f"much in mIoU, though one image may decide them; images that show them: {shown}."
        )
    if study.edge_radius is not None:
        said.append(
            f"Edge: mIoU of the labelled pixels within {study.edge_radius} px of a pixel with another label or void; interior: "
            "of all others. Boundary IoU (Cheng et al. 2021): within 2 % of the image's diagonal of the contours, in truth and "
            "prediction, summed over the images."
        )
    p = (
        "none has a p, since the number of seeds was chosen by looking at mIoU."
        if study.sequential is not None
        else f"bold where p, adjusted by Holm's method over all of these columns, is below {ALPHA}."
    )
    of_all = f"Mean over seeds and classes; an interval in parentheses is for itself; {p}"
    return [" ".join([*said, of_all])] if said else []


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


def _data(records: Sequence[Record]) -> str:
    names = _distinct(records, lambda record: record.data)
    train, val = (_range(record.images[split] for record in records) for split in ("train", "val"))
    seen = sorted({group for record in records for group in record.seen_groups})
    told = f" Train has images of {plural(len(seen), 'group')} of val, too: {some(seen)}." if seen else ""
    return f"Data: {names}, {train} images to train on, {val} to score on; {_classes(records[0], 'val')}.{told}"


def _classes(record: Record, where: str) -> str:
    scores = record.scores.iou
    absent = [name for name, value in scores.items() if value is None]
    present = len(scores) - len(absent)
    over = f"mIoU is over the {present} class{'' if present == 1 else 'es'} present in {where}"
    devkit = "; VOC's devkit counts such a class as 0 where it is predicted: miou_devkit in the CSV"
    return over + (f" (absent: {', '.join(absent)}{devkit})" if absent else "")


def _other_code(records: Sequence[Record]) -> list[str]:
    """What is known of runs that other code made: what its files say."""
    names, images = _distinct(records, lambda record: record.data), _range(record.images["val"] for record in records)
    over = f"; {_classes(records[0], 'them')}" if records[0].scored else ""
    shared = dict(leaves(records[0].config[SETTINGS]))
    for record in records[1:]:
        own = dict(leaves(record.config[SETTINGS]))
        shared = {name: value for name, value in shared.items() if name in own and own[name] == value}
    said = ", ".join(f"{name} {value}" for name, value in shared.items() if name)
    return [
        f"Data: {names}, scored on {images} images{over}; seeds {_seeds(records)}.",
        *([f"Every run: {said}."] if said else []),
        *(
            ["Parameters and GMACs are those that the files name."]
            if any(record.parameters or record.costs for record in records)
            else []
        ),
        "Trained and scored by other code; means, intervals and p are computed here, from what its files say of each image.",
    ]


def brief_data(study: Study) -> str:
    """What was trained and scored on what, in a line."""
    records = [record for _, _, record in study.done()]
    if study.imported:
        images = _range(record.images["val"] for record in records)
        return f"Data: {_distinct(records, lambda record: record.data)}, {images} images."
    train, val = (_range(record.images[split] for record in records) for split in ("train", "val"))
    epochs = _epochs(records)
    data, encoder = _distinct(records, lambda record: record.data), _distinct(records, lambda record: record.encoder)
    return f"Data: {data}, {train} images to train on and {val} to score on; {encoder.replace('_', ' ')}, {epochs}."


def _looks(study: Study) -> list[str]:
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


def _search(study: Study) -> list[str]:
    """How the rows of a tuned study were tuned, at what cost, and what that left open."""
    tuning = study.tuning
    if tuning is None:
        return []
    tried = [trial for trials in tuning.trials.values() for trial in trials]
    records = [record for trial in tried if (record := study.searched.get(trial.key or "")) is not None]
    images = [record.images for record in records if record.images]
    declared, grids = tuning.declared, []
    for key, values in tuning.grid.items():
        added = [value for value in values if value not in declared.grid[key]]
        widened = f", widened for all rows by {_values_text(added)}" if added else ""
        grids.append(f"{key} of {_values_text(declared.grid[key])}{widened}")
    for key, space in declared.space.items():
        between = f"from {space.low:g} to {space.high:g}" if isinstance(space, Space) else f"of {_values_text(space)}"
        grids.append(f"{key} {between}")
    asked = f"{plural(declared.trials, 'setting')} that Optuna asked for, " if declared.trials else ""
    failed = [
        f"{study.row(row).title} {_settings_text(one)}" for row, trials in tuning.trials.items() for one in trials if one.failed
    ]
    failed += [
        f"{study.row(row).title} {_settings_text(one)} (diverged)"
        for row, trials in tuning.trials.items()
        for one in trials
        if not one.failed and (record := study.searched.get(one.key or "")) is not None and record.diverged
    ]
    scored, learnt = ([one[split] for one in images] for split in ("val", "train"))
    of = f" ({_range(scored)} images; the other {_range(learnt)} were learnt)" if images else ""
    luck = (
        f" Of {max(scored)} images which settings are best is partly chance." if images and max(scored) < _FEW_SEARCHED else ""
    )
    sentences = [
        f"Tuned: every row tried {asked}{' and '.join(grids)} with seed {declared.seed} at {_percent(declared.epochs)} of the "
        f"epochs, scored on {_percent(declared.held_out)} of train{of}, never on val; its runs here take "
        f"what was best for it and all of train. The search took {plural(len(tried), 'run')}, {_taken(records)}.{luck}"
    ]
    of_table = [record for _, _, record in study.done()]
    if other := [what for what, of in _PROVENANCE.items() if not {*map(of, records)} <= {*map(of, of_table)} and of_table]:
        sentences.append(f"The search's runs are of another {' and '.join(other)} than the table's.")
    if code := [name for name, values in _own_code(records).items() if not values <= _own_code(of_table).get(name, values)]:
        sentences.append(f"The search's runs are of other code of {some(code, SHOWN)} than the table's.")
    if failed:
        sentences.append(f"Failed in the search, and counted as worst there: {some(failed, SHOWN)}.")
    following, standing = list[str](), list[str]()
    for row, of_row in tuning.passed_over.items():
        for _, same in itertools.groupby(of_row, _settings_text):
            trials = list(same)
            stands = trials[0].settings == tuning.chosen.get(row)
            told = f"{study.row(row).title} {_settings_text(trials[0])} ({plural(len(trials), 'run')})"
            (standing if stands else following).append(told)
    if following:
        sentences.append(
            f"Best in the search, but passed over for the next best, for with all of train it diverged: {', '.join(following)}."
        )
    if standing:
        sentences.append(f"Diverged with all of train, yet best, for nothing sound was left: {', '.join(standing)}.")
    if given_up := sum(is_pruned(record) for record in records):
        sentences.append(f"Given up there, below the median of finished runs: {plural(given_up, 'run')}.")
    if open_ended := [study.row(row).title for row in tuning.chosen if tuning.at_end(row)]:
        bound = f" after {plural(declared.widen, 'widening')}" if declared.widen else ""
        sentences.append(f"Best at the end of the grid{bound}: {some(open_ended, SHOWN)}.")
    return sentences


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


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _in_parts(records: Sequence[Record]) -> str:
    told = _distinct(records, lambda record: record.setting("trainer.accumulate_grad_batches") or 1)
    return "" if told == "1" else f" in {told} parts, of which batch norm sees one at a time"


def _epochs(records: Sequence[Record]) -> str:
    told = _distinct(records, lambda record: record.config["recipe"]["epochs"])
    return f"{told} epoch{'' if told == '1' else 's'}"


def _recipe(records: Sequence[Record]) -> str:
    def of(name: str) -> str:
        return _distinct(records, lambda record: record.config["recipe"][name])

    parts = [
        _epochs(records),
        f"batches of {of('batch_size')}{_in_parts(records)}",
        f"crops of {_distinct(records, lambda record: record.config['recipe']['augmentation']['crop'])} px",
        f"{_distinct(records, _optimizer)}, learning rate {of('lr')}",
        f"precision {_distinct(records, lambda record: record.config['trainer']['precision'])}",
    ]
    if any((record.setting("loss.option") or _PLAIN) != _PLAIN or record.setting("loss.smoothing") for record in records):
        parts.append(f"loss {_distinct(records, _loss)}")
    if any(record.setting("recipe.ema_decay") for record in records):
        parts.append(f"moving average of the weights, decay {_distinct(records, lambda one: one.setting('recipe.ema_decay'))}")
    name = _distinct(records, lambda record: record.choices.get("recipe"))
    rule = "".join(f" {sentence}" for sentence in dict.fromkeys(filter(None, map(_rule, records))))
    return f"Recipe{f' {name}' if name else ''}: {', '.join(parts)}; seeds {_seeds(records)}.{rule}"


def _loss(record: Record) -> str:
    """Its option; of a sum its parts with their weights."""
    loss = record.setting("loss") or {"option": _PLAIN}
    name = str(loss["option"])
    if weights := {part: weight for part, weight in (loss.get("weights") or {}).items() if weight}:
        name = " + ".join(f"{weight:g} {part}" for part, weight in weights.items())
    return f"{name}{' smoothed' if loss.get('smoothing') else ''}".replace("_", " ")


def _rule(record: Record) -> str:
    """By which rule its training stopped before its recipe's epochs; empty if by none."""
    stop = record.setting("stop") or {}
    limits = [f"after {plural(stop[unit], unit.removesuffix('s'))}" for unit in ("epochs", "steps") if stop.get(unit)]
    if patience := stop.get("patience"):
        limits.append(
            f"once {plural(patience, 'validation')}, one every {plural(stop['every'], 'epoch')}, found no better mIoU on "
            f"{_percent(stop['share'])} of train, which is held out for that, val being read at the end alone"
        )
    return f"A training stops {' or '.join(limits)}." if limits else ""


def _optimizer(record: Record) -> str:
    optimizer = record.config["recipe"]["optimizer"]
    return str(optimizer.get("option") or optimizer["_target_"].rpartition(".")[2])  # the latter in records of schema 2


def _seeds(records: Sequence[Record]) -> str:
    return ", ".join(map(str, sorted({record.seed for record in records})))


def _backbone(records: Sequence[Record]) -> str:
    name = _distinct(records, _encoder)
    stride = _distinct(records, lambda record: record.config["backbone"]["output_stride"])
    return f"Backbone: {name}, output stride {stride}; weights: {_distinct(records, _weights, '; ')}."


def _encoder(record: Record) -> str:
    """With timm's name for it, where it is timm's and called otherwise."""
    backbone = record.config["backbone"]
    known = backbone.get("arguments") or backbone["name"] == record.encoder
    return record.encoder if known else f"{record.encoder} ({backbone['name']})"


def _weights(record: Record) -> str:
    """The record's description without its accuracy, which differs by seed, and without places on somebody's disk."""
    text = re.sub(r", accuracy .*", "", str(record.weights))
    if text.startswith("weights of "):
        return f"weights of {PurePath(text.removeprefix('weights of ')).name}"
    return text


def _machine(study: Study, records: Sequence[Record]) -> str:
    def of(name: str) -> Callable[[Record], Any]:
        return lambda record: getattr(record.environment, name)

    packages = sorted({name for record in records for name in record.environment.packages})
    versions = {name: _values(records, _version_of(name)) for name in packages}
    differing = [f"{name} {' or '.join(found)}" for name, found in versions.items() if len(found) > 1]
    text = f"Trained on {_distinct(records, of('device'), ' and ')}, threads: {_distinct(records, of('threads'))}"
    text += f", {plural(len(records), 'run')} of {_taken(records)} in all"
    text += f", torch {_distinct(records, _version_of('torch'))}"
    text += f", commit {_distinct(records, lambda record: record.environment.short_commit)}."
    if dirty := sum(bool(record.environment.uncommitted_changes) for record in records):
        text += f" {plural(dirty, 'run')} of {len(records)} ran with uncommitted changes."
    if unknown := sum(record.environment.uncommitted_changes is None for record in records):
        text += f" Whether {plural(unknown, 'run')} of {len(records)} ran with uncommitted changes is unknown."
    if old := sum(record.old for record in records):
        text += f" {plural(old, 'record')} of {len(records)} by an earlier version, which made keys otherwise."
    if len(_values(records, of("device"))) > 1 and study.measured is None:
        text += " Runs used different devices: their costs in time are not comparable."
    return text + (f" Package versions differ: {'; '.join(differing)}." if differing else "")


def _taken(records: Iterable[Record]) -> str:
    """Time of their trainings, one after the other."""
    seconds = sum(record.seconds for record in records)
    return f"{rounded(seconds / 3600)} h" if seconds >= 3600 else f"{rounded(seconds / 60)} min"


def _version_of(package: str) -> Callable[[Record], Any]:
    return lambda record: record.environment.packages.get(package)


def _values(records: Iterable[Record], of: Callable[[Record], Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for record in records if (value := of(record)) is not None))


def _distinct(records: Iterable[Record], of: Callable[[Record], Any], separator: str = " or ") -> str:
    return some(_values(records, of), SHOWN, separator)


def _range(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


# What costs are costs of, and how they were measured.

_MEANS = "means over seeds; in parentheses: the difference to the row that a row builds on."


def _cost_sentences(study: Study, records: Sequence[Record]) -> list[str]:
    """Of multiply-adds, latency, throughput and memory; the latter three from ``costs.json`` where the study has one.

    Args:
        study: of the table.
        records: of its finished runs.
    """
    if study.withheld:
        names = ", ".join(column.header for column in COSTS if column.key in study.withheld)
        said = f"Withheld: {names}, in which rows of one architecture differ by more than {100 * TOLERANCE:.0f} %."
        return [said, *_cost_sentences(replace(study, withheld=()), records)]
    costs = [record.costs for record in records if record.costs]
    counter = _joined(one.counter for one in costs)
    counted = f"GMACs: 10⁹ multiply-adds of one input {_shapes(one.input for one in costs)} ({counter})"
    if study.measured is not None:
        return [*([f"{counted}. Parameters and GMACs are {_MEANS}"] if costs else []), *_measured(study, study.measured)]
    if not costs:
        return ["Costs were not measured."]
    memory = _joined(one.memory_of for one in costs)
    return [f"{counted}; latency of the same input. Memory: peak of the {memory}. Costs are {_MEANS}"]


def _measured(study: Study, measured: MeasuredCosts) -> list[str]:
    by_row = {row.title: measured.of(row.records.values()) for row in study.rows if row.records}
    found = [costs for costs in by_row.values() if costs is not None]
    sentences = [_how(found, measured.conditions), *_busy(measured.conditions)] if found else []
    if missing := [title for title, costs in by_row.items() if costs is None]:
        verb = "it is" if len(missing) == 1 else "they are"
        listed = some(missing, SHOWN)
        sentences.append(f"Not in {FILE} as {verb} now, so without latency, throughput and memory: {listed}.")
    return sentences


def _how(rows: Sequence[RowCosts], under: Conditions) -> str:
    worst = max(one.share for row in rows for one in (row.latency_ms, row.train_images_per_second))
    commit = str(under.commit or "unknown")[:7] + uncommitted_text(under.uncommitted_changes)
    layouts = f" in {_joined(row.layout for row in rows)}" if all(row.layout for row in rows) else ""
    return (
        f"Latency, throughput: all rows measured in one process on {under.name}, {plural(under.threads, 'thread')} ({FILE}), "
        f"torch {under.torch}, commit {commit}: medians of {plural(under.rounds, 'round')} in which the rows take turns, "
        f"quartiles within {100 * worst:.0f} % of them. Latency: of one input {_shapes(row.input for row in rows)} in float32. "
        f"Throughput: of training steps with random images {_shapes(row.batch for row in rows)}, precision "
        f"{_joined(row.precision for row in rows)}{layouts}, without loading. "
        f"Memory: of such steps, peak of the {under.memory_of}, "
        f"{'each row in a process of its own' if under.device == 'cpu' else 'one row at a time'}."
    )


def _busy(under: Conditions) -> list[str]:
    if not under.busy:
        return []
    load = f"load average {under.load:.1f}, {plural(under.cores, 'core')}"
    return [f"The machine was busy with other work when measuring began ({load}): these times are not to be trusted."]


def _shapes(shapes: Iterable[Sequence[int]]) -> str:
    return _joined(TIMES.join(map(str, shape)) for shape in shapes)


def _joined(values: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(values))
