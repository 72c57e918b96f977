"""What a table's statistics rest on: seeds, images and resamples, which differences are findings, and what none of it says."""

from collections.abc import Callable, Collection, Sequence

from exfuse.analysis.cells import said
from exfuse.analysis.comparisons import ALPHA, Compared, Comparison, resamples
from exfuse.analysis.document import MINUS, SHOWN
from exfuse.analysis.draws import FRAMES, GROUPS, IMAGES, NOTHING
from exfuse.analysis.footnotes.wording import span
from exfuse.analysis.frequent import ENOUGH, by_images
from exfuse.analysis.resampling import Interval
from exfuse.errors import plural, some
from exfuse.store.study import Study

FEW = 200
FEW_IMAGES = f"One seed and fewer than {FEW} images: up to 10 % of such intervals missed in simulations, not 5 %."
IMAGES_ONLY = "interval from one seed: over images only, it says nothing about the noise of training."


def about_statistics(study: Study, compared: Compared) -> list[str]:
    """What a score is, over which seeds, and how differences were told from zero."""
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
    return sentences + (_intervals(intervals, study, compared) if intervals else []) + about_claims(study, compared)


def about_claims(study: Study, compared: Compared, called: Callable[[str], str] = str, strong: str = "") -> list[str]:
    """What became of each claim: a row's difference to the one of others that comes nearest to refuting it.

    Args:
        study: with the claims.
        compared: its comparisons.
        called: what becomes of a row's title.
        strong: what stands around a claim that is established.
    """
    told = []
    for claim, one in zip(study.claims, compared.claims, strict=True):
        title, *others = [called(study.row(name).title) for name in (claim.row, *claim.of)]
        nearest = f"; nearest is {called(study.row(one.base).title)}, " if one.interval and len(others) > 1 else ": "
        each = "each of " if len(others) > 1 else ""
        what = f"{title} lies {claim.lies} {each}{', '.join(others)}{nearest}{said(one, study.metric)}"
        told.append(f"{strong}Established: {what}.{strong}" if one.found else f"Not established: that {what}.")
    return told


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
    images, units = span(one.images for one in intervals), [one.units for one in intervals]
    split = "the" if study.imported else "val's"
    drawn = f"{resamples(len(study.done())):,} bootstrap resamples of {split} {images} images"
    kind = units[0].kind
    if kind == NOTHING:
        return "no resampling of images"
    if kind == GROUPS:
        return f"{drawn} by whole groups"
    if kind == FRAMES:
        return f"{drawn} in blocks of {span(one.length for one in units)} frames, by their autocorrelation"
    return drawn


def scope(study: Study, compared: Sequence[Comparison]) -> list[str]:
    """Of what other images than these the intervals speak, where that is not of all that are like them."""
    kinds = {one.interval.units.kind for one in compared if one.interval}
    row = study.row(next(one.row for one in compared if one.interval))
    grouping = study.grouping(next(run for run in row.runs.values() if run.done))
    if grouping is None and kinds == {NOTHING}:
        return ["One image was scored, which says nothing of others: intervals are over seeds alone."]
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


_EDGES = ("interior", "edge", "boundary")  # columns of parts of the pixels


def about_columns(study: Study, keys: Collection[str] = ("frequent", *_EDGES)) -> list[str]:
    """What the columns of these keys, which stand beside the score's, are of."""
    told = []
    if "frequent" in keys and (found := by_images(study)):
        shown = ", ".join(f"{'class ' if name.isdecimal() else ''}{name} {images}" for name, images in found.rare.items())
        told.append(
            f"Frequent: mIoU over the {len(found.frequent)} classes that {ENOUGH} images or more show. The others weigh as "
            f"much in mIoU, though one image may decide them; images that show them: {shown}."
        )
    if study.edge_radius is not None and {*keys} & {*_EDGES}:
        told.append(
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
    return [" ".join([*told, of_all])] if told else []
