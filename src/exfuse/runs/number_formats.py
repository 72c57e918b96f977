"""How float32 is calculated: as it is, or faster with inputs rounded to TensorFloat-32."""

import warnings

import torch


def allow_tf32(allowed: bool) -> None:
    """Let matrix products (of CUDA and of oneDNN) and cuDNN's convolutions use TF32, or not.

    cuDNN's switch is the one that every release since torch 2.6 has. Some warn that it is the older one; the newer ones, set by
    kind of operator, would make those parts of torch fail that still read the older.
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Please use the new API settings")
        torch.backends.cudnn.allow_tf32 = allowed
