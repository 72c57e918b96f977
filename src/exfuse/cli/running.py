"""How entry points meet the user: one clear message for a mistake, a stack trace only for a defect or on request."""

import functools
import os
import sys
from collections.abc import Callable

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from exfuse.config.overrides import check_overrides, explain
from exfuse.errors import HeldError, UserError

HELD = 75  # exit status: another process is making it; EX_TEMPFAIL
_FULL = "HYDRA_FULL_ERROR"  # set to 1 by the user, it asks for stack traces


def _nothing_to_finish(_: BaseException | None) -> int:
    return 0


def run(
    main: Callable[[], object],
    config_name: str | None = None,
    finish: Callable[[BaseException | None], int] = _nothing_to_finish,
) -> None:
    """Run an entry point; exit with 1 after a mistake of the user's, with `HELD` or, after Ctrl-C, with 130.

    Args:
        main: a function decorated by `hydra.main`, or any other without arguments.
        config_name: the config that Hydra composes, by which a wrong key is explained.
        finish: called at the end with what ended ``main`` early, if anything did. What it returns, unless 0, is the exit
            status: it has then told the user everything.
    """
    wants_trace = os.environ.get(_FULL) == "1"
    os.environ[_FULL] = "1"  # Hydra then hands its errors on instead of printing them its own way
    try:
        try:
            main()
        except BaseException as error:
            if status := finish(error):
                sys.exit(status)
            raise
        if status := finish(None):
            sys.exit(status)
    except _Mistake as carried:
        if wants_trace:
            raise carried.__cause__ or carried.error from None
        _fail(str(carried.error), status=HELD if isinstance(user_error(carried.__cause__), HeldError) else 1)
    except KeyboardInterrupt:
        _fail("interrupted. The same command goes on from the last finished epoch.", status=130)
    except (HydraException, OmegaConfBaseException, UserError) as error:
        if wants_trace:
            raise
        mistake = user_error(error)
        _fail(_message(mistake) if mistake else explain(error, config_name))


def task(function: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Decorate what `hydra.main` runs: a user's mistake ends a single job before Hydra dresses it up as a crash."""

    @functools.wraps(function)
    def wrapped(config: DictConfig) -> None:
        try:
            hydra = HydraConfig.get()
            check_overrides(hydra.overrides.task, config, hydra.job.config_name or "")
            function(config)
        except Exception as error:
            mistake = user_error(error)
            if mistake is None or is_multirun():
                raise
            raise _Mistake(UserError(_message(mistake))) from error

    return wrapped


def is_multirun() -> bool:
    """Whether the running job is one of a sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def choices() -> dict[str, str]:
    """The option that was chosen in each config group of the running job."""
    chosen = HydraConfig.get().runtime.choices.items()
    # a group that another file chose is listed with the place that it fills, e.g. pretraining@pretraining
    return {group.partition("@")[0]: option for group, option in chosen if option and not group.startswith("hydra/")}


def user_error(error: BaseException | None) -> UserError | None:
    """The mistake of the user's behind an exception, which `hydra.utils.instantiate` may have wrapped; None if none."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


class _Mistake(BaseException):
    """Carries a user's mistake past Hydra, which announces every `Exception` of a job as a crash."""

    def __init__(self, error: UserError) -> None:
        self.error = error


def _message(error: UserError) -> str:
    """A loader's worker wraps an error's message in its own stack trace: keep the message."""
    return str(error).rpartition(f"{type(error).__name__}: ")[2].strip()


def fail_softly(message: str) -> None:
    """Print an error as `run` does, without ending the process."""
    escaped = message.replace("[", r"\[")  # Rich would read brackets as markup
    Console(stderr=True, highlight=False).print(f"[bold red]Error:[/] {escaped}", soft_wrap=True)


def _fail(message: str, status: int = 1) -> None:
    fail_softly(message)
    sys.exit(status)
