"""Runs of other code held against each other: of one kind, on the same images, against the same truth."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from exfuse.errors import UserError
from exfuse.importing.stated import PAGE, FolderFile, Found
from exfuse.importing.study import usual_name
from exfuse.metrics.iou import Areas
from exfuse.metrics.means import Means
from exfuse.store.checked import plain
from exfuse.store.grouping import COLUMN, Grouping, grouping_of
from exfuse.store.metric import Metric

METRIC = "Say all three: metric.name=Dice metric.unit=fraction metric.better=higher; see docs/other_code.md."


def align(found: Sequence[Found], file: FolderFile, source: Path) -> tuple[list[Found], Grouping | None]:
    """The runs on the images of the first, in its order, complete with what holds for all; and the images' groups.

    Raises:
        UserError: if they do not belong together.
    """
    usual = file.name or usual_name(source)
    for one in found:
        for what, own, shared in (
            ("data", one.run.data, file.data),
            ("classes", one.run.classes, file.classes),
            ("metric", plain(one.run.metric), plain(file.metric)),
        ):
            if own and shared and own != shared:
                raise UserError(
                    f"{one.where} has other {what} than are said of all runs: {_differing(own, shared)}. Correct one, or leave "
                    "one out."
                )
    runs = [
        replace(
            one,
            run=msgspec.structs.replace(
                one.run,
                data=one.run.data or file.data or usual,
                classes=one.run.classes or file.classes,
                metric=one.run.metric or file.metric,
            ),
        )
        for one in found
    ]
    first, cells = runs[0], dict[tuple[str, int], Path]()
    for one in runs:
        cell = one.run.row, one.run.seed
        if cell in cells:
            raise UserError(f"{one.where} is row {cell[0]}, seed {cell[1]}, as {cells[cell]} is: two runs of one cell.")
        cells[cell] = one.path
        _check_alike(one, first)
    if len(first.ids) < 2 and len({seed for _, seed in cells}) < 2:
        raise UserError(f"{first.where} scores {len(first.ids)} image with one seed: intervals need two or more of either.")
    aligned = [_in_order(one, first) for one in runs]
    for one in aligned:
        _check_truth(one, aligned[0])
    grouping = _grouping(aligned[0], file)
    if grouping and grouping.ordered:
        _check_neighbours(runs, grouping)
    return aligned, grouping


def _check_alike(one: Found, first: Found) -> None:
    if type(one.additive) is not type(first.additive):
        raise UserError(f"{one.where} has {_kind(one)}, {first.where} {_kind(first)}: one table is of one kind.")
    for what, ours, theirs in (
        ("data", one.run.data, first.run.data),
        ("metric", plain(one.run.metric), plain(first.run.metric)),
        ("classes", one.run.classes, first.run.classes),
    ):
        if ours != theirs:
            raise UserError(
                f"{one.where} has other {what} than {first.where}: {_differing(ours, theirs)}. One table is of one."
            )
    classes = _classes(one)
    if classes != _classes(first):
        raise UserError(f"{one.where} counts {classes} classes, {first.where} {_classes(first)}: one table is of one data set.")
    if classes is not None and one.run.classes is not None and len(one.run.classes) != classes:
        raise UserError(f"{one.where} counts {classes} classes, but {len(one.run.classes)} are named.")
    if one.run.classes is not None and len({*one.run.classes}) < len(one.run.classes):
        raise UserError(f"{one.where}: two classes have one name.")
    if isinstance(one.additive, Means) and one.run.metric is None:
        raise UserError(f"{one.where} has scores, and nothing says of what. {METRIC}")
    if isinstance(one.additive, Areas) and one.run.metric is not None:
        raise UserError(f"{one.where} has counts, of which mIoU is computed here: leave out metric ({one.run.metric.name}).")
    more, same = sorted((one, first), key=predicts_more, reverse=True)
    if predicts_more(more) and _adds_up(same) and _errs(same):
        raise UserError(
            f"{more.where} counts more predicted pixels than true ones, {same.where} as many of both: one of them counts "
            "predictions where the truth is void. Count all runs alike."
        )
    if extra := sorted({*one.ids} - {*first.ids}):
        raise UserError(f"{one.where} scores an image {extra[0]} that {first.where} does not ({len(extra)} such).")
    if lacking := sorted({*first.ids} - {*one.ids}):
        raise UserError(f"{one.where} does not score image {lacking[0]}, as {first.where} does ({len(lacking)} such).")


def _differing(ours: Any, theirs: Any) -> str:
    if isinstance(ours, list) and isinstance(theirs, list):
        place = next((place for place, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
        return f"{len(ours)} and {len(theirs)}" if place is None else f"{ours[place]} and {theirs[place]} in place {place}"
    return f"{'nothing' if ours is None else ours} and {'nothing' if theirs is None else theirs}"


def _kind(one: Found) -> str:
    return "counts" if isinstance(one.additive, Areas) else "scores"


def _classes(one: Found) -> int | None:
    return one.additive.true.shape[1] if isinstance(one.additive, Areas) else None


def _in_order(one: Found, first: Found) -> Found:
    if one.ids == first.ids:
        return one
    place = {id: number for number, id in enumerate(one.ids)}
    order = [place[id] for id in first.ids]
    groups = None if one.groups is None else tuple(one.groups[number] for number in order)
    return replace(one, ids=first.ids, additive=one.additive.at(order), groups=groups)


def _check_neighbours(runs: Sequence[Found], grouping: Grouping) -> None:
    """Refuse runs that contradict each other in the order of a group's images, which is said to be one of time or space."""
    first = runs[0]
    place, group = {id: number for number, id in enumerate(first.ids)}, dict(zip(first.ids, grouping.groups, strict=True))
    for one in runs[1:]:
        last: dict[str, str] = {}
        for id in one.ids:
            before = last.get(group[id])
            if before is not None and place[before] > place[id]:
                raise UserError(
                    f"{one.where} lists image {before} before {id}, {first.where} behind it, and groups.ordered=true says that "
                    "their order is that in time or space. List those of all runs in this order, or leave out ordered."
                )
            last[group[id]] = id


def _check_truth(one: Found, first: Found) -> None:
    if one.groups != first.groups:
        raise UserError(f"{one.where} puts images into other groups than {first.where}.")
    ours, theirs = one.additive.shared, first.additive.shared
    if not np.array_equal(ours, theirs):
        image, which = (int(place) for place in np.argwhere(ours != theirs)[0])
        name = one.run.classes[which] if one.run.classes else which
        raise UserError(
            f"{one.where} does not add up with {first.where}: image {one.ids[image]} has {ours[image, which]} true pixels of "
            f"class {name} in the one and {theirs[image, which]} in the other. Score all runs against the same masks."
        )
    if isinstance(one.additive, Means) and one.run.metric is not None:
        top, scores = Metric(unit=one.run.metric.unit).top, one.additive.scores
        if top is not None and (wrong := (scores < 0) | (scores > top)).any():
            image = int(np.argmax(wrong))
            raise UserError(
                f"{one.where}: image {one.ids[image]} scores {scores[image]:g}, which is no {one.run.metric.unit}: expected 0 "
                f"to {top:g}. The unit is fraction, percent or one of your own, such as px."
            )


def _grouping(first: Found, file: FolderFile) -> Grouping | None:
    rule = file.groups
    if rule is None or rule.by == COLUMN:
        if first.groups is None:
            if rule is not None:
                raise UserError(f"{first.path}: groups are said to stand beside the images, but none do. {PAGE}")
            return None
        found = Grouping(first.groups, rule is not None and rule.ordered)
    else:
        found = grouping_of(first.ids, rule, "groups.by")
    return None if found.alone else found


def _beyond(one: Found) -> NDArray[np.int64]:
    """How many more pixels of each image are predicted than are true: none where void is left out.

    Fewer are, where a network predicts classes that are not scored.
    """
    return np.zeros(1, np.int64) if isinstance(one.additive, Means) else (one.additive.predicted - one.additive.true).sum(-1)


def predicts_more(one: Found) -> bool:
    """In some image, and fewer in none, as where classes are left out."""
    beyond = _beyond(one)
    return bool(beyond.max() > 0 and beyond.min() >= 0)


def _adds_up(one: Found) -> bool:
    return not _beyond(one).any()


def _errs(one: Found) -> bool:
    """A run without errors adds up whatever was left out."""
    return isinstance(one.additive, Areas) and bool((one.additive.hit < one.additive.true).any())
