"""How the command meets the user: one clear message for a mistake, a stack trace only for a defect or on request."""

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from exfuse.cli.verbs import Verb
from exfuse.cli.words import Command
from exfuse.config import search_path
from exfuse.config.composing import compose_quickly
from exfuse.config.overrides import check_groups, explain, running_choices
from exfuse.config.read import read_arguments
from exfuse.config.signatures import signature
from exfuse.errors import HELD, HeldError, UsageError, UserError, complain, user_error
from exfuse.files import CONFIG_DIR
from exfuse.imports import without_unused
from exfuse.process import handling
from exfuse.store.find import find_named_runs
from exfuse.terminal import outlive_streams

_LASTING = ("train", "pretrain", "chain")  # verbs whose work stays, whether or not anybody reads of it
_FULL = "HYDRA_FULL_ERROR"  # set to 1 by the user, it asks for stack traces


def run(command: Command) -> None:
    """Compose the config of a verb and do its work; exit with 1 after a mistake of the user's, with 2 after one in usage.

    Another process that makes the same is status `HELD`, Ctrl-C 130.
    """
    wants_trace = os.environ.get(_FULL) == "1"
    os.environ[_FULL] = "1"  # Hydra then hands its errors on instead of printing them its own way
    for note in command.notes:
        print(f"Note: {note}", file=sys.stderr)
    compose_quickly()
    unprinted = outlive_streams()
    parser = get_args_parser()
    parser.prog = f"exfuse {command.verb.name}"
    arguments = parser.parse_intermixed_args(command.arguments)
    try:
        try:
            search_path.use_words(command.arguments)
            check_groups(arguments.overrides)
            with handling([signal.SIGTERM], _interrupt):  # a training has its own way to end
                _run_hydra(
                    arguments, parser, _task(command, arguments.overrides, wants_trace), str(CONFIG_DIR), command.verb.config
                )
        except BaseException as error:
            if status := _finish(error):
                sys.exit(status)
            raise
        if status := _finish(None):
            sys.exit(status)
    except _Mistake as carried:
        if wants_trace:
            raise carried.__cause__ or carried.error from None
        _fail(carried.error, carried.__cause__)
    except KeyboardInterrupt:
        lasts = command.verb.name in _LASTING
        complain("interrupted." + (" The same command goes on from the last finished epoch, if there is one." if lasts else ""))
        sys.exit(130)
    except (HydraException, OmegaConfBaseException, UserError, OSError) as error:
        if wants_trace:
            raise
        if (mistake := _in_words(error, command, arguments.overrides)) is None:
            raise
        _fail(mistake, error)
    sys.stdout.flush()
    for refused in unprinted if command.verb.name not in _LASTING else ():  # what was asked for is what was to be printed
        complain(f"standard output could not be written: {os.strerror(refused.errno or 0)}.")
        sys.exit(1)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def is_multirun() -> bool:
    """Whether the running job is one of a sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def _in_words(error: Exception, command: Command, typed: list[str]) -> UserError | None:
    """A mistake of the user's, in words; None for anything else."""
    mistake = user_error(error)
    if mistake is None and isinstance(error, (HydraException, OmegaConfBaseException)):
        handed = command.things.get("overrides")  # of runs that the verb composes itself
        mistake = UserError(explain(error, *((command.verb.config, typed) if handed is None else ("train", handed))))
    return mistake


def _task(command: Command, typed: list[str], wants_trace: bool) -> Callable[[DictConfig], None]:
    """What Hydra runs: a user's mistake ends a single job before Hydra dresses it up as a crash."""
    verb, things = command.verb, command.things

    @functools.wraps(run)
    def task(config: DictConfig) -> None:
        try:
            _set_things(verb, config, things)
            arguments = read_arguments(config, verb.target, running_choices()) if verb.work else {"config": config}
            if verb.asks:
                asks = f"exfuse.runs.asked.{verb.asks}"
                get_object(asks)(**{name: arguments[name] for name in signature(asks).arguments})
            with without_unused():
                target = get_object(verb.target)
            os.environ[_FULL] = str(int(wants_trace))  # for what the work starts, such as the processes of other devices
            try:
                target(**arguments)
            finally:
                os.environ[_FULL] = "1"
        except Exception as error:
            mistake = _in_words(error, command, typed)
            if mistake is None or is_multirun():
                raise
            raise _Mistake(mistake) from error

    return task


def _set_things(verb: Verb, config: DictConfig, things: dict[str, Any]) -> None:
    """Set what was typed without a key; runs by name or key become folders.

    Raises:
        UsageError: if something is missing that the verb needs.
    """
    for key, value in things.items():
        OmegaConf.update(config, key, value)
    for thing in verb.things:
        above, _, key = thing.key.rpartition(".")
        is_none = OmegaConf.is_missing(config[above] if above else config, key) or things.get(thing.key) == []
        if is_none and not thing.word.startswith("["):
            raise UsageError(f"{above or key} is not set: which {thing.word.strip('[.]')}? Usage: {verb.usage}")
        typed = OmegaConf.select(config, thing.key)
        if thing.is_run and typed:
            texts = [typed] if isinstance(typed, str) else [str(text) for text in typed]
            found = [str(path) for path in find_named_runs(texts, Path(config.paths.runs))]
            OmegaConf.update(config, thing.key, found if thing.many else found[0])


def _finish(error: BaseException | None) -> int:
    """End a sweep, if this was one, with its summary and table; what it returns, unless 0, is the exit status."""
    ending = sys.modules.get("exfuse.sweeps.ending")  # loaded with the callback of a sweep
    return ending.finish_sweep(error) if ending else 0


class _Mistake(BaseException):
    """Carries a user's mistake past Hydra, which announces every `Exception` of a job as a crash."""

    def __init__(self, error: UserError) -> None:
        self.error = error


def _fail(error: UserError, cause: BaseException | None) -> None:
    # A loader's worker wraps an error's message in its own stack trace: keep the message.
    complain(str(error).rpartition(f"{type(error).__name__}: ")[2].strip())
    sys.exit(HELD if isinstance(user_error(cause), HeldError) else 2 if isinstance(error, UsageError) else 1)
