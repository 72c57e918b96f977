"""Where a run took place: versions, device and commit."""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

import torch

from exfuse.store.record import Environment

_PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "timm",
    "albumentations",
    "hydra-core",
    "numpy",
    "pillow",
)


def describe_environment(
    device: torch.device, processes: int | None = None, code: Mapping[str, str] = MappingProxyType({})
) -> Environment:
    """Package versions, machine, device, the commit of this code and that of others; what git cannot say is None, unknown."""
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name) is not None
    changes = _git("status", "--porcelain") if tracked else None
    return Environment(
        packages={name: version_of(name) for name in _PACKAGES},
        python=platform.python_version(),
        system=platform.platform(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        processes=processes,
        cuda=torch.version.cuda if device.type == "cuda" else None,
        commit=_git("rev-parse", "HEAD") if tracked else None,
        uncommitted_changes=None if changes is None else bool(changes),
        code=dict(code),
    )


def version_of(package: str) -> str | None:
    """Of an installed package; None without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    try:
        here = Path(__file__).resolve().parent
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
