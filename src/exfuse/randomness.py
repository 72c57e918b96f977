"""Common random numbers: every random number is a function of names, never of the order in which code runs."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager


def derive_seed(*names: int | str) -> int:
    """Turn a tuple of names, such as ``(seed, epoch, sample)``, into a seed in ``[0, 2**32)``.

    The same names give the same seed on every machine; different names give unrelated ones, so that seed 0 in
    epoch 1 shares nothing with seed 1 in epoch 0.
    """
    text = "\x1f".join(f"{type(name).__name__}:{name}" for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


@contextmanager
def torch_seeded(*names: int | str) -> Iterator[None]:
    """Run a block with torch's CPU generator seeded by ``names``, and leave the global state as it was."""
    import torch  # here: who only derives seeds, to generate scenes say, needs none

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(*names))
        yield


@contextmanager
def all_seeded(seed: int) -> Iterator[None]:
    """Run a block with Python's, NumPy's and torch's CPU generator seeded, and leave them as they were."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - what others draw from
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
