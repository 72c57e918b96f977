"""Run every test with its full numbers and write the result into docs/test-all.md: ``make test-all``."""

import collections
import datetime
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "test-all.md"
RESULTS = REPOSITORY / "outputs" / "tests" / "all.xml"
MINUTES = 60  # that it may take


def main(arguments: list[str]) -> int:
    """Run pytest with these further arguments; its exit status, or 1 where it took too long."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pytest", "-n", "auto", "--maxprocesses", "8", "--dist", "worksteal"]
    environment = os.environ | {"EXFUSE_FULL_TESTS": "1", "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    status = subprocess.run([*command, f"--junitxml={RESULTS}", *arguments], cwd=REPOSITORY, env=environment).returncode
    minutes = (time.monotonic() - started) / 60
    PAGE.write_text(page(RESULTS, minutes, _commit()))
    print(f"{PAGE.relative_to(REPOSITORY)} says so: {minutes:.0f} min, exit status {status}")
    return status or int(minutes > MINUTES)


def page(results: Path, minutes: float, commit: str) -> str:
    """The page that says what a run of all tests gave.

    Args:
        results: JUnit's XML as pytest writes it.
        minutes: how long it took.
        commit: what was tested.
    """
    outcomes: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    seconds: collections.Counter[str] = collections.Counter()
    failures = []
    for case in ElementTree.parse(results).iter("testcase"):
        name = case.get("classname", "")
        seconds[name] += float(case.get("time", 0))  # type: ignore[assignment]
        outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        outcomes[outcome] += 1
        if outcome == "skipped":
            reasons[(next(iter(case)).get("message") or "").splitlines()[0]] += 1
        elif outcome != "passed":
            failures.append(f"{name}::{case.get('name')}")
    counts = ", ".join(f"{outcomes[kind]} {told}" for kind, told in _TOLD.items() if outcomes[kind] or kind == "passed")
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "pytorch-lightning", "timm", "numpy"))
    lines = [
        "# The full tests",
        "",
        "`make test-all` does all of what `make test` samples (kills, simulated studies, variants) and writes this page.",
        "",
        f"- Result: **{counts}** in {minutes:.0f} minutes",
        f"- Commit: {commit}, {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}",
        f"- Machine: {machine}; {packages}",
        "",
    ]
    if failures:
        lines += ["## Failed", "", *(f"- `{name}`" for name in failures), ""]
    if reasons:
        lines += ["## Skipped", "", "| tests | reason |", "|---|---|"]
        lines += [f"| {count} | {reason.replace('|', '/')} |" for reason, count in reasons.most_common()] + [""]
    lines += ["## What takes the time", "", "| minutes | tests |", "|---|---|"]
    lines += [f"| {spent / 60:.1f} | `{name}` |" for name, spent in seconds.most_common(12)]
    return "\n".join(lines) + "\n"


_TOLD = {"passed": "passed", "failure": "failed", "error": "ended in an error", "skipped": "skipped"}


def _commit() -> str:
    def git(*words: str) -> str | None:
        done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changes = git("rev-parse", "--short=10", "HEAD"), git("status", "--porcelain", "--", ":!docs/test-all.md")
    if commit is None:
        return "unknown"
    return f"`{commit}`" + (" with uncommitted changes" if changes else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
