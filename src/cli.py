"""How entry points meet the user: one clear message for a mistake, a stack trace only for a defect or on request."""

import difflib
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from src.errors import UserError

# Threads that wait should sleep: spinning ones fight the loader workers for cores and cost a small machine half its speed.
# Read by the OpenMP runtime when torch loads it, which is after this module.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

CONFIG_DIR = Path(__file__).resolve().parent.parent / "conf"

_FULL = "HYDRA_FULL_ERROR"  # set to 1 by the user, it asks for stack traces


def run(main: Callable[[], object], config_name: str | None = None) -> None:
    """Run an entry point and end the process: 0 when done, 1 for a mistake of the user's, 130 after Ctrl-C.

    Args:
        main: a function decorated by `hydra.main`, or any other without arguments.
        config_name: the config that Hydra composes, by which a wrong key is explained.
    """
    wants_trace = os.environ.get(_FULL) == "1"
    os.environ[_FULL] = "1"  # Hydra then hands its errors on instead of printing them its own way
    try:
        main()
    except _Mistake as carried:
        if wants_trace:
            raise carried.__cause__ or carried.error from None
        _complain(_without_worker_trace(carried.error))
        sys.exit(1)
    except KeyboardInterrupt:
        _complain("Interrupted. The same command goes on from the last finished epoch.")
        sys.exit(130)
    except Exception as error:
        mistake = user_error(error)
        if wants_trace or not (mistake or isinstance(error, (HydraException, OmegaConfBaseException))):
            raise
        _complain(_without_worker_trace(mistake) if mistake else _explain(error, config_name))
        sys.exit(1)


def task(function: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Decorate what `hydra.main` runs: a user's mistake ends a single job before Hydra dresses it up as a crash."""

    @functools.wraps(function)
    def wrapped(config: DictConfig) -> None:
        try:
            function(config)
        except Exception as error:
            mistake = user_error(error)
            if mistake is None or HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            raise _Mistake(mistake) from error

    return wrapped


def user_error(error: BaseException | None) -> UserError | None:
    """The mistake of the user's behind an exception, which `hydra.utils.instantiate` may have wrapped; None if none."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


class _Mistake(BaseException):
    """Carries a user's mistake past Hydra, which announces every `Exception` of a job as a crash."""

    def __init__(self, error: UserError) -> None:
        self.error = error


def _complain(message: str) -> None:
    Console(stderr=True, highlight=False).print(f"[bold red]Error:[/] {_escape(message)}", soft_wrap=True)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def _explain(error: Exception, config_name: str | None) -> str:
    choices = _valid_choices(config_name) if config_name else None
    return f"{error}\n{choices}" if choices else str(error)


def _without_worker_trace(error: UserError) -> str:
    """A loader's worker wraps an error's message in its own stack trace: keep the message."""
    return str(error).rpartition(f"{type(error).__name__}: ")[2].strip()


def _valid_choices(config_name: str) -> str | None:
    """For the first override that does not exist, the groups or keys that do."""
    overrides = [argument for argument in sys.argv[1:] if "=" in argument and not argument.startswith("--")]
    base = _compose(config_name)
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if key.startswith("hydra"):
            continue
        if "/" in key or (CONFIG_DIR / key).is_dir():
            groups = sorted(str(path.relative_to(CONFIG_DIR)) for path in CONFIG_DIR.rglob("*") if path.is_dir())
            if key not in groups:
                return _suggest(key, groups, "Groups")
        elif OmegaConf.select(base, key, throw_on_missing=False) is None and not _exists(base, key):
            parent, _, leaf = key.rpartition(".")
            node = OmegaConf.select(base, parent) if parent else base
            while parent and not isinstance(node, DictConfig):
                parent, _, leaf = parent.rpartition(".")
                node = OmegaConf.select(base, parent) if parent else base
            names = [str(name) for name in node] if isinstance(node, DictConfig) else []
            return _suggest(leaf, names, f"Keys of {parent or 'the config'}")
    return None


def _exists(base: DictConfig, key: str) -> bool:
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(base, parent) if parent else base
    return isinstance(node, DictConfig) and leaf in node


def _suggest(wrong: str, valid: list[str], what: str) -> str:
    close = difflib.get_close_matches(wrong, valid, n=1)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    return f"{hint}{what}: {', '.join(valid)}."


def _compose(config_name: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose(config_name)
