"""Sweeps on Ray: first on a Ray of their own with two pretended GPUs, then on a cluster that already runs."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pace import patience
from tests.sweeps.slurm import free_ports


@pytest.fixture
def ray() -> Iterator[dict[str, str]]:
    """The environment of a Ray that shares nothing with another one of this machine and calls nobody."""
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="hydra-ray-launcher is not installed")
    # Not in pytest's folder: a socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        own = {"RAY_TMPDIR": folder, "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
        others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        yield {**others, **own}


@pytest.fixture
def cluster(ray: dict[str, str]) -> Iterator[None]:
    """A Ray cluster of one node with two pretended GPUs, started elsewhere than in the repository."""
    program = shutil.which("ray", path=str(Path(sys.executable).parent))
    assert program is not None
    command = [program, "start", "--head", "--block", "--port=0", "--num-cpus=2", "--num-gpus=2", "--include-dashboard=false"]
    (client_port,) = free_ports(1)
    command += [f"--ray-client-server-port={client_port}", "--dashboard-agent-listen-port=0", "--disable-usage-stats"]
    log = Path(ray["RAY_TMPDIR"]) / "start.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd="/", env=ray, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + patience(60)
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()  # takes the node's processes with it
        process.wait(patience(30))


@pytest.mark.slow
def test_a_sweep_on_ray_survives_its_runs_and_goes_on_on_a_cluster(
    ray: dict[str, str], cluster: None, check_launcher: Callable[..., dict[str, str]]
) -> None:
    alone = ["hydra/launcher=ray_gpus", "+hydra.launcher.ray.init.num_gpus=2"]
    of_training = check_launcher(alone, ["hydra/launcher=ray_cluster"], ray)
    assert of_training["CUDA_VISIBLE_DEVICES"] in ("0", "1")
