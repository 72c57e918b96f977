"""Knowing a run before it starts: the same key as training, without torch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from msgspec.structs import replace

from exfuse import devices
from exfuse.composition import precision
from exfuse.errors import ConfigError, user_error
from exfuse.runs import plan
from exfuse.runs.plan import plan_run
from exfuse.store import key
from exfuse.store.checked import leaves
from exfuse.store.description import RunDescription
from exfuse.store.folder import RunFolder
from tests.command import Command
from tests.conftest import REPOSITORY
from tests.pace import patience


@pytest.mark.parametrize("overrides", [[], ["+ablation=exfuse", "backbone.init=pretrained"], ["trainer=auto"]])
def test_a_key_needs_no_torch(small_overrides: list[str], overrides: list[str]) -> None:
    code = (
        "import sys\n"
        "from exfuse.config.overrides import describe_run\n"
        "from exfuse.runs.plan import plan_run\n"
        "print(plan_run(describe_run(sys.argv[1:])).folder.key)\n"
        "heavy = {'torch', 'timm', 'pytorch_lightning', 'torchvision', 'albumentations'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    command = [sys.executable, "-c", code, *small_overrides, *overrides]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=patience(120))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()[-1]) == 16


def test_a_planned_key_is_the_one_under_which_training_writes(
    finished_run: RunFolder, compose_config: Callable[..., RunDescription], small_overrides: list[str]
) -> None:
    config = compose_config(*small_overrides, f"paths.runs={finished_run.root}", "+ablation=seb_ecre")
    assert plan_run(config).folder == finished_run


@pytest.mark.parametrize("study", sorted(path.stem for path in (REPOSITORY / "conf" / "study").glob("*.yaml")))
def test_a_run_is_the_same_whatever_study_asks_for_it(
    compose_config: Callable[..., RunDescription], small_overrides: list[str], study: str, tmp_path: Path
) -> None:
    shared = ["data=scenes", *small_overrides, f"paths.runs={tmp_path}"]  # a study's own data need not be here
    alone = plan_run(compose_config(*_settings(study), *shared)).folder
    asked = plan_run(compose_config(*shared, f"+study={study}", "sweep.mixed=true")).folder
    assert asked == alone


def _settings(study: str) -> list[str]:
    """What a study's file says of its runs, as a user would type it."""
    said = yaml.safe_load((REPOSITORY / "conf" / "study" / f"{study}.yaml").read_text())
    chosen = [entry for entry in said.pop("defaults", []) if isinstance(entry, dict)]
    named = [(group.removeprefix("override /"), option) for entry in chosen for group, option in entry.items()]
    options = [f"{group}={option}" for group, option in named if group != "data"]
    return [*options, *(f"{key}={value}" for key, value in leaves(said) if not key.startswith(("hydra.", "study.")))]


class _Driver:
    """What the driver says of GPUs of these compute capabilities."""

    class NVMLError(Exception):
        pass

    def __init__(self, *capabilities: tuple[int, int]) -> None:
        self.capabilities = capabilities
        self.nvmlShutdown = lambda: None
        self.nvmlDeviceGetCount = lambda: len(capabilities)
        self.nvmlDeviceGetHandleByIndex = lambda number: number
        self.nvmlDeviceGetCudaComputeCapability = lambda number: capabilities[number]

    def nvmlInit(self) -> None:
        if not self.capabilities:
            raise self.NVMLError


@pytest.mark.parametrize(
    ("capabilities", "visible", "accelerator", "expected"),
    [
        ([], None, "auto", "the processor's"),
        ([(8, 0)], None, "auto", "bf16-mixed"),
        ([(7, 5)], None, "auto", "32-true"),
        ([(7, 5), (9, 0)], None, "gpu", "32-true"),
        ([(7, 5), (9, 0)], "1", "gpu", "bf16-mixed"),
        ([(9, 0)], "", "auto", "the processor's"),
        ([(9, 0)], "-1", "auto", "the processor's"),
        ([(9, 0)], "GPU-1234", "auto", "bf16-mixed"),
        ([(9, 0)], None, "cpu", "the processor's"),
        ([(7, 5)], None, "cpu", "the processor's"),
        ([], None, "gpu", "32-true"),
        ([], None, "mps", "32-true"),
    ],
)
@pytest.mark.parametrize("processor", [False, True])
def test_automatic_precision_is_what_the_device_does_best(
    compose_config: Callable[..., RunDescription],
    monkeypatch: pytest.MonkeyPatch,
    capabilities: list[tuple[int, int]],
    visible: str | None,
    accelerator: str,
    expected: str,
    processor: bool,
) -> None:
    monkeypatch.setattr(devices, "pynvml", _Driver(*capabilities))
    monkeypatch.setattr(precision, "processor_knows_bfloat16", lambda: processor)
    monkeypatch.setattr(devices, "_GPU_FILES", ())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    run = compose_config(f"trainer.accelerator={accelerator}")
    if expected == "the processor's":
        expected = "bf16-mixed" if processor else "32-true"
    assert precision.resolve_precision(run).trainer.precision == expected


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu avx512f\n", False),
        ("flags\t\t: amx_bf16 amx_tile\n", True),
        ("Features\t: fp asimd i8mm bf16\n", True),
        ("Features\t: fp asimd\n", False),
        (None, False),
    ],
)
def test_what_a_processor_knows_is_read_from_what_linux_lists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listed: str | None, expected: bool
) -> None:
    if listed is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{listed}bugs\t\t: bf16\n")
    monkeypatch.setattr(devices, "_PROCESSOR", tmp_path / "cpuinfo")
    assert devices.processor_knows_bfloat16() is expected


def test_the_cpu_trainer_stays_in_float32(
    compose_config: Callable[..., RunDescription], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "processor_knows_bfloat16", lambda: True)
    assert precision.resolve_precision(compose_config("trainer=cpu")).trainer.precision == "32-true"


def test_a_run_of_a_gpu_machine_is_found_on_a_laptop(
    train_small: Callable[..., RunFolder],
    compose_config: Callable[..., RunDescription],
    small_overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
) -> None:
    """Its record says in which format it was trained; nothing is trained anew, and its study finds it."""
    typed = [*small_overrides, "trainer=auto", f"paths.runs={tmp_path / 'runs'}"]
    monkeypatch.setattr(precision, "device_has_bfloat16", lambda _: True)
    made = train_small("trainer=auto")
    monkeypatch.setattr(precision, "device_has_bfloat16", lambda _: False)
    plan = plan_run(compose_config(*typed))
    assert (plan.folder, plan.run.trainer.precision) == (made, "bf16-mixed")
    assert plan_run(compose_config(*typed, "trainer.precision=32-true")).folder != made  # asked for by name
    assert plan_run(compose_config(*typed, "overwrite=true")).run.trainer.precision == "32-true"
    study = tmp_path / "study"
    status, said, told = command("train", "-m", *typed, "seed=0", "sweep.missing=skip", f"sweep.output={study}")
    assert status == 0, said + told
    assert made.key in (study / "study.json").read_text()
    record = made.record()
    assert record is not None
    made.write(replace(record, status="interrupted"))
    assert plan_run(compose_config(*typed)).run.trainer.precision == "32-true"  # a laptop does not go on with it


@pytest.mark.parametrize(
    ("devices", "accelerator", "expected"),
    [
        *((devices, "gpu", 4) for devices in ("4", "[0,1,2,3]", "'0,1,2,3'", "-1", "'-1'", "auto")),
        ("auto", "auto", 4), ("auto", "cpu", 16), ("-1", "cpu", 16), ("1", "gpu", 16), ("[2]", "gpu", 16),
    ],
)  # fmt: skip
def test_a_devices_share_of_a_batch_follows_from_what_lightning_will_take(
    compose_config: Callable[..., RunDescription],
    monkeypatch: pytest.MonkeyPatch,
    devices: str,
    accelerator: str,
    expected: int,
) -> None:
    monkeypatch.setattr(key, "visible_gpus", lambda: ["0", "1", "2", "3"])
    run = compose_config(f"trainer.accelerator={accelerator}", f"trainer.devices={devices}", "trainer.precision=32-true")
    assert plan.images_at_once(run, 16) == expected
    assert key.devices_of(run.trainer) == 16 // expected


@pytest.mark.parametrize(
    "typed",
    [
        "recipe.long_side=1000000",
        "recipe.augmentation.scale=[1,100000]",
        "recipe.long_side=9000 recipe.augmentation.scale=[1,90]",
    ],
)
def test_images_that_cannot_fit_are_refused_before_anything_is_loaded(
    compose_config: Callable[..., RunDescription], typed: str
) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.long_side=\d+, recipe\.augmentation\.scale up to .*: an image .* GiB"):
        plan_run(compose_config("trainer=cpu", *typed.split()))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "not enough memory: MemoryError. Choose"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:1]\nDefaultCPUAllocator: can't allocate memory: 9 bytes."),
            "allocate memory: 9",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 1 GiB."), "CUDA out of memory"),
        (RuntimeError("Caught MemoryError in DataLoader worker process 0.\nOriginal Traceback"), "MemoryError in DataLoader"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line_with_what_to_choose(error: Exception, says: str) -> None:
    message = str(user_error(error))
    assert says in message
    assert "runtime.micro_batch=auto" in message
    assert "\n" not in message
    assert user_error(RuntimeError("sizes do not match")) is None
