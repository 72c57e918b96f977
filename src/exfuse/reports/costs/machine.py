"""On what the rows are measured, and how busy it was before."""

import os

import torch

from exfuse.runs.costs import CPU_MEMORY, CUDA_MEMORY
from exfuse.runs.environment import describe_environment
from exfuse.store.measured_costs import Conditions


def describe_conditions(device: torch.device, rounds: int, repeats: int) -> Conditions:
    """To be asked before anything is measured: the load is that of others."""
    environment = describe_environment(device)
    return Conditions(
        device=device.type,
        name=str(environment.device),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        torch=str(environment.packages["torch"]),
        cuda=environment.cuda,
        commit=environment.commit,
        uncommitted_changes=environment.uncommitted_changes,
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        rounds=rounds,
        repeats=repeats,
        memory_of=CUDA_MEMORY if device.type == "cuda" else CPU_MEMORY,
    )
