"""Several data sets as one training set, without an image that is held out."""

from collections.abc import Sequence

from exfuse.data.split import Item, Split, check_disjoint
from exfuse.errors import DataError


def join_splits(parts: Sequence[Split], held_out: Split, name: str) -> Split:
    """The images of all parts, in their order.

    An id names an image: one that several parts hold is taken from the first of them, with that part's mask, and one that
    ``held_out`` holds is left out of all.

    Args:
        parts: with the same classes and void ids.
        held_out: the images that a score will be taken of.
        name: of the union, for messages.

    Raises:
        DataError: if there is nothing to join, parts name different classes or voids, nothing remains, or an image of
            ``held_out`` is still there under another id.
    """
    if not parts:
        raise DataError(f"{name} is a union of no data set at all. List its parts in the data config.")
    for part in parts:
        if (part.classes, part.void_ids) != (parts[0].classes, parts[0].void_ids):
            raise DataError(f"{name}: {parts[0].name} and {part.name} name different classes or voids; they cannot be joined.")
    kept: dict[str, Item] = {}
    without = {item.id for item in held_out.items}
    for part in parts:
        for item in part.items:
            if item.id not in without:
                kept.setdefault(item.id, item)
    if not kept:
        raise DataError(f"{name} has no image that is not held out.")
    union = Split(f"{name} train", tuple(kept.values()), parts[0].classes, parts[0].void_ids)
    check_disjoint(union, held_out)
    return union


def seen_in_training(of: Split) -> Split:
    """The same images under a name that says so: nothing is held out, and what is scored was trained on.

    For the last training before a test server scores, which may use every label there is.
    """
    return Split(f"{of.name} (seen in training)", of.items, of.classes, of.void_ids, seen=True)
