"""The arguments of Lightning's Trainer, of which a run may set those that leave it what its record says."""

from typing import Any

from exfuse.config import search_path
from exfuse.config.options import fitting
from exfuse.config.signatures import signature
from exfuse.config.words import nearest_key, shown
from exfuse.errors import ConfigError
from exfuse.store.checked import at
from exfuse.store.description import (
    Trainer,
)

_TRAINER = "pytorch_lightning.Trainer"
_RECIPES = {"max_epochs": "epochs", "check_val_every_n_epoch": "val_every", "gradient_clip_val": "gradient_clip"}
_FREE = ("benchmark", "detect_anomaly", "gradient_clip_algorithm", "profiler")  # of Lightning's further arguments


def read_trainer(given: dict[str, Any], written: Any, recipe: Any, debug: tuple[str, str] | None) -> dict[str, Any]:
    """Lightning's arguments: those that are read here by name, any other under ``more``.

    Raises:
        ConfigError: for one that Lightning does not have, or by which a run would not be what its recipe says.
    """
    arguments = signature(_TRAINER).arguments
    if (typed := given.pop("_target_", None)) not in (None, _TRAINER):
        raise ConfigError(f"trainer._target_={shown(typed)}: {_TRAINER} trains every run. Leave it out.")
    ours = {name: value for name, value in given.items() if name in Trainer.__struct_fields__ and name != "more"}
    more = {name: value for name, value in given.items() if name not in ours}
    place = "pretraining.recipe" if isinstance(at(written, "recipe"), str) else "recipe"  # what `recipe` refers to
    for name, setting in _RECIPES.items():
        value, wanted = given.get(name), recipe.get(setting) if isinstance(recipe, dict) else None
        if value != wanted and not isinstance(value, str):
            raise ConfigError(
                f"trainer.{name}={shown(value)}: set {place}.{setting} instead, which is {shown(wanted)}: a run does what its "
                "recipe says."
            )
    decided = search_path.read_whole(*debug).get("trainer", {}) if debug else {}
    for name, value in more.items():
        if name in arguments and name not in _FREE and (name not in decided or decided[name] != value):
            raise ConfigError(
                f"trainer.{name}={shown(value)}: this is decided here, so that a run is what its record says. To be set are "
                f"{', '.join(sorted({*ours} - {*_RECIPES}))} and {', '.join(_FREE)}; for less training there are "
                "recipe.epochs and debug.images."
            )
        if name not in arguments:
            raise ConfigError(
                f"trainer.{name}: Lightning's Trainer has no such argument. {nearest_key(name, [*arguments], 'trainer')}"
            )
        more[name] = fitting(f"trainer.{name}", value, arguments[name].kind, written)
    return {**ours, "more": more}
