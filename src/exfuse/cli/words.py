"""From the words that were typed to a verb, its things and Hydra's arguments; spellings of earlier versions are translated."""

import difflib
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args, get_origin

from exfuse.cli.verbs import VERBS, Verb
from exfuse.config import search_path
from exfuse.config.signatures import signature
from exfuse.config.words import as_typed
from exfuse.errors import UsageError, nearest
from exfuse.files import CONFIG_DIR

_OVERRIDE = re.compile(r"(\+{0,2}|~)(?P<key>[A-Za-z_][\w./@:-]*)=|~")
_FLAGS = {"--cfg": 1, "-c": 1, "--package": 1, "-p": 1, "--config-path": 1, "-cp": 1, "--config-name": 1, "-cn": 1} | {
    **{"--config-dir": 1, "-cd": 1, "--experimental-rerun": 1, "--info": 0, "-i": 0, "--hydra-help": 0, "--version": 0},
    **{"--resolve": 0, "--run": 0, "-r": 0, "--multirun": 0, "-m": 0, "--shell-completion": 0, "-sc": 0},
}  # Hydra's own, and how many words follow each
_KEY = re.compile(r"^(?:  - )?\"?(?P<key>\w[\w/]*)\"?:", re.MULTILINE)
_PLAIN = re.compile(r"^(\w+): +[^$\s]", re.MULTILINE)
_USUAL = {"runs": "runs list", "study": "study list"}  # what the first word alone means
_ADDED = ("ablation", "study")  # config groups that say which variant or variants, beside all others
_NAME = re.compile(r"[A-Za-z_][\w./]*")  # of a key
_ITEM = re.compile(r"""\s*('[^']*'|"[^"]*"|[^,]*)\s*,""")
_PAIRS = {"size": 2}  # options that took several words


class Command(NamedTuple):
    """A command line, read.

    Attributes:
        verb: what to do.
        arguments: flags and overrides, for Hydra.
        things: values for keys of the verb's config, to be set once it is composed.
        notes: new spellings of what was typed in an earlier version's.
    """

    verb: Verb
    arguments: list[str]
    things: dict[str, Any]
    notes: list[str]


def read_command(words: Sequence[str]) -> Command:
    """Read what follows ``exfuse``.

    Raises:
        UsageError: if there is no such verb, or it does not take so many things.
    """
    verb, rest, notes = find_verb(words)
    if verb.short_for is not None:
        whole, choice = verb.short_for
        return read_command([whole, f"+{choice}", *(_of_the_study(word, verb) for word in rest)])
    arguments: list[str] = []
    loose: list[str] = []
    things: dict[str, Any] = {}
    keys = own_keys(verb)
    filters = {*_PLAIN.findall(_text(verb))} & {*search_path.groups()}  # keys that are called as config groups are
    listed = {thing.key for thing in verb.things if "=" in thing.word}
    hands_on = any(thing.key == "overrides" for thing in verb.things)
    places = [thing for thing in verb.things if "=" not in thing.word and thing.key not in ("source", "overrides")]
    named = {word: thing for thing in places for word in (thing.name, thing.key)}
    if {"-m", "--multirun"} & {*rest}:
        named = {}  # Hydra sweeps over them
    rest = list(reversed(rest))
    while rest:
        word = rest.pop()
        option, _, value = word.removeprefix("--").partition("=")
        override = _OVERRIDE.match(word)
        if override and re.split(r"[./]", override["key"] or "")[0] == "tracker" and "logger" in keys:
            word = word.replace("tracker", "logger", 1)  # which trackers are to people, and Lightning's word is not
        if (not verb.work or hands_on) and word.partition("=")[0] in _ADDED:
            word = f"+{word}"  # no defaults list has them; a plus is Hydra's matter
        flag, is_one, its_value = word.partition("=")
        if is_one and _FLAGS.get(flag) == 1:  # as argparse reads it
            rest.append(its_value)
            word = flag
        if _FLAGS.get(word, 0) > len(rest):
            raise UsageError(f"{word}: expected what it is to be behind it, such as {word} conf.")
        if word in _FLAGS or word.startswith(("-i=", "--info=")):
            arguments += [word, *(rest.pop() for _ in range(_FLAGS.get(word, 0)))]
            if word in ("--info", "-i") and rest and rest[-1] in ("all", "config", "defaults", "defaults-tree", "searchpath"):
                arguments.append(rest.pop())
        elif word.startswith("--") and (option.replace("-", "_") in keys or word == "--dynamic"):
            spelt, notes = _new_spelling(option, value, rest, notes)
            arguments.append(spelt)
        elif word.startswith("-") and len(word) > 1:
            raise UsageError(f"{word}: no such option. Options are key=value; see exfuse {verb.name} --help.")
        elif override is None or (verb.things and os.path.exists(word)):  # noqa: PTH110 - a word too long for a path is no file
            loose.append(word)
        elif override["key"] == "study" and "study" in keys:
            things["study.folder"] = _text_of(word)  # study is a config group too, for which Hydra would take it
        elif (thing := named.get(word.partition("=")[0])) is not None:  # text as it is, though it may look like a number
            things[thing.key] = _items(word) if thing.many and not word.endswith("=null") else _text_of(word)
        elif hands_on and override["key"] == "overrides":
            raise UsageError(f"{word}: type each of them by itself, key=value.")
        elif override["key"] in filters:
            things[override["key"]] = _text_of(word)
        elif override["key"] in listed:
            things[override["key"]] = _items(word)
        elif hands_on and re.split(r"[./@]", override["key"] or "")[0] not in (*keys, "hydra"):
            things.setdefault("overrides", []).append(word)
        else:
            arguments.append(word if not verb.work or override["key"] not in keys else _listed(verb, word))
    _place(verb, loose, things, arguments)
    return Command(verb, arguments, things, [*notes, *_replaced(words)])


def _replaced(words: Sequence[str]) -> list[str]:
    """Of a key that was typed more than once, with different values, which of them holds: the last, as everywhere in Hydra.

    A group's second option, and a key that is added twice, Hydra refuses.
    """
    last: dict[str, str] = {}
    notes, groups = [], {*search_path.groups()}
    for word in words:
        if (override := _OVERRIDE.match(word)) and (key := override["key"]) and not word.startswith("+"):
            if key not in groups and last.get(key, word) != word:
                notes.append(f"{word} replaces {last[key]}, which was typed before it")
            last[key] = word
    return notes


def _of_the_study(word: str, verb: Verb) -> str:
    """A key of the option that a verb stands for, typed without its group: ``baseline=...``, with any value."""
    key, given, value = word.partition("=")
    place = f"{verb.config.partition('/')[0]}.{key}"
    return f"{place}={as_typed(value)}" if given and key == "baseline" and value else word


def find_verb(words: Sequence[str]) -> tuple[Verb, list[str], list[str]]:
    """The verb that the first words name, the words after it, and notes on a new name.

    Raises:
        UsageError: if they name none.
    """
    first, rest = words[0], list(words[1:])
    former = next((verb for verb in VERBS if verb.formerly == first), None)
    if former is not None:
        new = former.name
        if first == "tabulate" and "--check" in rest:
            new = "study check"
            rest.remove("--check")
        elif rest[:1] == ["imagenet-check"]:
            new, rest[0] = "data check", "imagenet"
        return _named(new), rest, [f"exfuse {first} is now exfuse {new}"]
    names = [verb.name for verb in VERBS]
    if rest and f"{first} {rest[0]}" in names:
        return _named(f"{first} {rest[0]}"), rest[1:], []
    if first in names:
        return _named(first), rest, []
    below = [verb.name for verb in verbs_of(first)]
    if first in _USUAL and (not rest or "=" in rest[0] or rest[0].startswith("-")):
        return _named(_USUAL[first]), rest, []
    if below:
        close = difflib.get_close_matches(" ".join(words[:2]), below, n=1, cutoff=0.8)
        hint = f"did you mean exfuse {close[0]}? There are" if close else "say what to do:"
        raise UsageError(f"exfuse {' '.join(words[:2])}: {hint} {', '.join(below)}. See exfuse {first} --help.")
    valid = list(dict.fromkeys(name.split()[0] for name in names))
    raise UsageError(f"exfuse {first}: there is no such verb. {nearest(first, valid, 'Verbs')}")


def verbs_of(first: str) -> list[Verb]:
    """The verbs of two words that begin with ``first``."""
    return [verb for verb in VERBS if verb.name.startswith(f"{first} ")]


def own_keys(verb: Verb) -> set[str]:
    """Keys and groups that the verb's own config file names."""
    return {*_KEY.findall(_text(verb))} - {"defaults", "hydra"}


def _text(verb: Verb) -> str:
    return (CONFIG_DIR / f"{verb.config}.yaml").read_text(encoding="utf-8")


def _named(name: str) -> Verb:
    return next(verb for verb in VERBS if verb.name == name)


def _new_spelling(option: str, value: str, rest: list[str], notes: list[str]) -> tuple[str, list[str]]:
    """``--size H W`` as ``size=[H,W]``, a flag as ``=true``; the words that it takes are popped from ``rest``."""
    if option == "dynamic":
        return "size=null", [*notes, "--dynamic is now size=null"]
    key, typed = option.replace("-", "_"), [f"--{option}"]
    if value:
        typed = [f"--{option}={value}"]
    elif key in _PAIRS:
        taken = [rest.pop() for _ in range(min(_PAIRS[key], len(rest)))]
        typed, value = [*typed, *taken], f"[{','.join(taken)}]"
    elif rest and key not in _SWITCHES:
        value = rest.pop()
        typed.append(value)
    else:
        value = "true"
    if key in _LISTS and not value.startswith("["):
        value = f"[{value}]"
    return f"{key}={value}", [*notes, f"{' '.join(typed)} is now {key}={value}"]


def _items(word: str) -> list[str]:
    """The texts of a list, typed with brackets or without; quotes hold commas together."""
    text = word.partition("=")[2].strip()
    if text[:1] == "[" and text[-1:] == "]":
        text = text[1:-1].strip()
        if not text:
            return []
    return [_text_of(word, item) for item in _ITEM.findall(f"{text},")]


def _text_of(word: str, typed: str | None = None) -> Any:
    """The text typed as a value, or as an item of it, as it is but for quotes that were typed for Hydra; None for null.

    Raises:
        UsageError: if there is none.
    """
    text = (word.partition("=")[2] if typed is None else typed).strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    elif text == "null" and typed is None:
        return None
    if not text:
        raise UsageError(f"{word}: an empty text names nothing. Leave {word.partition('=')[0]} out, or say which.")
    return text


def _listed(verb: Verb, word: str) -> str:
    """An option of which the verb takes a list, typed without brackets, with them."""
    key, _, value = word.partition("=")
    kind = signature(verb.target).arguments[key].kind if key in signature(verb.target).arguments else None
    several = any(get_origin(part) is list for part in (kind, *get_args(kind)))
    return f"{key}=[{value}]" if several and value not in ("", "null") and value[0] not in "[$" else word


_SWITCHES = {"plan", "strict", "quiet"}
_LISTS = {"only", "classes"}


def _place(verb: Verb, loose: Sequence[str], things: dict[str, Any], arguments: list[str]) -> None:
    """Give each loose word to the thing that it is."""
    left = list(loose)
    for thing in (thing for thing in verb.things if "=" not in thing.word):
        if thing.key == "source" and left:
            arguments.append(f"source={left.pop(0)}")  # a config group
        elif thing.many and left:
            things[thing.key], left = [*(things.get(thing.key) or []), *left], []
        elif left and thing.key not in things:
            things[thing.key] = left.pop(0)
    if left:
        as_value = f" {left[0]}={left[1]}, perhaps?" if len(left) > 1 and _NAME.fullmatch(left[0]) else ""
        raise UsageError(f"{left[0]}: not understood.{as_value} Usage: {verb.usage}")
