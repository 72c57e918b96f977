"""What every reader hands on: the listed images of a split, of one data set or several, checked before any training."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, get_args

import numpy as np

from exfuse.data.bands import RGB, Bands
from exfuse.data.contents import Content, content_hashes, contents
from exfuse.data.pixels import Facts, look_at_mask, read_mask, turned_size, unknown_ids
from exfuse.data.text import check_class_names, check_ids
from exfuse.errors import DataError, UserError, plural, some
from exfuse.limits import Orientation
from exfuse.palette import VOID, voc_palette
from exfuse.store.grouping import Grouping, GroupRule, check_order

_CLOSE = 8  # a channel: a palette that a program wrote anew may be off by so much


@dataclass(frozen=True)
class Item:
    """One image and its mask.

    Attributes:
        upright: whether the image is turned as its camera says before anyone sees it.
        group: of images that are not independent; empty for one that stands alone.
    """

    id: str
    image: Path
    mask: Path
    upright: bool = False
    group: str = ""

    def __post_init__(self) -> None:  # readers of others may give text
        object.__setattr__(self, "image", Path(self.image))
        object.__setattr__(self, "mask", Path(self.mask))


@dataclass(frozen=True)
class Split:
    """An ordered list of images with masks whose ids mean ``classes``.

    Attributes:
        name: of the data set and split, for messages.
        items: the images; their order never depends on the file system.
        classes: names of the ids 0..C-1.
        void_ids: ids in the mask files that mean void; they are read as 255.
        seen: whether these are known to be images that are trained on as well, as the name then says.
        left_out: what lies beside these images and is not read, for people.
        ordered: whether images that follow each other within a group do so in time or space too, as frames of a video.
        bands: what is read of the images.
        ids: of the classes in the mask files, in their order; empty where these are 0..C-1, as they are once they are read.
        orientation: of images that their EXIF turns, see `make_split`.
    """

    name: str
    items: tuple[Item, ...]
    classes: tuple[str, ...]
    void_ids: tuple[int, ...] = (VOID,)
    seen: bool = False
    left_out: str = ""
    ordered: bool = False
    bands: Bands = RGB
    ids: tuple[int, ...] = ()
    orientation: Orientation = "refuse"

    def __len__(self) -> int:
        return len(self.items)

    @property
    def grouping(self) -> Grouping:
        """The group of every image; an image that stands alone is its own."""
        return Grouping(tuple(map(group_of, self.items)), self.ordered)

    def image(self, position: int) -> np.ndarray:
        """(H, W, channels) uint8, RGB unless ``bands`` says otherwise.

        Raises:
            DataError: see `Bands.read`.
        """
        return self.bands.read(self.items[position].image, self.items[position].upright)

    def mask(self, position: int) -> np.ndarray:
        """(H, W) uint8 ids, void as 255.

        Raises:
            DataError: see `read_mask`.
        """
        return read_mask(self.items[position].mask, len(self.classes), self.void_ids, self.ids)

    def size(self, position: int) -> tuple[int, int]:
        """Width and height of an image, from its header."""
        return self.bands.size(self.items[position].image, self.items[position].upright)

    def manifest(self) -> str:
        """SHA-256 over the classes, the ids in order and the content of their files: what the data are, not where."""
        digest = hashlib.sha256(repr((self.classes, self.void_ids, *([self.ids] if self.ids else []))).encode())
        if not self.bands.usual:
            digest.update(repr(self.bands).encode())
        hashes = iter(content_hashes([path for item in self.items for path in (item.image, item.mask)]))
        for item in self.items:
            digest.update(f"{item.id} {next(hashes)} {next(hashes)}{' upright' if item.upright else ''}\n".encode())
        return digest.hexdigest()


def make_split(
    name: str,
    items: Iterable[Item],
    classes: Sequence[str],
    void_ids: Sequence[int] = (VOID,),
    count: int | None = None,
    orientation: Orientation = "refuse",
    left_out: str = "",
    groups: str | Mapping[str, str] | None = None,
    ordered: bool = False,
    bands: Bands = RGB,
    ids: Sequence[int] = (),
) -> Split:
    """Check that every listed file is there and fits, every mask by all of its pixels; return the split.

    What was found of a file is remembered with its content, so that a split is read through once.

    Args:
        name: of the data set and split, for messages.
        items: images and masks.
        classes: names of the ids 0..C-1.
        void_ids: ids that mean void.
        count: how many images a complete copy has, where that is known.
        orientation: of images whose EXIF says that they are to be turned: ``stored`` where masks were drawn on the pixels as
            they are stored, ``upright`` where on the turned photograph, ``refuse`` if nobody said which.
        left_out: see `Split`.
        groups, ordered: which images are not independent, see `exfuse.store.grouping.GroupRule`; a mapping names the group of
            every id.
        bands: see `Split`.
        ids: see `Split`.

    Raises:
        UserError: if ``groups`` cannot be used.
        DataError: on an empty split, a wrong count, names that are none or occur twice, a missing or unreadable file, a mask
            that holds colours, unknown ids or a palette in another order, or an image and a mask of different sizes.
    """
    found, classes, void_ids, ids, bands = _checked(name, items, classes, void_ids, ids, bands, orientation)
    if groups is not None:
        found = tuple(replace(item, group=_named_group(item.id, groups, name)) for item in found)
    if ordered:
        if groups is None:
            raise UserError(
                f"{name}: data.ordered=true, and no data.groups, within which images follow each other. Name the part of a "
                "name that is the video's or scan's (data.groups='([^_]+)_'), or list groups beside them (data.groups=column)."
            )
        check_order([item.id for item in found], [*map(group_of, found)])
    kept: dict[str, Any] = {"left_out": left_out, "ordered": ordered, "bands": bands, "orientation": orientation}
    split = Split(name, found, classes, void_ids, ids=ids, **kept)
    check_class_names(split.classes, name)
    if ids and (len(split.ids) != len(split.classes) or len({*split.ids}) < len(split.ids)):
        raise DataError(
            f"{name}: data.ids has {len({*split.ids})} different ids for {plural(len(split.classes), 'class')} (data.classes): "
            "expected one of each, in the order of the names."
        )
    named = dict(zip(split.ids or range(len(split.classes)), split.classes, strict=True))
    if both := sorted({*named} & {*split.void_ids}):
        raise DataError(
            f"{name}: {both[0]} is the id of {named[both[0]]} and one of data.void_ids: is it a class, or void? Leave it out "
            f"of data.void_ids; or leave {named[both[0]]} out of data.classes and say which ids the others have (data.ids)."
        )
    if not split.items:
        raise DataError(f"{name} lists no image at all. Check its list file or folder.")
    check_ids((item.id for item in split.items), name)
    if count is not None and len(split) != count:
        raise DataError(
            f"{name} has {plural(len(split), 'image')} where a complete copy has {count:,}. Complete the data set, or set the "
            "expected count of this split to null in its data config to use it as it is."
        )
    problems = [*filter(None, map(_missing, split.items))]
    turned = set[str]()
    if not problems:
        look = bands.look()
        images = contents([item.image for item in split.items], look)
        masks = contents([item.mask for item in split.items], look_at_mask)
        for item, image, mask in zip(split.items, images, masks, strict=True):
            if problem := _problem(item, image.looks[look.__name__], mask, split, orientation):
                problems.append(problem)
            if orientation == "upright" and image.looks[look.__name__].orientation > 1:
                turned.add(item.id)
        problems += _palette_problems([item.mask for item in split.items], masks, len(split.classes))
    if problems:
        more = f" {len(problems) - 1} more of its files cannot be used either." if len(problems) > 1 else ""
        raise DataError(f"{name}: {problems[0]}{more}")
    return replace(split, items=tuple(replace(item, upright=True) if item.id in turned else item for item in split.items))


def _checked(
    name: str, items: Any, classes: Any, void_ids: Any, ids: Any, bands: Any, orientation: Any
) -> tuple[tuple[Item, ...], tuple[str, ...], tuple[int, ...], tuple[int, ...], Bands]:
    """What `make_split` works with, where all of this is what it says of it: somebody's reader may give anything."""
    lists = {"items": items, "classes": classes, "void_ids": void_ids, "ids": ids}
    for key, given in lists.items():
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise DataError(f"{name}: make_split was given {key}={given!r:.80}, expected a list. See docs/extend.md.")
    lists = {key: [*given] for key, given in lists.items()}
    lists |= {"bands": [bands], "orientation": [orientation]}
    expected: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "items": ("exfuse.data.split.Item of a text id", lambda one: isinstance(one, Item) and isinstance(one.id, str)),
        "classes": ("text", lambda one: isinstance(one, str)),
        "void_ids": ("a number from 0 to 255", _is_id),
        "ids": ("a number from 0 to 255", _is_id),
        "bands": ("exfuse.data.bands.Bands", lambda one: isinstance(one, Bands)),
        "orientation": (" or ".join(get_args(Orientation)), lambda one: one in get_args(Orientation)),
    }
    for key, (wanted, fits) in expected.items():
        if wrong := [one for one in lists[key] if not fits(one)]:
            raise DataError(f"{name}: make_split was given {wrong[0]!r:.80} in {key}, expected {wanted}. See docs/extend.md.")
    if len(lists["classes"]) > VOID:
        raise DataError(f"{name}: make_split was given {len(lists['classes'])} classes, expected {VOID} at most.")
    if bands.problem:
        raise DataError(f"{name}: make_split was given bands of {bands.problem}")
    void_ids, ids = (tuple(map(int, lists[key])) for key in ("void_ids", "ids"))
    return tuple(lists["items"]), tuple(map(str, lists["classes"])), void_ids, ids, bands.plain


def _is_id(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) < 256


def check_folders(name: str, folders: Iterable[Path], hint: str) -> None:
    """Refuse data of which a folder is not there; ``hint`` is said behind that, with the blank or line break before it.

    Raises:
        DataError: that names the folder.
    """
    for folder in folders:
        if not folder.is_dir():
            there = sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) if folder.parent.is_dir() else []
            others = f" {folder.parent} has {some(there)}." if there else ""
            raise DataError(f"{name} data not found: no folder {folder}.{others}{hint}")


def check_disjoint(train: Split, val: Split) -> None:
    """Refuse two splits that share an image, unless ``val`` says that it does, or that name their ids differently.

    An image is known by its content, under whichever name and behind whichever link it lies.

    Raises:
        DataError: naming one of the shared images, or the classes.
    """
    if not val.seen and (shared := same_images([i.image for i in train.items], [i.image for i in val.items])):
        raise DataError(
            f"{train.name} and {val.name} share {plural(len(shared), 'image')}, e.g. {shared[0]}: unlist them in one."
        )
    if train.classes != val.classes:
        raise DataError(f"{train.name} and {val.name} name different classes: {train.classes} and {val.classes}.")
    paths = [item.mask for split in (train, val) for item in split.items]
    if problem := next(_palette_problems(paths, contents(paths, look_at_mask), len(train.classes)), ""):
        raise DataError(f"{train.name} and {val.name}: {problem}")


def same_images(some: Sequence[Path], others: Sequence[Path]) -> list[str]:
    """Which of ``some`` have the content of one of ``others``, in words."""
    known = dict(zip(content_hashes(others), others, strict=True))
    pairs = [(path, known[digest]) for path, digest in zip(some, content_hashes(some), strict=True) if digest in known]
    return [str(one) if one == other else f"{one}, which is {other}" for one, other in sorted(pairs)]


def _missing(item: Item) -> str:
    for kind, path in (("image", item.image), ("mask", item.mask)):
        if not path.is_file():
            near = _neighbours(path)
            return f"{item.id} is listed but its {kind} {path} does not exist.{near} Restore the file or unlist the id."
    return ""


def _neighbours(path: Path) -> str:
    """Files that may be meant: called alike but for the ending, capitals or something behind the name."""
    stem = path.stem.casefold()
    try:
        close = sorted(other.name for other in path.parent.iterdir() if other.name.casefold().startswith(stem))
    except OSError:
        return ""
    exact = [name for name in close if not name[len(stem)].isalnum()] if all(len(name) > len(stem) for name in close) else close
    return f" The folder holds {', '.join(exact[:3])}." if exact else ""


def _problem(item: Item, seen: Facts, mask: Content, split: Split, orientation: Orientation) -> str:
    """What is wrong with an item; empty if nothing is."""
    ids = mask.looks[look_at_mask.__name__]
    for path, facts in ((item.image, seen), (item.mask, ids)):
        if facts.problem:
            return f"{path} {facts.problem}"
    upright, shown = turned_size(seen), seen.size
    if seen.orientation > 1:
        told = f"{item.image} is to be turned, its EXIF says (orientation {seen.orientation})"
        fits = {rule for rule, size in (("stored", seen.size), ("upright", upright)) if size == ids.size}
        if fits and orientation not in fits:
            if len(fits) > 1:
                return (
                    f"{told}: was its mask drawn on the pixels as they are stored, or on the upright photograph? Set "
                    "data.orientation=stored or upright, for all images, or remove the tag."
                )
            (rule,) = fits
            return f"{told}; {_by(ids.size)}, its mask fits it only so: data.orientation={rule}, for all images."
        shown = upright if orientation == "upright" else seen.size
    if shown != ids.size:
        scale = "Scale the mask, without blending ids."
        return f"{item.image} is {_by(shown)} but its mask {item.mask} is {_by(ids.size)} pixels. {scale}"
    if problem := unknown_ids([*ids.counts], len(split.classes), split.void_ids, split.ids):
        return f"{item.mask} {problem}"
    return ""


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _palette_problems(paths: Sequence[Path], masks: Sequence[Content], classes: int) -> Iterator[str]:
    """Masks whose palettes say that their ids mean other classes than in other masks, or than VOC's colours stand for.

    Grey-scale masks, and palettes that are grey-scale ramps, say nothing.
    """
    first: dict[int, tuple[int, Path]] = {}
    agreed = set[tuple[int, int]]()  # most masks have the palette of another
    save = "Save it again with the palette of the others or as grey-scale, once its ids are right"
    for path, mask in zip(paths, masks, strict=True):
        for id, colour in mask.looks[look_at_mask.__name__].colours.items():
            if colour == 0x010101 * id or (id, colour) in agreed:
                continue
            known, where = first.setdefault(id, (colour, path))
            if _alike(known, colour):
                agreed.add((id, colour))
            else:
                yield f"{path} shows id {id} as #{colour:06x}, {where} as #{known:06x}: one means other classes. {save}."
                break
    usual = {id: int.from_bytes(voc_palette()[id].tobytes(), "big") for id in (*range(classes), VOID)}
    shown = {id: (colour, where) for id, (colour, where) in first.items() if colour}  # black may be no colour at all
    meant = {id: next((name for name, known in usual.items() if _alike(known, shown[id][0])), None) for id in shown}
    if None not in meant.values():
        for id, name in meant.items():
            if id != name:
                yield f"{shown[id][1]} shows id {id} in VOC's colour of id {name}: its ids were put in another order. {save}."


def _alike(one: int, other: int) -> bool:
    return all(abs((one >> shift & 255) - (other >> shift & 255)) <= _CLOSE for shift in (0, 8, 16))


def group_of(item: Item) -> str:
    """Its group; an image that stands alone is its own."""
    return item.group or item.id


def _named_group(id: str, groups: str | Mapping[str, str], name: str) -> str:
    if isinstance(groups, str):
        return GroupRule(groups).group(id)
    if id not in groups:
        raise DataError(f"{name}: the list of groups does not name {id}. Add a line with its name and its group.")
    return groups[id]
