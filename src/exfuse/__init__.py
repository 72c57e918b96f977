"""Ablation studies of ExFuse."""

import os

# Threads that wait should sleep: spinning ones fight the loader workers for cores and cost a small machine half its speed.
# Read by the OpenMP runtime when torch loads it, which is after this.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
