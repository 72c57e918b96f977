"""Where config files lie: the package's own, then the folders that the user adds (``--config-dir``, ``hydra.searchpath``).

Whoever lists or reads config files asks here, and what a process is told it tells its children: see `arguments`.
"""

import contextlib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from exfuse.config.slots import register_slots
from exfuse.config.words import as_typed
from exfuse.errors import ConfigError, repeated
from exfuse.files import CONFIG_DIR, config_dirs, set_config_dirs
from exfuse.store.description import Option

_FLAGS, _KEY = ("--config-dir", "-cd"), "hydra.searchpath"
_PLAIN = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")  # names that stay in a folder, whoever wrote them


def use(sources: Iterable[str | Path]) -> None:
    """Look in these folders too: paths, ``file://`` or ``pkg://`` addresses; the package's own and Hydra's are left out.

    Raises:
        ConfigError: if one is no folder, or a file of it would not be read since a folder before it has one of its name.
    """
    found = [_folder(str(source)) for source in sources]
    folders = [path for path in found if path is not None and path != CONFIG_DIR]
    if folders != [*added_folders()]:
        _check_hidden([CONFIG_DIR, *folders])
        set_config_dirs(folders)
        register_slots()


def _check_hidden(folders: Sequence[Path]) -> None:
    """Refuse two files of one name in folders that are looked through in this order."""
    for place, folder in enumerate(folders[1:], 1):  # the first is the package's, the last may hold far more than configs
        for before in folders[:place]:
            for path in before.rglob("*.yaml") if before != folder else ():
                other = folder / path.relative_to(before)
                if other.is_file() and other.read_bytes() != path.read_bytes():
                    first = "the package's own" if before == CONFIG_DIR else path
                    raise ConfigError(f"{other} would not be read: {first} of that name comes first. Call yours otherwise.")


def check_header(group: str, name: str) -> None:
    """Refuse a file of such a group as ``ablation``, whose options set keys all over the config, without the line that lets it.

    Raises:
        ConfigError: naming the file.
    """
    usual = next(CONFIG_DIR.glob(f"{group}/*.yaml"), None) if group.isidentifier() else None
    path = find(f"{group}/{name}") if usual is not None else None
    if path is None or usual is None:
        return
    read(path)  # which says what is no YAML
    own, other = (re.match(r"\s*#\s*@package\s+_global_\b", one.read_text(encoding="utf-8-sig")) for one in (path, usual))
    if other and not own:
        raise ConfigError(
            f"{path}: its first line has to be '# @package _global_', without which nothing that it sets reaches anything."
        )


def use_sources(sources: Iterable[tuple[str, str]]) -> None:
    """Look where Hydra does, by schema and path of its config sources: a launcher's worker knows no command line."""
    use(f"{schema}://{path}" for schema, path in sources if schema in ("file", "pkg"))


def use_words(words: Sequence[str]) -> None:
    """Look where a command line says: ``--config-dir DIR`` or ``hydra.searchpath=[...]``."""
    found: list[str] = []
    for number, word in enumerate(words):
        flag, given, value = word.partition("=")
        if flag in _FLAGS:
            found.append(value if given else " ".join(words[number + 1 : number + 2]))
        elif flag == _KEY:
            found += _listed(word)
    use(found)


def _listed(override: str) -> list[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser  # help is quicker without
    from hydra.errors import HydraException

    with contextlib.suppress(HydraException):
        value = OverridesParser.create().parse_overrides([override])[0].value()
        if isinstance(value, list) and all(isinstance(one, str) and one for one in value):
            return [str(one) for one in value]
    raise ConfigError(f"{override}: expected a list of folders or packages, such as {_KEY}=[file://DIR].")


def without_flags(words: Sequence[str]) -> list[str]:
    """The words of a command line but those by which `use_words` goes."""
    pairs = zip(["", *words], words, strict=False)
    return [word for before, word in pairs if before not in _FLAGS and word.partition("=")[0] not in _FLAGS]


def added_folders() -> tuple[Path, ...]:
    """The folders that the user added."""
    return config_dirs()[1:]


def overrides() -> list[str]:
    """What makes Hydra look in the added folders, for compositions of our own."""
    return [f"hydra.searchpath={as_typed([f'file://{path}' for path in added_folders()])}"] if added_folders() else []


def arguments() -> list[str]:
    """What makes a child process look there too."""
    return ["--config-dir", str(added_folders()[0])] if len(added_folders()) == 1 else overrides()


def folders_as_typed() -> list[str]:
    """The same as a user types it here, for texts: a folder elsewhere by its last name alone."""
    near = [str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name for path in added_folders()]
    several = [f"hydra.searchpath={as_typed([f'file://{name}' for name in near])}"] if near else []
    return ["--config-dir", *near] if len(near) == 1 else several


def is_group(name: str) -> bool:
    """Whether ``name``, such as ``technique/dap`` or ``optimizer@recipe.optimizer``, is a config group."""
    return any((folder / name.partition("@")[0]).is_dir() for folder in config_dirs())


def groups() -> list[str]:
    """Every config group but Hydra's own."""
    found = {str(path.relative_to(folder)) for folder in config_dirs() for path in folder.rglob("*") if path.is_dir()}
    return sorted(name for name in found if name.partition("/")[0] != "hydra")


def options(group: str) -> list[str]:
    """Names of the options of a config group."""
    if not _PLAIN.fullmatch(group):
        return []
    return sorted({path.stem for folder in config_dirs() for path in (folder / group).glob("*.yaml") if path.is_file()})


def find(name: str) -> Path | None:
    """The file of ``GROUP/OPTION`` or of a root; None if there is none, as for a name that leads out of these folders."""
    if not _PLAIN.fullmatch(name):
        return None
    return next((path for folder in config_dirs() if (path := folder / f"{name}.yaml").is_file()), None)


@functools.cache
def read(path: Path) -> dict[str, Any]:
    """A config file as it is written: its defaults list and interpolations are not followed.

    Raises:
        ConfigError: see `text_of`; or if it is no YAML.
    """
    try:
        content = yaml.load(text_of(path), YamlLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {_said(error)}. Mend it.") from error
    if not isinstance(content, (dict, type(None))):
        raise ConfigError(f"{path} holds {type(content).__name__}: expected keys with values. Mend it.")
    return content or {}


class YamlLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """By the rules of OmegaConf, through which Hydra reads: 1e-5 is a number, a date is text, and no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := repeated(names):
            raise yaml.constructor.ConstructorError(problem=f"{twice[0]} stands there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(_\d+)*(\.[\d_]*)?[eE][-+]?\d+\Z"), list("-+0123456789")
)
YamlLoader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in YamlLoader.yaml_implicit_resolvers.items()
}


def _said(error: yaml.YAMLError) -> str:
    return " ".join(str(error).replace('in "<unicode string>", ', "").split())


def text_of(path: Path) -> str:
    """What a config file holds.

    Raises:
        ConfigError: if it is not text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text, at byte {error.start}. Save it as UTF-8.") from error


def read_whole(group: str, name: str) -> dict[str, Any]:
    """An option's file with the files of the same kind that its defaults list goes on from; interpolations are not followed.

    Raises:
        ConfigError: if the search path holds no such option.
    """
    path = find(f"{group}/{name}")
    if path is None:
        known = f"only {', '.join(options(group))}" if options(group) else f"nor any other {group}"
        raise ConfigError(f"There is no {group}={name} among the config files, {known}. Name its folder with --config-dir.")
    return _whole(path, group, config_dirs())


@functools.cache
def _whole(path: Path, group: str, _folders: tuple[Path, ...]) -> dict[str, Any]:
    content = read(path)
    found: dict[str, Any] = {}
    for entry in content.get("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            file, _, place = entry.partition("@")
            above, _, base = file.rpartition("/")
            part = read_whole(above[1:] if above.startswith("/") else f"{group}/{above}".rstrip("/"), base)
            for step in reversed(place.split(".") if place not in ("", "_here_") else []):
                part = {step: part}
            _merge(found, part)
    _merge(found, {name: value for name, value in content.items() if name != "defaults"})
    return found


def as_written(group: str, name: str) -> Option:
    """An option as its file sets it."""
    content = read_whole(group, name)
    return Option(name, {key: value for key, value in content.items() if key not in ("_target_", "_partial_")})


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict):
            into[name] = dict(into[name]) if isinstance(into.get(name), dict) else {}
            _merge(into[name], value)
        else:
            into[name] = value


def about(path: Path) -> str:
    """A config file's first comment: what it is, in one line."""
    comments = (line.strip("# ") for line in text_of(path).splitlines() if line.startswith("#") and "@package" not in line)
    return next(comments, "")


def _folder(source: str) -> Path | None:
    if source.startswith("pkg://"):
        name = source.removeprefix("pkg://")
        if name.partition(".")[0] == "hydra":
            return None
        try:
            spec = find_spec(name)
        except ModuleNotFoundError:  # of what it should lie in
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"hydra.searchpath: {source} is no package that can be imported here.")
        return Path(next(iter(spec.submodule_search_locations)))
    path = Path(source.removeprefix("file://")).resolve()
    if not path.is_dir():
        raise ConfigError(f"{source}: there is no such folder of config files (--config-dir, {_KEY}).")
    return path
