"""``exfuse runs``: what was trained."""

import json
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table


def du(config: DictConfig) -> None:
    """Print how many bytes each store takes."""
    sizes = {name: _size(Path(folder)) for name, folder in config.paths.items() if name != "data"}
    sizes |= {name: _size(Path("outputs") / name) for name in ("studies", "sweeps")}
    if config.json:
        print(json.dumps(sizes))
        return
    table = Table("what", "MB", box=None)
    for name, size in [*sizes.items(), ("all", sum(sizes.values()))]:
        table.add_row(name, f"{size / 1e6:,.1f}")
    Console().print(table)


def summarise(config: DictConfig) -> None:
    """Summarise over seeds."""
    from exfuse.runs.summary import summarise as summarise_runs

    summarise_runs(Path(config.folder), [str(name) for name in config.classes], Path(config.csv) if config.csv else None)


def rescore(config: DictConfig) -> None:
    """Score runs again."""
    from exfuse.process import choose_device
    from exfuse.runs.evaluation import rescore as rescore_runs

    rescore_runs([Path(run) for run in config.runs], choose_device(config.device), config.workers)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
