"""The command in this process, as the shell starts it."""

from collections.abc import Callable

import pytest

from exfuse.__main__ import do

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run ``exfuse WORDS``: exit status, standard output and error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # an earlier command of this process has set it
        try:
            do([str(word) for word in words])
            status = 0
        except SystemExit as left:
            status = int(left.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
