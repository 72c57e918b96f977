"""THE table of techniques, read from ``slot/*.yaml`` of the config search path, and what variants are called by it."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from exfuse.errors import ConfigError, first_line, nearest
from exfuse.files import config_dirs
from exfuse.limits import Number
from exfuse.store.costs import COSTS

Place = Literal["blocks", "features", "levels", "upsampling", "head", "scores"]
SEVERAL = ("levels", "scores")  # places that take any number, in order
USUAL_DECODER = "levels_2345"
# what tables call their other columns, for people and for programs
_COLUMNS = {
    *("variant", "decoder", "miou", "score", "difference", "on", "low", "high", "p", "p_holm", "finding"),
    *("paper", "paper_trust", "difference_to_paper", "seeds", "epochs", "unfinished", "health", "diverged", "marks"),
    *("frequent", "interior", "edge", "boundary"),
    *(column.key for column in COSTS),
}


class Technique(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One slot of the model, as ``slot/NAME.yaml`` describes it.

    Attributes:
        title: in words.
        order: of labels, columns and ticks, and of several techniques that act in one place.
        baseline: the option of a run that names none.
        place: where it acts, see `exfuse.models.segmenter.build_segmenter`.
        paper: the option that a bare tick stands for; None if the paper has none.
        short: as tables head their columns; by default the name in capitals.
        name: the config group is ``technique/NAME``; the file's name.
    """

    title: str
    order: Number
    baseline: str
    place: Place
    paper: str | None = None
    short: str = ""
    name: str = ""


def techniques() -> tuple[Technique, ...]:
    """Every technique that the config search path holds, in order.

    Raises:
        ConfigError: naming the file that cannot be read as a technique.
    """
    return _read(config_dirs())


def technique(name: str) -> Technique:
    """The technique of this name.

    Raises:
        ConfigError: if the config search path holds none.
    """
    for known in techniques():
        if known.name == name:
            return known
    there = nearest(name, names(), "Techniques")
    raise ConfigError(f"no technique {name!r}. {there} Another one's folder comes with --config-dir.")


def own() -> tuple[Technique, ...]:
    """The techniques that the package holds, whatever folders were added."""
    return _read(config_dirs()[:1])


def names() -> tuple[str, ...]:
    """The techniques' names, in order."""
    return tuple(technique.name for technique in techniques())


def baseline() -> dict[str, str]:
    """The baseline's option of every technique."""
    return {technique.name: technique.baseline for technique in techniques()}


def complete(options: Mapping[str, str]) -> dict[str, str]:
    """Options by technique in the table's order: the baseline's where none is named, those of unknown techniques last."""
    return {name: options.get(name, usual) for name, usual in baseline().items()} | dict(options)


def chosen_options(choices: Mapping[str, str]) -> dict[str, str]:
    """`complete` options from the chosen option of each config group: ``{"technique/seb": "product", "data": ...}``."""
    group = "technique/"
    return complete({name.removeprefix(group): option for name, option in choices.items() if name.startswith(group)})


def label(options: Mapping[str, str], decoder: str = USUAL_DECODER, known: Sequence[Technique] = ()) -> str:
    """The options and the decoder of a variant, the baseline's left out: ``ss-second_conv_features+seb-product``.

    Args:
        options: by technique.
        decoder: its option.
        known: techniques; without, those of the config search path.
    """
    usual = {technique.name: technique.baseline for technique in known} or baseline()
    named = [f"{name}-{option}" for name, option in ({**usual} | dict(options)).items() if option != usual.get(name)]
    return "+".join([*named, *([] if decoder == USUAL_DECODER else [decoder])]) or "baseline"


def short_name(name: str, options: Mapping[str, str], decoder: str, known: Sequence[Technique] = ()) -> str:
    """A row's name with the paper's options left out, where the name is the variant's `label` or begins with it.

    ``ss-second_conv_features+dap-last`` becomes ``ss+dap-last``; a name that somebody chose stays as it is.
    """
    whole = label(options, decoder, known)
    if name != whole and not name.startswith(f"{whole} "):
        return name
    papers = {f"{technique.name}-{technique.paper}": technique.name for technique in known or techniques()}
    return "+".join(papers.get(part, part) for part in whole.split("+")) + name[len(whole) :]


@functools.cache
def _read(folders: tuple[Path, ...]) -> tuple[Technique, ...]:
    # the first folder that has a file of some name is the one that Hydra reads it from
    files = {path.stem: path for folder in reversed(folders) for path in folder.glob("slot/*.yaml")}
    return tuple(sorted((_technique(path) for path in files.values()), key=lambda found: (found.order, found.name)))


def _technique(path: Path) -> Technique:
    try:
        found = msgspec.yaml.decode(path.read_bytes(), type=Technique)
    except msgspec.MsgspecError as error:
        expected = ", ".join(Technique.__struct_fields__[:-1])
        hint = " YAML reads on, off, yes and no as true and false: quote them." if "got `bool`" in str(error) else ""
        raise ConfigError(
            f"{path} is no technique ({first_line(error)}).{hint} Expected the keys {expected}; see conf/slot/seb.yaml."
        ) from error
    if path.stem in _COLUMNS:
        raise ConfigError(f"{path}: tables have a column {path.stem} already. Call the technique, and so the file, otherwise.")
    return msgspec.structs.replace(found, name=path.stem, short=found.short or path.stem.upper())
