"""Finished runs with random weights, made without training."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from exfuse.composition.segmentation import build_model
from exfuse.exporting.command import export
from exfuse.store.description import Normalisation, RunDescription, to_plain
from exfuse.store.folder import RunFolder
from exfuse.store.seal import write_sealed
from tests.described import changed
from tests.records import leave_record

CLASSES = ["background", "bird", "boat", "cart", "cat"]
NORMALISATION = {"mean": [0.4, 0.45, 0.5], "std": [0.2, 0.25, 0.3]}


@pytest.fixture(scope="session")
def make_run(
    compose_config: Callable[..., RunDescription], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., RunFolder]:
    """The folder of a finished run of a variant: ``make_run("+ablation=seb")``."""

    def made(*overrides: str) -> RunFolder:
        tmp_path = tmp_path_factory.mktemp("run")
        config = compose_config("backbone=resnet_tiny", f"data.root={tmp_path / 'nowhere'}", *overrides)
        config = changed(config, "backbone.normalisation", Normalisation(**NORMALISATION))
        torch.manual_seed(0)
        model = build_model(config, len(CLASSES))
        with torch.no_grad():
            for parameter in model.decoder.parameters():  # scores that differ from class to class
                parameter.add_(0.3 * torch.randn_like(parameter) * parameter[0].numel() ** -0.5)
        folder = RunFolder(tmp_path / "runs", "0123456789abcdef")
        folder.checkpoints.mkdir(parents=True)
        description = {"config": to_plain(config), "classes": CLASSES}
        state = {f"model.{name}": value for name, value in model.state_dict().items()}
        write_sealed(folder.last, lambda file: torch.save({"state_dict": state, "description": description}, file))
        leave_record(folder, "done", label="variant", config=description["config"], environment={"commit": "c0ffee"})
        return folder

    return made


@pytest.fixture(scope="session")
def exported_run(make_run: Callable[..., RunFolder]) -> tuple[RunFolder, Path]:
    """A run with all five techniques and its ONNX file for images of any size; no test may change them."""
    run = make_run("+ablation=exfuse", "recipe.long_side=null")
    return run, export(run.path, "onnx", None, None)
