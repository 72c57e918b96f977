"""Which number format ``trainer.precision: auto`` means here, asked of the driver: a run's key needs it before torch loads."""

import os

from msgspec.structs import replace

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
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return False
    import pynvml  # a tenth of a second, which a CPU's run need not wait for

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False  # no NVIDIA driver
    try:
        everyone = range(pynvml.nvmlDeviceGetCount())
        chosen = _numbers(visible) or everyone
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in chosen if number in everyone]
        return bool(handles) and all(pynvml.nvmlDeviceGetCudaComputeCapability(handle)[0] >= _AMPERE for handle in handles)
    finally:
        pynvml.nvmlShutdown()


def _numbers(visible: str | None) -> list[int]:
    """The GPUs that CUDA_VISIBLE_DEVICES lists by number; none if it is not set or names them otherwise."""
    names = [name.strip() for name in visible.split(",")] if visible else []
    return [int(name) for name in names] if all(name.isdigit() for name in names) else []
