"""The process that calculates: which of several it is, its device, its number format, its memory."""

import contextlib
import ctypes
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pynvml

from exfuse.errors import ConfigError, UserError, plural

if TYPE_CHECKING:
    import torch

# Of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_CGROUP_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of versions 2 and 1
_AMD = Path("/dev/kfd")
_GPU_FILES = (Path("/dev/nvidiactl"), Path("/dev/dxg"), _AMD)  # NVIDIA's, those of Windows under its Linux, AMD's
_PROCESSOR = Path("/proc/cpuinfo")
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # instructions of x86 and Arm
_MOST_WORKERS = 8  # a loader: there are two in a training


SWEEP = "EXFUSE_SWEEP"  # environment variable: the name by which trackers show a sweep of no study
HEARTBEAT = "EXFUSE_HEARTBEAT"  # environment variable: a file whose time of change says when a child last made progress
_beaten, _said = 0.0, False


def beat(said: Callable[[], str] | None = None) -> None:
    """Tell whoever started this process that it makes progress, and nobody where none asked.

    Its first words are written at once, all else at most every second.

    Args:
        said: gives the text that the file is to hold; what it held stays there without.
    """
    global _beaten, _said
    first = said is not None and not _said
    if (path := os.environ.get(HEARTBEAT)) and (first or time.monotonic() > _beaten + 1):
        _beaten, _said = time.monotonic(), _said or first
        with contextlib.suppress(OSError):
            if said is not None:
                Path(path).write_text(said())
            os.utime(path)


def is_first_process() -> bool:
    """Whether this process writes and prints: the only one, or the first of several of a distributed run."""
    from pytorch_lightning.utilities import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0


def choose_device(name: str) -> "torch.device":
    """The device outside of training, where Lightning chooses; ``auto`` is the GPU if there is one.

    Whoever calculates outside of training asks here first, so here float32 is made to mean float32: by itself torch lets cuDNN
    round to TensorFloat-32, and a run would be scored otherwise than at its end.

    Raises:
        ConfigError: if there is no such device.
    """
    import torch

    allow_tf32(False)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: torch sees no CUDA GPU here. Choose device=cpu.")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device={name}: expected auto, cpu or cuda.") from error
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device={name}: torch sees no Apple GPU here. Choose device=cpu.")
    if device.type == "cuda" and (device.index or 0) >= (there := torch.cuda.device_count()):
        raise ConfigError(f"device={name}: torch sees {plural(there, 'GPU')} here, of which the first is cuda:0.")
    return device


@contextmanager
def training_formats(tf32: bool) -> Iterator[None]:
    """The number formats of a training's steps inside, float32 as such afterwards, in which every run is scored.

    Args:
        tf32: see `allow_tf32`.
    """
    allow_tf32(tf32)
    try:
        yield
    finally:
        allow_tf32(False)


def allow_tf32(allowed: bool) -> None:
    """Let matrix products (of CUDA and of oneDNN) and cuDNN's convolutions round float32 inputs to TensorFloat-32, or not.

    cuDNN's switch is the one that every release since torch 2.6 has. Some warn that it is the older one; the newer ones, set by
    kind of operator, would make those parts of torch fail that still read the older.
    """
    import torch

    torch.set_float32_matmul_precision("high" if allowed else "highest")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Please use the new API settings")
        torch.backends.cudnn.allow_tf32 = allowed


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory in the process instead of giving every large block back to the system.

    A training step frees and asks for the same large maps again and again, and the system hands out blocks page by page, each
    cleared: that costs as much as many of the layers. What the process holds at most stays about the same.

    Returns:
        Whether there is such an allocator here; elsewhere nothing changes.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def memory_limit() -> int:
    """Bytes of memory that this process may use: the machine's, or less where a container or a batch system says so."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for folder in _cgroups():
        for name in _CGROUP_LIMITS:
            try:
                limit = min(limit, int((folder / name).read_text()))
            except (OSError, ValueError):  # not there, or "max"
                continue
    return limit


def _cgroups() -> list[Path]:
    """The folders of this process's control group and those above it."""
    root = Path("/sys/fs/cgroup")
    try:
        own = Path("/proc/self/cgroup").read_text().strip().rpartition("\n")[2].rpartition(":")[2].lstrip("/")
    except OSError:
        return []
    return [root / own, *(root / own).parents][: len(Path(own).parts) + 1]


def check_memory(needed: float, what: str, advice: str) -> None:
    """Refuse what cannot fit before it is tried: the system would end the process without a word, or another one.

    Args:
        needed: bytes that it takes at the least.
        what: takes them, for the message.
        advice: a sentence that says what to choose instead.

    Raises:
        ConfigError: if this process may not use so much.
    """
    if needed > (limit := memory_limit()):
        raise ConfigError(
            f"{what} takes {needed / 2**30:,.1f} GiB at the least, and this process may use {limit / 2**30:,.1f} GiB. {advice}"
        )


def loader_workers(asked: int | Literal["auto"]) -> int:
    """How many processes a data loader gets.

    ``auto`` shares the cores that this process may use among the machine's GPUs, whether or not this process sees them all, and
    leaves one to the training itself; it is at least 2, and 2 where there is no GPU, whose work the cores then do.
    """
    if asked != "auto":
        return asked
    cores, gpus = usable_cores(), gpus_of_machine()
    return max(2, min(_MOST_WORKERS, cores // gpus - 1)) if gpus else min(2, cores)


def usable_cores() -> int:
    """How many cores this process may use: fewer than the machine has where it is bound to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_memory(named: Sequence[str]) -> int:
    """Bytes of memory of the smallest of these GPUs, see `visible_gpus`, without loading torch.

    Raises:
        ConfigError: if NVIDIA's driver does not know one of them.
    """
    try:
        with _driver():
            handles = [
                pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(name)
                for name in named
            ]
            return min(int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles)
    except pynvml.NVMLError as error:
        raise ConfigError(
            f"how much memory GPU {' or '.join(named)} has, NVIDIA's driver does not say ({error}). Say by a number what is to "
            "follow from it, as runtime.micro_batch=4, or look at CUDA_VISIBLE_DEVICES."
        ) from error


def gpu_generation() -> int:
    """Major compute capability of the oldest GPU that this process may use, without loading torch; 0 without one."""
    named = visible_gpus()
    try:
        with _driver():
            everyone = range(pynvml.nvmlDeviceGetCount())
            chosen = map(int, named) if all(name.isdigit() for name in named) else everyone  # named otherwise, one may be any
            handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in chosen if number in everyone]
            return min((int(pynvml.nvmlDeviceGetCudaComputeCapability(handle)[0]) for handle in handles), default=0)
    except pynvml.NVMLError:
        return 0


def may_have_gpu() -> bool:
    """Whether there may be a GPU that this process may use, whether or not NVIDIA's driver answers for it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") is not None and not visible_gpus()
    return not hidden and any(path.exists() for path in _GPU_FILES)


def processor_knows_bfloat16() -> bool:
    """Whether this machine's processor multiplies bfloat16 in one instruction (AVX-512, AMX, Arm), as Linux lists it."""
    with contextlib.suppress(OSError), _PROCESSOR.open() as lines:
        listed = next((line for line in lines if line.startswith(("flags", "Features"))), "")
        return not _BFLOAT16.isdisjoint(listed.split())
    return False


def gpus_of_machine() -> int:
    """How many GPUs the driver knows, without loading torch; 0 without one."""
    try:
        with _driver():
            return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


@contextmanager
def _driver() -> Iterator[None]:
    """NVIDIA's may be asked inside; where there is none, pynvml raises its NVMLError."""
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def visible_gpus() -> list[str]:
    """The GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, up to the first that is not there, as CUDA does."""
    there, named = gpus_of_machine(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(number) for number in range(there)]
    if not (there or _AMD.exists()):  # of AMD's the driver knows nothing
        return []
    kind = next((kind for kind in ("GPU-", "MIG-") if named.startswith(kind)), "")  # all are named as the first is
    found: list[str] = []
    for name in named.split(","):
        number = re.match(r"\s*\+?(\d+)", name, re.ASCII)  # as C reads numbers, whatever follows
        if not (name.startswith(kind) if kind else number and (not there or int(number[1]) < there)):
            break
        one = name if kind or number is None else str(int(number[1]))
        if one in found:
            return []  # CUDA shows none where one is named twice
        found.append(one)
    return found


def gpus_for(accelerator: str) -> list[str]:
    """Those of them that runs on an accelerator, as Lightning's Trainer takes it, can have."""
    return [] if accelerator in ("cpu", "mps") else visible_gpus()


@contextmanager
def handling(kinds: Sequence[signal.Signals], handler: Callable[..., object]) -> Iterator[None]:
    """Inside, the main thread has these signals handled by ``handler``; Python lets no other thread handle any."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {kind: signal.signal(kind, handler) for kind in kinds} if is_main else {}
    try:
        yield
    finally:
        for kind, former in before.items():
            signal.signal(kind, former)


def in_own_process(module: str, asked: Any, what: str, advice: str = "") -> Any:
    """What ``module``, run as a program that calls `answer_request`, makes of plain data, as plain data.

    Args:
        module: its dotted name.
        asked: for it.
        what: that process was to do, for the message.
        advice: a sentence that follows it.

    Raises:
        UserError: if the process fails, with the last line that it said.
    """
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, input=msgspec.json.encode(asked).decode(), capture_output=True, text=True)
    try:
        return msgspec.json.decode(done.stdout.splitlines()[-1])
    except (IndexError, msgspec.DecodeError) as error:
        said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        ended = f"The process that was to {what} ended with status {done.returncode}: {said}. {advice}"
        raise UserError(ended.rstrip()) from error


def answer_request(work: Callable[[Any], Any]) -> None:
    """Be such a process: print, last of all, what ``work`` makes of what standard input asks."""
    print(msgspec.json.encode(work(msgspec.json.decode(sys.stdin.buffer.read()))).decode())


def time_ms(call: Callable[[], object], device: "torch.device") -> float:
    """Milliseconds that ``call`` takes on ``device``: by CUDA's events there, by the clock on a CPU."""
    if device.type != "cuda":
        started = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - started)
    import torch

    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    before.record()
    call()
    after.record()
    torch.cuda.synchronize(device)
    return before.elapsed_time(after)


def median_ms(
    calls: Sequence[Callable[[], object]],
    repeats: int = 7,
    warm_up: int = 2,
    device: "torch.device | str" = "cpu",
    most: float = math.inf,
) -> list[float]:
    """Median milliseconds of each call, the calls taking turns so that a drift of the machine hits all alike.

    Args:
        calls: what to time.
        repeats: timed calls of each.
        warm_up: calls of each that are thrown away.
        device: that does the work.
        most: seconds of timed calls after which no more are made.
    """
    import torch

    device, taken = torch.device(device), list[list[float]]()
    for turn in range(-warm_up, repeats):
        times = [time_ms(call, device) for call in calls]
        if turn >= 0:
            taken.append(times)
        if sum(map(sum, taken)) > 1e3 * most:
            break
    return [statistics.median(times) for times in zip(*taken, strict=True)]


def now(device: "torch.device") -> float:
    """The clock's seconds, once a GPU has done what it was sent."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()
