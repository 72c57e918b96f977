"""As a program, what training and pretraining load by themselves: status 1 if W&B's tracker is among it."""

import sys

import exfuse.runs.pretraining
import exfuse.runs.training  # noqa: F401

sys.exit("exfuse.tracking.wandb_tracker" in sys.modules)
