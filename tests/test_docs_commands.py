"""Every command that a text prints can be typed: its verb, options, configs and make targets are there. Nothing is run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from exfuse.cli.help import help_of
from exfuse.cli.words import Command, read_command
from exfuse.files import CONFIG_DIR
from tests.conftest import REPOSITORY
from tests.test_docs import TEXTS

STARTS = ("exfuse ", "make ", "python -m src.", "python -m exfuse", "pip install -e ", "pip install 'exfuse")
CHANGED = REPOSITORY / "docs" / "changed_spellings.md"


def printed(text: Path) -> Iterator[str]:
    """Commands in a text's blocks and inline code, comments and continuations resolved."""
    content = text.read_text()
    for block in re.findall(r"```\w*\n(.*?)```", content, flags=re.S):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.strip()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", content, flags=re.S))


def commands() -> list[str]:
    """Each command of all texts once; the page of changed spellings has its own test."""
    texts = [text for text in TEXTS if text != CHANGED and text.name != "CHANGELOG.md"]
    found = dict.fromkeys(line for text in texts for line in printed(text) if line.startswith(STARTS))
    return [line for line in found if not re.match(r"(exfuse|python -m src\.|python -m exfuse) ?VERB", line)]


def words_of(line: str) -> list[str]:
    """The command's words without comments and without what stands for more."""
    return [word for word in shlex.split(line.partition("&&")[0], comments=True) if word != "..."]


def one_job(overrides: list[str]) -> list[str]:
    """The overrides of the first job of what may be a sweep."""
    first = []
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_sweep_override():
            key = override.input_line.partition("=")[0]
            glob = override.is_choice_sweep() is False
            first.append(f"{key}=baseline" if glob else f"{key}={next(override.sweep_string_iterator())}")
        else:
            first.append(override.input_line)
    return first


def check(command: Command) -> None:
    """The verb's config composes with the overrides, and train's with those that are handed on to its runs."""
    flags = [word for word in command.arguments if word.startswith("-")]
    if "--config-dir" in flags:
        return  # the folder is the reader's
    composed = {command.verb.config: [word for word in command.arguments if not word.startswith("-")]}
    if handed_on := command.things.get("overrides"):
        composed["train"] = handed_on
    for name, overrides in composed.items():
        if any("ray" in word for word in overrides if word.startswith("hydra/launcher")):
            pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="the extra `launchers` is absent")
        if any("slurm" in word for word in overrides if word.startswith("hydra/launcher")):
            pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="the extra `launchers` is absent")
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            compose(name, one_job(overrides), return_hydra_config=True)


@pytest.mark.parametrize("line", commands())
def test_a_printed_command_can_be_typed(line: str) -> None:
    words = words_of(line)
    if words[0] == "make":
        check_make(words[1:])
    elif words[0] == "pip":
        extras = re.findall(r"^(\w+) = \[", (REPOSITORY / "pyproject.toml").read_text(), flags=re.M)
        assert {*re.findall(r"\w+", words[-1].partition("[")[2])} <= {*extras}
    elif words[0] == "exfuse" and {"--help", "-h"} & {*words}:
        assert help_of([word for word in words[1:] if word not in ("--help", "-h")])
    elif words[0] == "exfuse" and words[1] == "--completion":
        assert "exfuse" in words
    elif words[0] == "exfuse" or words[2].startswith("src."):
        if words[0] == "python":
            assert (REPOSITORY / "src" / f"{words[2].removeprefix('src.')}.py").is_file()
        command = read_command(words[1:] if words[0] == "exfuse" else [words[2].removeprefix("src."), *words[3:]])
        assert not command.notes, "an old spelling"
        check(command)
    else:
        place = REPOSITORY / "src" / Path(*words[2].split("."))
        assert place.with_suffix(".py").is_file() or place.is_dir()


def check_make(words: list[str]) -> None:
    """Targets are the Makefile's; the overrides of a study compose with it."""
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = re.findall(r"^([a-z0-9%-]+):", makefile, flags=re.M)
    variables = re.findall(r"^([A-Z_]+) [?:]?=", makefile, flags=re.M)
    for word in words:
        name, given, _ = word.partition("=")
        if given:
            assert name in variables
            continue
        study = word.removeprefix("study-")
        assert word in targets or (study != word and (CONFIG_DIR / "study" / f"{study}.yaml").is_file())
        recipe = re.search(rf"^{word}: study-(\w+)", makefile, flags=re.M)
        if recipe or study != word:
            arguments = next((value for value in words if value.startswith("ARGS=")), "ARGS=").removeprefix("ARGS=")
            check(read_command(["train", f"+study={recipe[1] if recipe else study}", *shlex.split(arguments)]))


def changed() -> list[tuple[str, str]]:
    """(old, new) of each line of the table of changed spellings whose cells are commands."""
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", CHANGED.read_text(), flags=re.M)
    return [(old, new) for old, new in rows if old.startswith("python -m src.")]


@pytest.mark.parametrize(("old", "new"), changed())
def test_an_old_spelling_is_answered_with_the_new_one(old: str, new: str) -> None:
    was = words_of(old)
    module = was[2].removeprefix("src.")
    assert (REPOSITORY / "src" / f"{module}.py").is_file()
    read, meant = read_command([module, *was[3:]]), read_command(words_of(new)[1:])
    assert (read.verb, sorted(read.arguments), read.things) == (meant.verb, sorted(meant.arguments), meant.things)
    assert not meant.notes
    assert read.notes or was[3:] == words_of(new)[2:], "only the name of the module differs, or a note says what is new"
