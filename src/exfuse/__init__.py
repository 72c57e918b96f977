"""Ablation studies of ExFuse, its five techniques for any network, and ``load`` for trained models.

Importing this is cheap: what it offers is loaded when it is asked for.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Threads that wait should sleep: spinning ones fight the loader workers for cores and cost a small machine half its speed.
# Read by the OpenMP runtime when torch loads it, which is after this.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from exfuse.fusing.training import accelerate as accelerate
    from exfuse.runs.loading import TrainedModel as TrainedModel, load as load
    from exfuse.techniques.adjacent_controls import LargerKernel as LargerKernel, WideKernel as WideKernel
    from exfuse.techniques.adjacent_prediction import (
        AdjacentPrediction as AdjacentPrediction,
        LastBlockPrediction as LastBlockPrediction,
        WideControl as WideControl,
    )
    from exfuse.techniques.channel_resolution import SubpixelConvolution as SubpixelConvolution
    from exfuse.techniques.embedding_branch import (
        ConcatEmbedding as ConcatEmbedding,
        GateEmbedding as GateEmbedding,
        ProductEmbedding as ProductEmbedding,
        SumEmbedding as SumEmbedding,
    )
    from exfuse.techniques.layer_rearrangement import rearranged as rearranged
    from exfuse.techniques.semantic_supervision import SemanticBranches as SemanticBranches

_FROM = {
    "runs.loading": ("load", "TrainedModel"),
    "fusing.training": ("accelerate",),
    "techniques.adjacent_controls": ("LargerKernel", "WideKernel"),
    "techniques.adjacent_prediction": ("AdjacentPrediction", "LastBlockPrediction", "WideControl"),
    "techniques.channel_resolution": ("SubpixelConvolution",),
    "techniques.embedding_branch": ("ConcatEmbedding", "GateEmbedding", "ProductEmbedding", "SumEmbedding"),
    "techniques.layer_rearrangement": ("rearranged",),
    "techniques.semantic_supervision": ("SemanticBranches",),
}
_OFFERED = {name: f"exfuse.{module}" for module, names in _FROM.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module 'exfuse' has no attribute {name!r}")
    return getattr(import_module(_OFFERED[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_OFFERED])
