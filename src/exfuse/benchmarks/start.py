"""From a command to its first training step: CPU time of a single command, and wall time of a sweep's child."""

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from exfuse.benchmarks.report import Measurement, hold, table_of_shares
from exfuse.process import HEARTBEAT
from exfuse.runs.child import run_child

_CHILD, _COMMAND = "<= 2", "<= 5"  # seconds
_LOOKS = 0.005  # seconds between two looks for the first step
_LIBRARIES = "import exfuse.cli.running, exfuse.cli.training, exfuse.runs.training"
_OVERRIDES = (
    *("trainer=cpu", "recipe=demo", "recipe.epochs=1", "backbone.init=random", "runtime.threads=1", "runtime.workers=0"),
    *("data.images.train=8", "data.images.val=1", "data.size=96", "trainer.enable_progress_bar=false"),
)


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:  # noqa: ARG001 - as all offer it
    """The demo's first step on eight generated scenes; on a CPU, whatever the device."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        overrides = [*_OVERRIDES, f"data.root={scratch / 'scenes'}", f"paths.runs={scratch / 'runs'}"]
        progress("a single command")
        seconds = min(_cpu_to_first_step(overrides, scratch / f"heart{turn}") for turn in range(3))
        children = []
        for seed in range(4):  # the first of them waits for the libraries, as a sweep's first does
            progress(f"child {seed + 1} of a sweep")
            children.append(_wall_to_first_step([*overrides, f"seed={seed}"], scratch / f"heart of child {seed}"))
    first, *later = children
    where = "recipe=demo on 8 scenes, one thread, no loader workers"
    return [
        hold("single command to its first step, CPU time", seconds, None, "s", _COMMAND, where, profile=_by_package),
        hold(
            "a sweep's child to its first step / the sweep's first child, wall time",
            min(later),
            first,
            "s",
            details=where,
        ),
        hold("a sweep's child to its first step, wall time", min(later), None, "s", _CHILD, where, profile=_by_package),
    ]


def _cpu_to_first_step(overrides: list[str], heart: Path) -> float:
    heart.touch()
    before = _cpu_of_children()
    command = [sys.executable, "-m", "exfuse", "train", *overrides]
    with subprocess.Popen(
        command, env=os.environ | {HEARTBEAT: str(heart)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not heart.read_text():
            time.sleep(_LOOKS)
        if process.returncode is not None:
            raise RuntimeError(f"exfuse train ended with status {process.returncode} before its first step")
        process.kill()
    return _cpu_of_children() - before


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wall_to_first_step(overrides: list[str], heart: Path) -> float:
    heart.touch()
    os.environ[HEARTBEAT] = str(heart)
    over, found = threading.Event(), []

    def watch() -> None:
        while not over.wait(_LOOKS):
            if heart.read_text():
                found.append(time.perf_counter())
                return

    watcher = threading.Thread(target=watch)
    started = time.perf_counter()
    watcher.start()
    ended = run_child("train", overrides, heart.with_suffix(".log"), served=True)
    over.set()
    watcher.join()
    if not found:
        raise RuntimeError(f"a child ended with status {ended.returncode} before its first step: {ended.complaint}")
    return found[0] - started


def _by_package() -> str:
    """What a training imports, by the package that takes the time itself."""
    command = [sys.executable, "-X", "importtime", "-c", _LIBRARIES]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    taken: Counter[str] = Counter()
    for line in said.splitlines():
        if line.startswith("import time:") and (own := line.removeprefix("import time:").split("|")[0].strip()).isdigit():
            taken[line.rpartition("|")[2].strip().partition(".")[0]] += int(own)
    return table_of_shares([(microseconds / 1e3, package) for package, microseconds in taken.items()], "package imported")
