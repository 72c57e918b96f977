"""Which number format ``trainer.precision: auto`` means here, asked of the driver: a run's key needs it before torch loads."""

from msgspec.structs import replace

from exfuse.process import gpu_generation
from exfuse.store.description import D, Precision

_AMPERE = 8  # major compute capability of the first GPUs that calculate in bfloat16


def resolve_precision(described: D) -> D:
    """The description with ``trainer.precision: auto`` replaced by what the device does best, before the key is taken."""
    return possible_precisions(described)[0]


def possible_precisions(described: D) -> list[D]:
    """The description in every number format that its own may mean: what it means here, then for ``auto`` what elsewhere."""
    trainer = described.trainer
    if trainer.precision != "auto":
        return [described]
    formats: list[Precision] = ["32-true", "bf16-mixed"]
    if trainer.accelerator in ("auto", "gpu", "cuda") and gpus_have_bfloat16():
        formats.reverse()
    return [replace(described, trainer=replace(trainer, precision=one)) for one in formats]


def gpus_have_bfloat16() -> bool:
    """Whether this process may use a CUDA GPU and all that it may use calculate in bfloat16."""
    return gpu_generation() >= _AMPERE
