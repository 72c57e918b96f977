"""Two hundred wrong inputs over every verb: each is one message before torch is loaded."""

import json
import subprocess
import sys
from pathlib import Path

from tests.pace import patience

REPOSITORY = Path(__file__).resolve().parent.parent
LEAST = 200


def test_wrong_inputs_of_every_verb_are_answered_in_words_before_torch_loads(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bad_inputs", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=patience(600))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["wrong"], "\n".join(found["wrong"])
    assert found["tried"] >= LEAST
