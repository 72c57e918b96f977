"""Code outside this package that the options of a run name: what they name, and its source files by content."""

import ast
import functools
import hashlib
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from exfuse.config import search_path
from exfuse.config.backbones import own_backbone
from exfuse.config.options import code_of
from exfuse.config.signatures import source_of
from exfuse.errors import ConfigError
from exfuse.files import CONFIG_DIR, sha256
from exfuse.store import variants
from exfuse.store.description import Described, RunDescription

_STANDARD = {Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib")}
_INSTALLED = {"site-packages", "dist-packages"}  # of the environment, the user or the system: versions tell of it
_SLOT = "slot"  # the folder of techniques' files
_OURS = Path(__file__).resolve().parents[1]


def own_code(described: Described) -> dict[str, str]:
    """`code_of_options` of all that decide what a run or a pretraining computes."""
    return code_of_options(_options(described))


def code_of_options(chosen: Iterable[tuple[str, str]]) -> dict[str, str]:
    """SHA-256 of what each option of one's own names, by ``GROUP=OPTION``, and of each source file, by the name of its module.

    What is installed is named with its version; of this package the commit tells. What code loads otherwise than
    by ``import`` is not found. Of a technique of one's own, by ``slot=NAME``, where it acts.

    Args:
        chosen: group and name of each.

    Raises:
        ConfigError: if the search path does not hold one of them.
    """
    found: dict[str, Path] = {}
    options = {(group, name): [*_named(code_of(group, name))] for group, name in chosen}
    wanted = [target for targets in options.values() for target in targets if not target.startswith("exfuse.")]
    while wanted:
        parts = wanted.pop().split(".")
        for depth in range(1, len(parts) + 1):  # importing a module runs its packages, too
            module = ".".join(parts[:depth])
            path = source_of(module)
            if module in found or path is None or not path.is_file():
                continue
            if _is_others(path):
                break
            found[module] = path
            wanted += _imports(module, path)
    named = {f"{group}={name}": said for (group, name), targets in options.items() if (said := _said(group, name, targets))}
    return named | {module: sha256(path) for module, path in sorted(found.items())}


def changed_code(code: Mapping[str, str]) -> str:
    """What to say of options and modules that are no longer what they were; empty if all are.

    What is not there, such as the reader of data where a model alone is used, is not told: whatever needs it fails.

    Args:
        code: of a record, see `own_code`.
    """
    other = [name for name, before in code.items() if _now(name) not in (before, "")]
    return f"{', '.join(other)} {'has' if len(other) == 1 else 'have'} changed since" if other else ""


def _now(name: str) -> str:
    group, is_option, option = name.partition("=")
    if not is_option:
        path = source_of(name)
        return sha256(path) if path is not None and path.is_file() else ""
    try:
        return _said(group, option, [*_named(code_of(group, option))])
    except ConfigError:
        return ""


def _said(group: str, name: str, targets: list[str]) -> str:
    """SHA-256 of what an option names, with its version if installed; empty if an option of this package names it, or torch."""
    if group == _SLOT:
        return _placed(name)
    usual = {"exfuse", "torch"}
    file = search_path.find(f"{group}/{name}")
    others = {target.partition(".")[0] for target in targets} - usual
    if not others and (file is None or file.is_relative_to(CONFIG_DIR)):
        return ""
    installed = [top for top in sorted(others) if (path := source_of(top)) is not None and _is_others(path)]
    known = packages_distributions() if installed else {}
    versions = [f"{one} {version(one)}" for top in installed for one in sorted({*known.get(top, ())})]
    return hashlib.sha256("\n".join([*targets, *versions]).encode()).hexdigest()


def _placed(name: str) -> str:
    """SHA-256 of a technique's place and, where several stand there, its order; empty of the package's own, or none."""
    known = next((one for one in {*variants.techniques()} - {*variants.own()} if one.name == name), None)
    told = known and f"{known.place} {known.order if known.place in variants.SEVERAL else ''}"
    return hashlib.sha256(told.encode()).hexdigest() if told else ""


def _options(described: Described) -> Iterator[tuple[str, str]]:
    """Group and name of the options with code that decide what a run computes."""
    recipe = described.recipe if isinstance(described, RunDescription) else described.pretraining.recipe
    groups = {"data": described.data, "optimizer": recipe.optimizer, "schedule": recipe.schedule}
    usual = variants.baseline()
    for slot, option in described.technique.items():
        groups[f"technique/{slot}"] = option
        if option.name != usual.get(slot):
            yield _SLOT, slot
    if isinstance(described, RunDescription):
        groups |= {"decoder": described.decoder, "loss": described.loss}
    else:
        groups |= {"pretraining/data": described.pretraining.data}
    for group, option in groups.items():
        yield group, option.name
    if own_backbone(described.choices.get("backbone"), described.backbone.name):
        yield "backbone", described.backbone.name


def _named(code: Any) -> Iterator[str]:
    if isinstance(code, dict):
        for key, value in code.items():
            if key == "_target_":
                yield str(value)
            yield from _named(value)
    elif isinstance(code, list):
        for part in code:
            yield from _named(part)


@functools.cache
def _is_others(path: Path) -> bool:
    place = path.resolve()
    return not _INSTALLED.isdisjoint(place.parts) or any(place.is_relative_to(folder) for folder in (_OURS, *_STANDARD))


def _imports(module: str, path: Path) -> list[str]:
    """Dotted names that a source file imports, wherever in it; what it takes from a package may be a module."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # whoever imports it says so
        return []
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = []
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Import):
            found += [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            above = package[: len(package) - statement.level + 1] if statement.level else []
            base = [*above, *([statement.module] if statement.module else [])]
            found += [".".join([*base, alias.name]) for alias in statement.names]
    return found
