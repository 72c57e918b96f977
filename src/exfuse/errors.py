"""Mistakes that a user can mend: entry points print them as one clear message, without a stack trace."""


class UserError(Exception):
    """Base of every message meant for the user: it names the file or key, what was expected and what to do."""


class UsageError(UserError):
    """A command line that says too little or too much."""


class HeldError(UserError):
    """A run or backbone that another process is making."""


class ConfigError(UserError):
    """A config group, option or key that cannot be used as given."""


class DataError(UserError):
    """A data set, image or mask that cannot be used as it is."""


class CheckpointError(UserError):
    """A weight file or checkpoint that does not fit the model it is meant for."""


class SubmissionError(UserError):
    """An archive that the test server would refuse, or score wrongly."""


HELD = 75  # exit status: another process is making it; EX_TEMPFAIL


def user_error(error: BaseException | None) -> UserError | None:
    """The mistake of the user's behind an exception, which `hydra.utils.instantiate` may have wrapped; None if none."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def complain(message: str) -> None:
    """Print ``Error: message`` on standard error, without ending the process."""
    from rich.console import Console  # whoever never errs never waits for it

    escaped = message.replace("[", r"\[")  # Rich would read brackets as markup
    Console(stderr=True, highlight=False).print(f"[bold red]Error:[/] {escaped}", soft_wrap=True)
