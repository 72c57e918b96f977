"""The command ``exfuse VERB ...``."""

import gc
import sys
from collections.abc import Sequence

from exfuse.errors import UsageError, UserError, complain

_FLAGS = ("--config-dir", "-cd")
# Objects made before the collector looks for cycles: at Python's own 700 it looks through all that is imported again and again,
# a fifth of a start. What holds no cycle, as most tensors and arrays, is free at once, whatever stands here.
_COLLECTED = (100_000, 20, 20)


def main(*verb: str) -> None:
    """Read this process's command line and do what it says.

    Args:
        verb: what is to stand before the words that were typed.
    """
    gc.set_threshold(*_COLLECTED)
    try:
        do([*verb, *sys.argv[1:]])
    except KeyboardInterrupt:  # before a verb's work has begun, which says itself how it goes on
        complain("interrupted.")
        sys.exit(130)


def start(module: str, *verb: str) -> None:
    """Do what `main` does if ``module``, a thin module's ``__name__``, is what Python was started with."""
    if module == "__main__":
        main(*verb)


def do(words: Sequence[str]) -> None:
    """Do what the words after ``exfuse`` say."""
    command, words = None, _verb_first(words)
    try:
        # Nothing is imported before it is needed: help waits for no composition, no command but a few for torch.
        if not words or words[0].startswith("-") or {"--help", "-h"} & {*words}:
            from exfuse.cli.help import answer

            answer(words)
        else:
            from exfuse.cli.words import read_command

            command = read_command(words)
    except UserError as error:
        complain(str(error))
        sys.exit(2 if isinstance(error, UsageError) else 1)
    if command is not None:
        from exfuse.cli.running import run

        run(command)


def _verb_first(words: Sequence[str]) -> list[str]:
    """The words with a folder of configs that stands before the verb behind it."""
    first = 0
    while words[first : first + 1] and words[first].partition("=")[0] in _FLAGS:
        first += 1 if "=" in words[first] else 2
    return [*words[first:], *words[:first]]


if __name__ == "__main__":
    main()
