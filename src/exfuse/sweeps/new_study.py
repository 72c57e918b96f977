"""A study's file, written from a list of techniques: whoever brings techniques of one's own need not write their studies."""

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from exfuse.config import search_path
from exfuse.config.overrides import describe_run
from exfuse.errors import ConfigError, nearest, plural
from exfuse.files import CONFIG_DIR, write_text
from exfuse.store.variants import technique
from exfuse.sweeps.declared import read_study
from exfuse.sweeps.rows import check_rows
from exfuse.terminal import Console

_NAME = re.compile(r"(?!null$)[A-Za-z_][\w.-]*", re.IGNORECASE)  # as +study=NAME can be typed
_LONGEST = 80
_SEEDS = "0,1,2"


class _Pick(NamedTuple):
    """A technique with the option that the study is about, and what rows call it."""

    technique: str
    option: str
    usual: str
    called: str

    @property
    def on(self) -> str:
        return f"technique/{self.technique}={self.option}"

    @property
    def off(self) -> str:
        return f"technique/{self.technique}={self.usual}"


def write_new_study(
    kind: Literal["ladder", "leave_one_out", "add_one", "factorial"],
    techniques: list[str],
    name: str | None,
    title: str | None,
    question: str | None,
) -> None:
    """Write ``study/NAME.yaml`` into the first added config folder, or into ``conf`` here, and say how it is run.

    Args:
        kind: ``ladder``: one technique after another, in the order of the list; ``leave_one_out``: all, and all but each;
            ``add_one``: each alone; ``factorial``: all combinations.
        techniques: names, or ``NAME=OPTION``; without an option the paper's, or the only one beside the baseline's.
        name: of the study; None makes one.
        title: of its table; None makes one.
        question: that it answers; None asks the kind's own.

    Raises:
        ConfigError: if a technique, option or name cannot be used, or there is a study or file of that name.
    """
    picks = [_pick(text) for text in techniques]
    for number, one in enumerate(picks):
        if one in picks[:number] or (kind != "add_one" and one.technique in [other.technique for other in picks[:number]]):
            several = "" if one in picks[:number] else " Only add_one compares options of one technique."
            raise ConfigError(f"techniques: {one.technique} is listed twice. List it once.{several}")
    whole = f"{kind}_{'_'.join(one.called for one in picks)}"
    name = name or re.sub(r"[^\w.-]", "_", whole)[:_LONGEST].rstrip(".")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"name={name}: expected a letter, then letters, digits, _, - and . alone, as +study=NAME is typed.")
    folder = next(iter(search_path.added_folders()), Path("conf").resolve())
    path = folder / "study" / f"{name}.yaml"
    if there := search_path.find(f"study/{name}") or (path if path.exists() else None):
        raise ConfigError(f"{there} is there: a study is called {name}. Choose another name=..., or remove the file.")
    listed = ", ".join(one.called for one in picks)
    titles, asked, declared = _KINDS[kind]
    content = {
        "hydra": {"mode": "MULTIRUN", "sweeper": {"params": {"seed": _SEEDS}}},
        "study": {"name": name, "title": title or titles.format(listed), "question": question or asked, "rows": {}},
    }
    declared(picks, content)
    if rows := content["study"]["rows"]:
        check_rows(*read_study(content["study"], [[]]), describe_run)
    else:
        read_study(content["study"], [])
        describe_run([one.on for one in picks])
    at = search_path.folders_as_typed() or ([] if folder == CONFIG_DIR else ["--config-dir", folder.name])
    command = shlex.join(["exfuse", "train", f"+study={name}", *at])
    write_text(path, _text(content, command))
    found = f"{plural(len(rows), 'row')}" if rows else f"{2 ** len(picks)} combinations"
    here = search_path.arguments() or ([] if folder == CONFIG_DIR else ["--config-dir", str(folder)])
    command = shlex.join(["exfuse", "train", f"+study={name}", *here])  # a file may travel, this is for this place
    Console().print(f"{path}: {found}, each with seeds {_SEEDS}.\n{command}", soft_wrap=True, highlight=False)


def _pick(text: str) -> _Pick:
    name, given, option = text.partition("=")
    known = technique(name)
    options = [one for one in search_path.options(f"technique/{name}") if one != known.baseline]
    if not given:
        option = known.paper or (options[0] if len(options) == 1 else "")
    if option not in options:
        wrong = f"techniques={text}: " if not option or given else f"slot/{name}.yaml names {option} as the paper's option: "
        said = f"{name} has several options. " if options and not option else "there is no such option beside the baseline. "
        example = f" Say which: techniques={name}={options[0]}." if options else ""
        raise ConfigError(f"{wrong}{said}{nearest(option, options, f'Options of technique/{name}')}{example}")
    return _Pick(name, option, known.baseline, f"{name}-{option}" if given else name)


def _row(builds_on: str | None, picks: Sequence[_Pick], used: Sequence[_Pick]) -> dict[str, Any]:
    """A row that says of every technique of the study what it is, whatever others there are."""
    chosen = {one.technique: one.on for one in used}
    return {"builds_on": builds_on, "overrides": [*({one.technique: one.off for one in picks} | chosen).values()]}


def _ladder(picks: Sequence[_Pick], content: dict[str, Any]) -> None:
    names = ["baseline", *("+".join(one.called for one in picks[: number + 1]) for number in range(len(picks)))]
    content["study"]["rows"] = {
        name: _row(names[number - 1] if number else None, picks, picks[:number]) for number, name in enumerate(names)
    }


def _leave_one_out(picks: Sequence[_Pick], content: dict[str, Any]) -> None:
    content["study"]["rows"] = {"all": _row(None, picks, picks)} | {
        f"without {one.called}": _row("all", picks, [other for other in picks if other != one]) for one in picks
    }


def _add_one(picks: Sequence[_Pick], content: dict[str, Any]) -> None:
    alone = {one.called: _row("baseline", picks, [one]) for one in picks}
    content["study"]["rows"] = {"baseline": _row(None, picks, []), **alone}


def _factorial(picks: Sequence[_Pick], content: dict[str, Any]) -> None:
    swept = {f"technique/{one.technique}": f"{one.usual},{one.option}" for one in picks}
    content["hydra"]["sweeper"]["params"] = swept | content["hydra"]["sweeper"]["params"]
    content["study"]["factors"] = [one.technique for one in picks]


# by kind: title, question, and what fills in the rows
_KINDS: dict[str, tuple[str, str, Callable[[Sequence[_Pick], dict[str, Any]], None]]] = {
    "ladder": ("{}, one after another", "What does each technique add to those before it?", _ladder),
    "leave_one_out": ("{}: all without each", "What is lost when one technique is taken away?", _leave_one_out),
    "add_one": ("{}: each alone", "What does each technique add to the plain baseline?", _add_one),
    "factorial": (
        "All combinations of {}",
        "What is each technique worth on average over the company it may keep, and which help each other?",
        _factorial,
    ),
}


def _text(content: dict[str, Any], command: str) -> str:
    """The file: what it is and how it is run first, as in every study's file."""
    title = " ".join(content["study"]["title"].split())  # a comment is one line
    first = f"# @package _global_\n# {title}.\n#   {command} [seed=0 data=... backbone=... recipe=...]\n"
    return first + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
