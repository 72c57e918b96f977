"""The command ``exfuse VERB ...``."""

import sys
from collections.abc import Sequence

from exfuse.cli.words import UsageError, read_command
from exfuse.errors import complain


def main(words: Sequence[str] | None = None) -> None:
    """Read a command line and do what it says.

    Args:
        words: what follows ``exfuse``; None takes the process's own.
    """
    words = sys.argv[1:] if words is None else words
    try:
        if not words or words[0].startswith("-") or {"--help", "-h"} & {*words}:
            from exfuse.cli.help import answer

            answer(words)
        else:
            command = read_command(words)
            from exfuse.cli.running import run  # Hydra loads only for a command that can be read

            run(command)
    except UsageError as error:
        complain(str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
