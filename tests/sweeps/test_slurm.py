"""Sweeps as SLURM job arrays, on a real SLURM of this machine."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.sweeps.slurm import NoSlurm, one_node_slurm


@pytest.fixture
def slurm() -> Iterator[dict[str, str]]:
    """The environment in which a SLURM that runs two jobs at a time is found."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="hydra-submitit-launcher is not installed")
    with ExitStack() as stack:
        try:
            environment = stack.enter_context(one_node_slurm(cpus=2))
        except NoSlurm as reason:
            pytest.skip(str(reason))
        yield environment


@pytest.mark.slow
def test_a_sweep_of_slurm_jobs_survives_its_runs_and_goes_on(
    slurm: dict[str, str], check_launcher: Callable[..., dict[str, str]]
) -> None:
    launcher = ["hydra/launcher=slurm", "hydra.launcher.gpus_per_node=null", "hydra.launcher.cpus_per_task=1"]
    of_training = check_launcher(launcher, launcher, slurm)
    # By these Lightning would take the one task of the job for one of its own processes, and refuse to start any.
    assert not [name for name in of_training if name.startswith("SLURM_")]
