"""Trainings that die: by SIGKILL at the n-th file that they write, or after some time, and then go on.

They run in forks of one process that imports what they need once, so that a death costs as much as the training up to it.
"""

import functools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.entry_points import SERVER


def kill_at_every_write(overrides: list[str], folder: Path) -> dict[str, list[int]]:
    """Train once for every file that a training writes, killed before that file appears, and then to the end.

    Returns:
        By the run's name (below ``folder``) the exit statuses of its starts; -9 is a kill.
    """
    return _ask(_at_every_write, overrides, folder)


def stop_at_every_write(overrides: list[str], folder: Path, kill: int) -> dict[str, list[int]]:
    """Likewise, but one training leaves what a kill would leave before each file, and is killed itself before one of them.

    A kill takes nothing from a file that has been written: the folder as it is at that moment, copied, is what it leaves.

    Args:
        overrides: of the run.
        folder: of the runs.
        kill: before which file, counted from 1, a training of its own is killed in truth.

    Returns:
        See `kill_at_every_write`; a copy has one status, that of the start that goes on with it.
    """
    return _ask(_copied_at_every_write, overrides, folder, kill)


def kill_at_random(overrides: list[str], folder: Path, kills: int) -> dict[str, list[int]]:
    """Train runs that are killed at random moments, again and again, until all were killed so often."""
    return _ask(_at_random, overrides, folder, kills)


def fill_the_disk(overrides: list[str], folder: Path, most: Sequence[int]) -> dict[str, list[int]]:
    """Train once with no room for files of more than so many bytes, and then to the end.

    What was said of it stands in ``NAME.txt``.
    """
    return _ask(_where_it_is_full, overrides, folder, most)


def fill_a_mount(overrides: list[str], folder: Path) -> dict[str, list[int]]:
    """Train once on a file system that is too small, and to the end once it is larger.

    Returns:
        See `kill_at_every_write`; without ``full`` where nothing may be mounted.
    """
    return _ask(_on_a_small_mount, overrides, folder)


def start(run: Any, runs: Path, prepare: Callable[[], object] = lambda: None, seconds: float | None = None) -> int:
    """Train in a fork of this process; the exit status, negative for a signal.

    Args:
        run: its description.
        runs: folder of the runs.
        prepare: called in the fork first.
        seconds: after which it is killed; None for never.
    """
    from exfuse.errors import user_error
    from exfuse.runs.training import train
    from tests.described import changed

    sys.stdout.flush()
    if (child := os.fork()) == 0:
        try:
            prepare()
            train(changed(run, "paths.runs", str(runs)))
            os._exit(0)
        except BaseException as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            traceback.print_exc()
            runs.with_suffix(".txt").write_text(str(user_error(error)))
            os._exit(1)
    if seconds is not None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if (ended := os.waitpid(child, os.WNOHANG))[0]:
                return os.waitstatus_to_exitcode(ended[1])
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _ask(what: Callable[..., dict[str, list[int]]], overrides: list[str], folder: Path, *more: Any) -> dict[str, list[int]]:
    folder.mkdir(parents=True, exist_ok=True)
    process = SERVER.Process(target=_work, args=(what, overrides, folder, *more))
    process.start()
    process.join()
    assert process.exitcode == 0, (folder / "output.log").read_text()[-4000:]
    found: dict[str, list[int]] = json.loads((folder / "statuses.json").read_text())
    return found


def _work(what: Callable[..., dict[str, list[int]]], overrides: list[str], folder: Path, *more: Any) -> None:
    with (folder / "output.log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    import exfuse.runs.training  # noqa: F401 - once for all that follow
    from exfuse.config.overrides import describe_run

    (folder / "statuses.json").write_text(json.dumps(what(describe_run(overrides), folder, *more)))


def _at_every_write(run: Any, folder: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    while True:
        name = f"write_{len(found) + 1:02}"
        first = start(run, folder / name, lambda: _die_at_write(len(found) + 1))
        if first == 0:  # there was no such write
            return found
        found[name] = [first, start(run, folder / name)]


def _copied_at_every_write(run: Any, folder: Path, kill: int) -> dict[str, list[int]]:
    place, copies = folder / "place", folder / "copies"  # each goes on where the first lay: a checkpoint knows its place
    copies.mkdir()
    found = {"killed": [start(run, folder / "killed", lambda: _die_at_write(kill)), start(run, folder / "killed")]}
    assert start(run, place, lambda: _at_writes(lambda number: shutil.copytree(place, copies / f"write_{number:02}"))) == 0
    for copy in sorted(copies.iterdir()):
        shutil.rmtree(place)
        copy.rename(place)
        found[copy.name] = [start(run, place)]
        shutil.copytree(place, folder / copy.name)
    return found


def _die_at_write(number: int) -> None:
    _at_writes(lambda written: os.kill(os.getpid(), signal.SIGKILL) if written == number else None)


def _at_writes(act: Callable[[int], object]) -> None:
    """From now on call ``act`` with the number, from 1, of each file that is about to appear."""
    from exfuse import files

    usual, written = Path.replace, 0

    def replace(self: Path, target: Any) -> Path:
        nonlocal written
        if files._PART in self.name:
            written += 1
            act(written)
        return usual(self, target)

    Path.replace = replace  # type: ignore[method-assign, assignment]


def _at_random(run: Any, folder: Path, kills: int) -> dict[str, list[int]]:
    chance, found, started = random.Random(0), dict[str, list[int]](), time.monotonic()
    start(run, folder / "timed")
    usual = time.monotonic() - started
    while sum(status == -signal.SIGKILL for statuses in found.values() for status in statuses) < kills:
        statuses = found.setdefault(f"random_{len(found):02}", [])
        while not statuses or statuses[-1] == -signal.SIGKILL:
            patience = usual if len(statuses) < 4 else 10 * usual  # even one that never gets far ends at last
            statuses.append(start(run, folder / f"random_{len(found) - 1:02}", seconds=chance.uniform(0, patience)))
    return found


def _where_it_is_full(run: Any, folder: Path, most: Sequence[int]) -> dict[str, list[int]]:
    found = {}
    for size in most:
        name = f"most_{size}"
        limits = size, resource.RLIM_INFINITY
        first = start(run, folder / name, functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, limits))
        found[name] = [first, start(run, folder / name)]
    return found


def _on_a_small_mount(run: Any, folder: Path) -> dict[str, list[int]]:
    place = folder / "mount"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        return {}
    try:
        statuses = [start(run, place / "full")]
        (folder / "full.txt").write_bytes((place / "full.txt").read_bytes())
        subprocess.run(["mount", "-o", "remount,size=200m", str(place)], check=True)
        statuses.append(start(run, place / "full"))
        shutil.copytree(place / "full", folder / "full")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)
    return {"full": statuses}
