"""The command that makes a missing backbone, and running it."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from exfuse.config.overrides import compose_config
from exfuse.errors import ConfigError

_GROUPS = ("backbone", "technique/ss", "technique/lr", "data", "pretraining", "trainer", "logger")
# Everything in these that differs from what the choices alone compose to is repeated on the command line.
_SECTIONS = (
    *("backbone.", "pretraining.", "data.", "seed", "paths.", "runtime.", "logger.", "debug.images"),
    *("trainer.accelerator", "trainer.devices", "trainer.enable_progress_bar"),
)
_NOT_OURS = ("backbone.init", "backbone.missing", "backbone.output_stride", "paths.runs")


def pretrain_overrides(config: DictConfig, choices: Mapping[str, str]) -> list[str]:
    """What to append to ``exfuse pretrain`` for the backbone that ``config`` asks for.

    Args:
        config: of a segmentation run, its normalisation not yet resolved.
        choices: the option that was chosen in each config group.
    """
    usual = compose_config("pretrain", [])
    groups = [f"{group}={choices[group]}" for group in _GROUPS if choices.get(group)]
    wanted = [choice for choice in groups if compose_config("pretrain", [choice]) != usual]
    base = dict(_leaves(compose_config("pretrain", wanted)))
    # an interpolation follows what it refers to, which is repeated if it differs
    different = [key for key, value in _leaves(config) if key not in base or base[key] != value]
    ours = [key for key in different if key.startswith(_SECTIONS) and not key.startswith(_NOT_OURS)]
    settable = dict.fromkeys(_in(base, key) for key in ours)
    values = [f"{key}={_as_text(_resolved(config, key))}" for key in settable]
    return [*wanted, *values]


def as_command(overrides: list[str]) -> str:
    """The command as a user types it."""
    return shlex.join(["exfuse", "pretrain", *overrides])


def run_pretraining(overrides: list[str]) -> None:
    """Pretrain in a process of its own, whose output goes to this one's terminal.

    Raises:
        ConfigError: if it fails; its own message stands above.
        KeyboardInterrupt: if it was interrupted.
    """
    environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}  # one line an error
    status = subprocess.run([sys.executable, "-m", "exfuse", "pretrain", *overrides], env=environment, check=False).returncode
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise ConfigError(f"The backbone could not be made (exit status {status}, see above): {as_command(overrides)}")


def _leaves(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """Every value by its full key, interpolations as they are written; lists are values."""

    def walk(path: str, node: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict) and node:
            for name, child in node.items():
                yield from walk(f"{path}.{name}" if path else str(name), child)
        else:
            yield path, node

    yield from walk("", OmegaConf.to_container(config, resolve=False))


def _in(base: Mapping[str, Any], key: str) -> str:
    """The key, or the one above it that stands in ``base``: an empty mapping or null that got keys."""
    above = key
    while above not in base and "." in above:
        above = above.rpartition(".")[0]
    return above if above in base else key


def _resolved(config: DictConfig, key: str) -> Any:
    value = OmegaConf.select(config, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _as_text(value: Any) -> str:
    """A value in Hydra's override grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_as_text, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_as_text(item)}' for key, item in value.items())}}}"
    text = str(value)
    if isinstance(value, str) and not re.fullmatch(r"(?!null$|true$|false$|inf$|nan$)[A-Za-z/.][\w/.:-]*", text, re.IGNORECASE):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return text
