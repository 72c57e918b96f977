"""Splits made of others: several joined without an image that is held out, a part held out, images spread evenly."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from exfuse.data.split import Item, Split, check_disjoint, group_of
from exfuse.errors import DataError, plural
from exfuse.randomness import derive_seed


def join_splits(parts: Sequence[Split], held_out: Split, name: str) -> Split:
    """The images of all parts, in their order.

    An id names an image: one that several parts hold is taken from the first of them, with that part's mask, and one that
    ``held_out`` holds is left out of all.

    Args:
        parts: with the same classes, void ids and bands.
        held_out: the images that a score will be taken of.
        name: of the union, for messages.

    Raises:
        DataError: if there is nothing to join, parts differ in classes, voids or bands, nothing remains, or an image of
            ``held_out`` is still there under another id.
    """
    if not parts:
        raise DataError(f"{name} is a union of no data set at all. List its parts in the data config.")
    for part in parts:
        meant, others = ((one.classes, one.void_ids, one.ids, one.bands) for one in (parts[0], part))
        if meant != others:
            raise DataError(
                f"{name}: {parts[0].name} and {part.name} have different classes, voids or bands; they cannot be joined."
            )
    kept: dict[str, Item] = {}
    without = {item.id for item in held_out.items}
    for part in parts:
        for item in part.items:
            if item.id not in without:
                kept.setdefault(item.id, item)
    if not kept:
        raise DataError(f"{name} has no image that is not held out.")
    alike = len({part.orientation for part in parts}) == 1
    asked: dict[str, Any] = {"orientation": parts[0].orientation if alike else "refuse", "ordered": False, "seen": False}
    union = replace(parts[0], name=f"{name} train", items=tuple(kept.values()), left_out="", **asked)
    check_disjoint(union, held_out)
    return union


def seen_in_training(of: Split) -> Split:
    """The same images under a name that says so: nothing is held out, and what is scored was trained on.

    For the last training before a test server scores, which may use every label there is.
    """
    return replace(of, name=f"{of.name} (seen in training)", seen=True)


def divide(train: Split, share: float, seed: int) -> dict[str, Split]:
    """Hold a part of a training set out: ``train``, the rest, and ``val``, about ``share`` of the images.

    Groups of images that are not independent, such as the frames of one sequence, stay together: in an order that is drawn by
    the groups' names, each is held out that brings the part nearer to its size. Where all images are one group it is the last
    of them in a row, so that only its first frames have neighbours that are learnt.

    Args:
        train: a data set's training images.
        share: above 0 and below 1.
        seed: of the draw; the same images and seed give the same part, wherever the images lie.

    Raises:
        DataError: if either part would be empty.
    """
    groups: dict[str, list[Item]] = {}
    for item in train.items:
        groups.setdefault(group_of(item), []).append(item)
    wanted = share * len(train)
    held: set[str] = set()
    if len(groups) == 1:
        held = {item.id for item in train.items[len(train) - round(wanted) :]}
    for name in sorted(groups, key=lambda group: (derive_seed(seed, "held out", group), group)) if len(groups) > 1 else ():
        if abs(len(held) + len(groups[name]) - wanted) < abs(len(held) - wanted):
            held |= {item.id for item in groups[name]}
    if not held and len(groups) > 1:  # every group is more than twice as large as the part
        held = {item.id for item in min(groups.values(), key=lambda items: (len(items), items[0].id))}
    if not 0 < len(held) < len(train):
        raise DataError(
            f"{train.name} has {plural(len(train), 'image')} in {plural(len(groups), 'group')}: {share:g} "
            f"of them cannot be held out. Take a "
            "larger set, or another share."
        )
    rest, part = ([item for item in train.items if (item.id in held) is chosen] for chosen in (False, True))
    return {
        "train": replace(train, name=f"{train.name} without a held-out part", items=tuple(rest)),
        "val": replace(train, name=f"{train.name}, held-out part", items=tuple(part)),
    }


def seen_groups(train: Split, scored: Split) -> list[str]:
    """The groups of a split that is scored of which ``train`` has images, too; none of train itself."""
    return [] if scored.seen else sorted({item.group for item in train.items} & {item.group for item in scored.items} - {""})


def spread_evenly(total: int, wanted: int | None) -> list[int]:
    """Positions of ``wanted`` images, or of all for None, spread evenly over a split of ``total``, its ends among them."""
    number = total if wanted is None else min(wanted, total)
    return [int(position) for position in np.unique(np.linspace(0, total - 1, number).round())]
