"""Which images are not independent: frames of a video, tiles of one scan, photographs of one patient."""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from exfuse.errors import UserError
from exfuse.files import config_dirs

FIRST_PART, COLUMN = "first_part", "column"
_NUMBER = re.compile(r"\d+", re.ASCII)
_HEXADECIMAL = re.compile("[0-9a-f]+|[0-9A-F]+")
_FIRST_PART = r"([^_\-./ ]+)"


class GroupRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How images are grouped, a setting of the data; it changes what intervals say and nothing that is trained.

    Attributes:
        by: ``first_part``: of an image's name, up to the first of ``_ - . /`` or blank; ``column``: what stands beside the name
            in the data's lists; anything else is a regular expression whose first parenthesis is the group, sought from the
            name's beginning.
        ordered: whether images that follow each other in a group's list follow each other in time or space too.
    """

    by: str
    ordered: bool = False

    def group(self, name: str, key: str = "data.groups") -> str:
        """Of the image of this name; not by `COLUMN`, which no name tells. ``key`` is what the rule is called where it stands.

        Raises:
            UserError: if the expression is none, has no parenthesis or does not fit the name.
        """
        try:
            found = re.match(_FIRST_PART if self.by == FIRST_PART else self.by, name)
            if found and found[1]:
                return found[1]
        except (re.error, IndexError) as error:
            raise UserError(
                f"{key}={self.by!r} cannot be used ({error}): expected {FIRST_PART}, {COLUMN} or a regular expression "
                "with one parenthesis around the group, such as '([^_]+)_'."
            ) from error
        raise UserError(
            f"{key}={self.by!r} does not fit the image name {name!r}: it must fit the beginning of all, and its first "
            "parenthesis one character or more."
        )


@dataclass(frozen=True)
class Grouping:
    """The group of every image, in the images' order, and whether the order within a group counts."""

    groups: tuple[str, ...]
    ordered: bool = False

    @property
    def alone(self) -> bool:
        """Whether every image is a group of its own, so that there is nothing to mind."""
        return len(set(self.groups)) == len(self.groups)


def grouping_of(names: Sequence[str], rule: GroupRule, key: str = "data.groups") -> Grouping:
    """Group images by their names, by a rule that is called ``key`` where it stands.

    Raises:
        UserError: see `GroupRule.group` and `check_order`.
    """
    groups = tuple(rule.group(name, key) for name in names)
    if rule.ordered:
        check_order(names, groups)
    return Grouping(groups, rule.ordered)


_FURTHER = ("", ".", "_")  # what stands behind an image's name in its file's, by which a folder's images are sorted


def check_order(names: Sequence[str], groups: Sequence[str]) -> None:
    """Refuse images that follow each other as their names are spelt, and not as their numbers count.

    Compared are names that are alike but for their digits: views of a scene lie between each other. A group in another order
    than that of its names' letters, or of its files', is taken as it is: somebody listed it.

    Raises:
        UserError: naming two images.
    """
    if found := falling(names, groups, lambda own: any(own == sorted(own, key=lambda name: name + more) for more in _FURTHER)):
        raise UserError(
            f"data.ordered=true, and {found[0]} comes before {found[1]}, as names are sorted by their letters. Write their "
            "numbers all as long, with zeros in front, or behind a decimal point."
        )


def falling(names: Sequence[str], groups: Sequence[str], doubted: Callable[[list[str]], bool] = bool) -> tuple[str, str] | None:
    """Of a ``doubted`` group two images, alike but for their numbers, of which the first has the larger ones; None: of none."""
    of_groups: dict[str, list[str]] = {}
    for name, group in zip(names, groups, strict=True):
        of_groups.setdefault(group, []).append(name)
    for own in filter(doubted, of_groups.values()):
        kinds: dict[str, list[str]] = {}
        for name in own:
            kinds.setdefault(_NUMBER.sub("#", name), []).append(name)
        for alike in () if len(kinds) > 1 and _are_hexadecimal(own) else kinds.values():
            for before, after in pairwise(alike):
                if _numbers(before) > _numbers(after):
                    return before, after
    return None


def _are_hexadecimal(names: Sequence[str]) -> bool:
    """Whether names are alike but for hexadecimal numbers of one length, which letters sort as well."""
    if len({*map(len, names)}) > 1:
        return False
    differing = [place for place, letters in enumerate(zip(*names, strict=True)) if len({*letters}) > 1]
    numbers = [name[differing[0] : differing[-1] + 1] for name in names]
    return all(map(_HEXADECIMAL.fullmatch, numbers)) and len({number[-1].isdigit() for number in numbers}) == 2


def _numbers(name: str) -> list[int]:
    return [int(number) for number in _NUMBER.findall(name)]


def rule_of(data: str) -> GroupRule | None:
    """The rule that the config of the data set of this name states; None where it states none.

    For records of versions that knew no groups: their counts name the images all the same.
    """
    stated = _stated(config_dirs()).get(data)
    return GroupRule(*stated) if stated else None


@functools.cache
def _stated(folders: tuple[Path, ...]) -> dict[str, tuple[str, bool]]:
    """Groups, and whether they are ordered, by the name of the data set; of several files the first in the last folder."""
    found: dict[str, tuple[str, bool]] = {}
    for path in [path for folder in reversed(folders) for path in sorted(folder.glob("data/*.yaml"))]:
        content = msgspec.yaml.decode(path.read_bytes())
        if isinstance(content, dict) and content.get("groups") not in (None, COLUMN):
            found.setdefault(str(content.get("name")), (str(content["groups"]), bool(content.get("ordered", False))))
    return found
