"""Which number format ``trainer.precision: auto`` means here, asked of the system: a run's key needs it before torch loads."""

from msgspec.structs import replace

from exfuse.devices import gpu_generation, may_have_gpu, processor_knows_bfloat16
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
    if device_has_bfloat16(trainer.accelerator):
        formats.reverse()
    return [replace(described, trainer=replace(trainer, precision=one)) for one in formats]


def device_has_bfloat16(accelerator: str) -> bool:
    """Whether all CUDA GPUs that this process may use calculate in bfloat16; where a CPU is used, whether that does.

    Args:
        accelerator: Lightning's name of it, or ``auto``.
    """
    if accelerator in ("auto", "gpu", "cuda") and (generation := gpu_generation()):
        return generation >= _AMPERE
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not may_have_gpu())
    return on_cpu and processor_knows_bfloat16()
