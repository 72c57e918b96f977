import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from exfuse.config.overrides import compose_config as compose

CONFIGS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "data").glob("*.yaml"))


@pytest.fixture
def compose_config() -> Callable[..., DictConfig]:
    """The composed config of training, before anything is read from it."""
    return lambda *typed: compose("train", typed)[0]


def readers(node: Any) -> Iterator[dict[str, Any]]:
    """Every reader of a data config's split with its arguments, those that another joins or marks included."""
    if isinstance(node, dict):
        for part in node.values():
            yield from readers(part)
        if "_target_" in node:
            yield node
    elif isinstance(node, list):
        for part in node:
            yield from readers(part)


@pytest.mark.parametrize("name", CONFIGS)
def test_data_config_gives_its_reader_just_the_arguments_that_it_takes(compose_config, name):
    config = compose_config(f"data={name}", "data.root=/nowhere")
    for split in ("train", "val"):
        content = OmegaConf.to_container(config.data[split], resolve=True, throw_on_missing=True)
        roots = []
        for arguments in readers(content):
            reader = get_method(arguments["_target_"])
            given = {key: value for key, value in arguments.items() if key != "_target_"}
            roots.append(inspect.signature(reader).bind(**given).arguments.get("root"))
        assert "/nowhere" in roots


@pytest.mark.parametrize("name", CONFIGS)
def test_every_expected_count_is_of_a_split_that_is_read(compose_config, name):
    """A count under a misspelt split would never be asserted."""
    data = OmegaConf.to_container(compose_config(f"data={name}").data, resolve=True)
    counted = [one for split in ("train", "val") for one in readers(data[split]) if "counts" in one]
    read = {one.get("split", "train_aug") for one in counted}
    assert set(data.get("counts", read)) == read


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_of_a_data_config_reaches_a_reader(compose_config, name):
    def arguments(config: DictConfig) -> list[object]:
        return [OmegaConf.to_container(config.data[split], resolve=True) for split in ("train", "val")]

    config = compose_config(f"data={name}")
    before = arguments(config)
    for key in set(config.data) - {"train", "val"}:
        changed = config.copy()
        changed.data[key] = "another"
        if OmegaConf.is_config(config.data[key]):  # readers may be given its parts
            changed.data[key] = dict.fromkeys(config.data[key], 7)
        assert arguments(changed) != before, f"nothing reads data.{key}"


@pytest.mark.parametrize(("name", "variable"), [("camvid", "CAMVID"), ("voc_animals", "VOC_ANIMALS")])
def test_an_environment_variable_names_the_folder_of_private_data(compose_config, monkeypatch, name, variable):
    monkeypatch.setenv(variable, "/elsewhere")
    assert compose_config(f"data={name}").data.train.root == "/elsewhere"
    monkeypatch.delenv(variable)
    assert compose_config(f"data={name}", "paths.data=/shared").data.train.root.startswith("/shared/")
