"""A study of real, tiny models that nobody trained: records as runs write them, with composed configs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exfuse.composition.segmentation import build_model
from exfuse.store.description import RunDescription, to_plain
from tests.analysis.synthetic import CLASSES, StudyBuilder
from tests.small_runs import SMALL


@pytest.fixture(scope="session")
def tiny_study(compose_config: Callable[..., RunDescription], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a study: a baseline, its copy under another name, and SEB with ECRE, two seeds each."""
    small = [*SMALL, "recipe.augmentation.crop=32", "recipe.batch_size=2", "backbone.normalisation=null"]

    def make(change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
        builder = StudyBuilder(tmp_path_factory.mktemp("study") / "tiny")
        for name, overrides, options in (
            ("baseline", [], {}),
            ("seb_ecre", ["+ablation=seb_ecre"], {"seb": "product", "ecre": "subpixel_supervised"}),
            ("again", [], {}),
        ):
            composed = compose_config(*small, *overrides, "trainer.precision=32-true")
            config = to_plain(composed)
            parameters = sum(one.numel() for one in build_model(composed, len(CLASSES)).parameters())

            def of_this(content: dict[str, Any], config: Any = config, parameters: int = parameters) -> None:
                content["config"] = {**config, "seed": content["seed"]}
                content["parameters"] = content["costs"]["parameters"] = parameters
                change(content)

            builder.row(name, 0.6, seeds=(0, 1), options=options, on=None, change=of_this)
        return builder.finish()

    return make
