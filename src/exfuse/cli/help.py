"""What ``exfuse --help`` and completion say: the table of verbs, and of each verb what its config files' comments say."""

import itertools
import re
import signal
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from exfuse.cli.verbs import VERBS, Verb
from exfuse.cli.words import find_verb, verbs_of
from exfuse.config import search_path
from exfuse.errors import ConfigError, UsageError, complain
from exfuse.files import CONFIG_DIR

_LINE = re.compile(
    r"(?P<indent> *)(?P<dash>- )?[\"]?(?P<key>[\w/]+)[\"]?(?::(?: +(?P<value>[^#\s][^#]*?))?)? *(?:# (?P<comment>.*))?$"
)
_OVERLAYS = {  # groups that no defaults list names, for verbs that have the slots
    "ablation": "techniques together, by name",
    "architecture": "whole rivals",
    "study": "variants and seeds that answer a question, for exfuse train alone",
}
_HOW = ("trainer", "logger", "debug")
_WIDTH = 110
_MANY = 8  # options, too many for a line each
_BASH = """_exfuse() {
    mapfile -t COMPREPLY < <(exfuse --complete "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    [[ $COMP_WORDBREAKS == *=* && ${COMP_LINE:0:COMP_POINT} == *=* ]] && COMPREPLY=("${COMPREPLY[@]#*=}")
}
complete -o default -o nospace -F _exfuse exfuse
"""


class ConfigKey(NamedTuple):
    """A key of a config file: its name with dots, the value that stands there and what its comment says."""

    key: str
    value: str
    meaning: str


def answer(words: Sequence[str]) -> None:
    """Print what a command line asks about the command itself: help, or completion.

    Raises:
        UsageError: if it asks for something else.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` may read no more
    if words[:1] == ["--complete"]:
        print("\n".join(completions(words[1])))
    elif words[:1] == ["--version"]:
        print(f"exfuse {version('exfuse')}")
    elif words[:1] == ["--completion"]:
        print(_BASH, end="")
    else:
        search_path.use_words(words)
        asked = search_path.without_flags([word for word in words if word not in ("--help", "-h")])
        if asked and asked[0].startswith("-"):
            raise UsageError(f"exfuse {asked[0]}: expected a verb. See exfuse --help.")
        print(help_of(asked))


def help_of(words: Sequence[str]) -> str:
    """Help for the whole command, for the verbs of one first word, for a verb, or for one config group or option of a verb.

    Raises:
        UsageError: if the words name no verb, or neither group nor option of it.
    """
    if not words:
        return overview()
    if (below := verbs_of(words[0])) and [*words[1:2]] not in [verb.name.split()[1:] for verb in below]:
        lines = [f"  exfuse {verb.name:<20} {verb.does}" for verb in below]
        return "\n".join([*lines, "", f"See exfuse {words[0]} VERB --help."])
    verb, rest, _ = find_verb(words)
    asked = [word.lstrip("+") for word in rest if "=" not in word]
    if not asked:
        return verb_help(verb)
    if group := options_of(asked[0], whole=True):
        return "\n".join(_lines(group))
    if options := [one for one in own_options(verb.config) if f"{one.key}.".startswith(f"{asked[0]}.")]:
        return "\n".join(_settings(options))
    raise UsageError(f"{asked[0]}: no config group or option. See exfuse {verb.name} --help.")


def overview() -> str:
    """All verbs, on one screen."""
    lines = ["exfuse VERB [THING ...] [key=value ...]", ""]
    lines += [f"  {verb.name:<20} {verb.does}" for verb in VERBS]
    return "\n".join(
        [
            *lines,
            "",
            "exfuse VERB --help: usage, examples and options; exfuse VERB GROUP --help: what to choose from in a config group.",
            "RUN is a run's name, its key or the first digits of it, or its folder. Options are Hydra's overrides.",
            '--config-dir DIR adds your own config files. Completion in bash: eval "$(exfuse --completion bash)"',
        ]
    )


def verb_help(verb: Verb) -> str:
    """Usage, examples, options and config groups of a verb, from the comments of its config files."""
    path = _file(verb.config)
    comments = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    header = [line.removeprefix("#").removeprefix(" ") for line in comments if "@package" not in line]
    parts = [f"Usage: {verb.usage}", *header]
    if options := own_options(verb.config):
        parts += ["", "Options:", *_settings(options)]
    groups = groups_of(verb.config)
    parts += ["", f"Groups, and what to choose from (exfuse {verb.name} GROUP --help says more):"] if groups else []
    for group, (chosen, meaning) in groups.items():
        prefix = "+" if group in _OVERLAYS else ""
        parts.append(f"{prefix}{group}={chosen or 'NAME'}  {meaning}".rstrip())
        options_there = options_of(group)
        if group in _OVERLAYS or group in _HOW or len(options_there) > _MANY:  # or not what makes a run what it is
            parts += _wrapped([*options_there], 4)
        else:
            parts += map(_cut, _lines(options_there))
    return "\n".join(parts)


def completions(line: str) -> list[str]:
    """Words that may stand where ``line``, which begins with the command itself, ends."""
    words, typed = line.split()[1:], "" if line.endswith(" ") else line.split()[-1]
    before = words[: len(words) - bool(typed)]
    firsts = list(dict.fromkeys(verb.name.split()[0] for verb in VERBS))
    if not before:
        return [f"{word} " for word in firsts if word.startswith(typed)]
    if len(before) == 1 and (below := [verb.name.split()[1] for verb in verbs_of(before[0])]):
        return [f"{word} " for word in below if word.startswith(typed)]
    from hydra import initialize_config_dir
    from hydra._internal.core_plugins.bash_completion import BashCompletion  # Hydra knows groups, options and keys
    from hydra.core.global_hydra import GlobalHydra

    verb, rest, _ = find_verb(before)
    whole = "train" if any(thing.key == "overrides" for thing in verb.things) else verb.config
    config, *chosen = (verb.short_for[0], f"+{verb.short_for[1]}") if verb.short_for else (whole,)
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        overrides = [word for word in rest if "=" in word]
        return BashCompletion(GlobalHydra.instance().config_loader())._query(config, " ".join([*chosen, *overrides, typed]))


def options_of(group: str, whole: bool = False) -> dict[str, str]:
    """The options of a config group and what each is, in a sentence or in the ``whole`` first comment of its file.

    A file that cannot be read is named on standard error.
    """
    found = {}
    for name in search_path.options(group):
        try:
            found[name] = _meaning(search_path.find(f"{group}/{name}"), whole)
        except ConfigError as error:
            complain(str(error))
            found[name] = "its file cannot be read"
    return found


def own_options(name: str) -> list[ConfigKey]:
    """The keys that a root config and those that it is based on hold, in their order, except groups."""
    found: list[ConfigKey] = []
    bases: list[ConfigKey] = []
    above: list[str] = []
    for line in _file(name).read_text(encoding="utf-8").splitlines():
        match = _LINE.match(line)
        if match is None or line.startswith("#"):
            continue
        depth = len(match["indent"]) // 2
        above[depth:] = [match["key"]]
        if above[0] == "defaults":
            if match["value"] is None and match["key"] not in ("defaults", "_self_", "slots", "base"):
                bases += own_options(match["key"])
        elif above[0] != "hydra" and match["value"] is not None:
            found.append(ConfigKey(".".join(above), match["value"], match["comment"] or ""))
    return found + bases


def groups_of(name: str) -> dict[str, tuple[str, str]]:
    """The config groups of a root config: the option that is chosen without a word, and what the group is for."""
    found: dict[str, tuple[str, str]] = {}
    text = _file(name).read_text(encoding="utf-8").partition("\ndefaults:\n")[2]
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or not match["dash"]:
            break
        key, value = match["key"], match["value"]
        if key == "slots":
            from exfuse.store.variants import techniques

            found |= {f"technique/{one.name}": (one.baseline, one.title) for one in techniques()}
        elif value is not None and not line.lstrip().startswith("- override"):
            found[key] = ("" if value in ("null", "???") else value, match["comment"] or "")
        elif key not in ("_self_", "base"):
            found |= groups_of(key)
    return found | ({group: ("", meaning) for group, meaning in _OVERLAYS.items()} if "- slots" in text else {})


def _file(name: str) -> Path:
    path = search_path.find(name)
    assert path is not None, f"every verb has a config file, {name} has none"
    return path


def _meaning(path: Path | None, whole: bool) -> str:
    """A file's first comment without the command behind it, or its first sentence."""
    text = search_path.about(path).partition("  ")[0] if path else ""
    return (text if whole else re.split(r"(?<=[.:;]) (?=[A-Z])", text)[0]).rstrip(".:")


def _lines(options: dict[str, str]) -> list[str]:
    width = max(map(len, options), default=0)
    return [f"    {name:<{width}}  {meaning}".rstrip() for name, meaning in options.items()]


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3].rsplit(' ', 1)[0]} ..."


def _settings(options: Sequence[ConfigKey]) -> list[str]:
    width = min(44, max(len(f"{option.key}={option.value}") for option in options))
    return [f"  {f'{option.key}={option.value}':<{width}}  {option.meaning}".rstrip() for option in options]


def _wrapped(words: Sequence[str], indent: int) -> list[str]:
    import textwrap

    lines = textwrap.wrap(", ".join(words), _WIDTH - 4, initial_indent=" " * indent, subsequent_indent=" " * indent)
    return lines if len(lines) == 1 else [f"{lines[0]} ..."]  # the group's own help has all
