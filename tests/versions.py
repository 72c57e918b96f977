"""Try the oldest and the newest versions that pyproject.toml admits: ``make test-versions``.

Each combination gets an environment under outputs/versions, in which the quick tests of every room run.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ENVIRONMENTS = REPOSITORY / "outputs" / "versions"
# by name: (Python, which end of the bounds)
COMBINATIONS = {
    "oldest-3.10": ("3.10", "oldest"),
    "newest-3.11": ("3.11", "newest"),
    "newest-3.12": ("3.12", "newest"),
    "newest-3.13": ("3.13", "newest"),
}
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "timm", "numpy")
# some of every room: models and their fused forms, data, trainings in every format, keys and records, tables, export
QUICK = (
    "techniques models fusing tasks data metrics store config exporting runs/test_training.py runs/test_resume.py analysis "
    "test_every_entry.py benchmarks/test_inference.py"
)


def oldest(requirements: str) -> list[str]:
    """The lower bounds of pyproject.toml's text as constraints, for the packages whose ends are tried.

    >>> oldest('dependencies = ["torch>=2.13,<2.15", "numpy>=2.0.1"]')
    ['torch==2.13', 'numpy==2.0.1']
    """
    found = (re.search(rf'"({re.escape(name)})>=([\d.]+)', requirements) for name in PACKAGES)
    return [f"{match[1]}=={match[2]}" for match in found if match]  # 2.13 is 2.13.0, no later mend of it


def interpreter(version: str) -> str | None:
    """A Python of this minor version that runs: on the path, or one that pyenv has made."""
    known = [shutil.which(f"python{version}"), *sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    works = (str(one) for one in known if one and subprocess.run([one, "-c", ""], capture_output=True).returncode == 0)
    return next(works, None)


def attempt(name: str) -> bool | None:
    """Install a combination and run the quick tests with it; None where its Python is not at hand."""
    version, end = COMBINATIONS[name]
    python = interpreter(version)
    if python is None:
        return None
    folder = ENVIRONMENTS / name
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(oldest((REPOSITORY / "pyproject.toml").read_text()) if end == "oldest" else []))
    run = str(folder / "bin" / "python")
    subprocess.run([run, "-m", "pip", "install", "--quiet", "-c", constraints, "-e", ".[dev]"], cwd=REPOSITORY, check=True)
    tests = [f"tests/{one}" for one in QUICK.split() if (REPOSITORY / "tests" / one).exists()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [run, "-m", "pytest", "-n", "auto", "--maxprocesses", "8", "-m", "not slow", *tests]
    return subprocess.run(command, cwd=REPOSITORY, env=environment).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(COMBINATIONS)}; all of them by default")
    results = {name: attempt(name) for name in parser.parse_args().names or COMBINATIONS}
    for name, passed in results.items():
        told = {None: f"not tried: no Python {COMBINATIONS[name][0]} on this machine", True: "passed", False: "FAILED"}[passed]
        print(f"{name}: {told}")
    return int(False in results.values() or not any(results.values()))


if __name__ == "__main__":
    sys.exit(main())
