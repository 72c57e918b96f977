"""Which machine, versions and commit a benchmark was taken with."""

import os
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from exfuse.runs.environment import describe_environment

_ALSO = ("segmentation-models-pytorch", "onnxruntime")  # references and exports of some benchmarks


def describe_machine(device: str, threads: int) -> dict[str, Any]:
    """Plain data: ``machine`` and ``gpu`` for people, versions, threads, date and commit.

    Args:
        device: cpu or cuda.
        threads: of torch in each benchmark.
    """
    environment = describe_environment(torch.device("cpu"))
    versions = {"python": environment.python, **environment.packages, **{name: _version(name) for name in _ALSO}}
    return {
        "machine": f"{os.cpu_count()} cores, {environment.device}",
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "cuda": torch.version.cuda if device == "cuda" else None,
        "system": environment.system,
        "threads": threads,
        "versions": {name: found for name, found in versions.items() if found},
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": environment.commit,
        "uncommitted_changes": environment.uncommitted_changes,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
