"""A batch in parts: how many images a device takes at once (``runtime.micro_batch``), settled before a run has its key.

What is settled is ``trainer.accumulate_grad_batches``, which counts in the key: batch norm sees one part at a time.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import TypeVar

from msgspec.structs import replace

from exfuse.composition.precision import resolve_precision
from exfuse.devices import gpu_memory, gpus_for
from exfuse.errors import ConfigError, plural
from exfuse.memory import memory_limit
from exfuse.runs.known import find_known
from exfuse.runs.plan import PRETRAINED, find_backbone, images_at_once, mixes_pairs, plan_run, read_splits
from exfuse.store.description import Described, PretrainingDescription, RunDescription
from exfuse.store.record import Record

AUTO = "auto"
_OF_GPU, _OF_MEMORY = 0.85, 0.9  # of what is there, for what no tensor holds and for an estimate that is too low; chosen
D = TypeVar("D", RunDescription, PretrainingDescription)


def settle(run: D) -> D:
    """The run with its batches in the parts that it asks for.

    Args:
        run: ``auto`` is what a begun run of the same took or, where there is none, as many images as fit.

    Raises:
        ConfigError: if nothing fits, a begun run no longer fits, or the parts are said twice.
    """
    asked = run.runtime.micro_batch
    if asked is None:
        return run
    return in_parts(run, asked if isinstance(asked, int) else images_of([run]))


def in_parts(run: D, images: int) -> D:
    """The run with its batches in as few equal parts as leave no more than so many images to each device.

    Raises:
        ConfigError: if ``trainer.accumulate_grad_batches`` says it, too.
    """
    if run.trainer.accumulate_grad_batches != 1:
        raise ConfigError("runtime.micro_batch says what trainer.accumulate_grad_batches says. Leave one of them out.")
    whole, possible = _whole(run), _possible(run)
    parts = next((parts for parts in possible if whole // parts <= images), None)
    if parts is None:
        raise ConfigError(
            f"runtime.micro_batch={images}: batches of recipe.batch_size, and of the pretraining where one is to be made, "
            f"leave at least {plural(whole // possible[-1], 'image')} of {whole} at once."
        )
    trainer, runtime = replace(run.trainer, accumulate_grad_batches=parts), replace(run.runtime, micro_batch=None)
    return replace(run, trainer=trainer, runtime=runtime)


def images_of(runs: Sequence[D], at_once: int = 1) -> int:
    """How many images a device takes at once in runs that are to share it: what begun ones took, else what fits the largest.

    Args:
        runs: that ask for ``auto``.
        at_once: how many of them are trained at the same time.

    Raises:
        ConfigError: if nothing fits, or what begun runs took does not.
    """
    began, all_done = _begun(runs)
    if began and all_done:
        return began
    most = max(map(_whole, runs))
    for run in runs:
        most = _most(run, at_once, most)  # of the largest so far: a later one is tried with no more
    if began > most:
        raise ConfigError(
            f"runtime.micro_batch=auto: these runs began with {plural(began, 'image')} at once, and here {most} fit. Go on "
            f"where they began, or start anew with runtime.micro_batch={most}."
        )
    return began or most


def _whole(run: Described) -> int:
    """A device's share of a batch."""
    recipe = run.recipe if isinstance(run, RunDescription) else run.pretraining.recipe
    return images_at_once(run, recipe.batch_size)


def _possible(run: Described) -> list[int]:
    """Numbers of equal parts into which that can be divided, and the pretraining's batch where that may come first."""
    batches, pretrains = [_whole(run)], isinstance(run, PretrainingDescription)
    if isinstance(run, RunDescription) and run.backbone.init == PRETRAINED and run.backbone.missing == "make":
        batches.append(images_at_once(run, run.pretraining.recipe.batch_size))
        pretrains = True
    most, odd = math.gcd(*batches), pretrains and mixes_pairs(run)
    return [parts for parts in range(1, most + 1) if most % parts == 0 and not (odd and batches[-1] // parts % 2)] or [1]


def _begun(runs: Sequence[D]) -> tuple[int, bool]:
    """How many images at once begun runs took, 0 without one; and whether all of these runs are done in such parts."""
    for images in sorted({_whole(run) // parts for run in runs for parts in _possible(run)}, reverse=True):
        can = [run for run in runs if _whole(run) // _possible(run)[-1] <= images and not run.overwrite]
        begun = [_record(run, images) for run in can]
        if any(begun):
            return images, len(begun) == len(runs) and all(record is not None and record.done for record in begun)
    return 0, False


def _record(run: D, images: int) -> Record | None:
    """Of a run that took so many images at once."""
    settled = in_parts(run, images)
    folder = plan_run(settled, _read_splits).folder if isinstance(settled, RunDescription) else find_backbone(settled)[0]
    record = find_known(settled, folder).record()  # a backbone's key knows no parts
    parts = record and record.setting("trainer.accumulate_grad_batches")
    return record if parts == settled.trainer.accumulate_grad_batches else None


_read_splits = cache(read_splits)


def _most(run: D, at_once: int, limit: int) -> int:
    """The most images of a batch, up to a limit, that a device has room for; the limit where a whole batch has no more.

    Raises:
        ConfigError: if that is not even what the smallest part holds.
    """
    from exfuse.runs.peak import training_peak  # with torch, for which nobody waits whose runs have begun

    gpus = gpus_for(run.trainer.accelerator)
    room = _OF_GPU * gpu_memory(gpus) / math.ceil(at_once / len(gpus)) if gpus else _OF_MEMORY * memory_limit() / at_once
    whole, possible = _whole(run), _possible(run)
    for parts in [parts for parts in possible if whole // parts <= limit] or possible[-1:]:
        needed = training_peak(resolve_precision(in_parts(run, whole // parts)), bool(gpus))
        if needed <= room:
            return limit if parts == 1 else min(whole // parts, limit)
    raise ConfigError(
        f"runtime.micro_batch=auto: {run.name} with {plural(whole // possible[-1], 'image')} at once takes about "
        f"{needed / 2**30:.1f} GiB, and there are {room / 2**30:.1f}. Choose a smaller crop or other devices."
    )
