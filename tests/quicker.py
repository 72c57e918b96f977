"""A run's latency by few evaluations: thirty are a sixth of a test's training, and no test asks how steady they are."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType


def hurry() -> None:
    """From now on this process evaluates a model so few times for its latency; called before the package measures any."""
    if not any(isinstance(finder, _Hurried) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Hurried())


class _Hurried(MetaPathFinder):
    """Changes the number where its module is loaded, so that nothing loads it that would not otherwise."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        found = PathFinder.find_spec(name, path, target) if name == "exfuse.runs.costs" else None
        if found is not None and isinstance(found.loader, SourceFileLoader):
            found.loader = _FewEvaluations(name, found.loader.path)
        return found


class _FewEvaluations(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        vars(module).update(_WARM_UP=1, _REPEATS=3)
