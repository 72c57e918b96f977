import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from exfuse.composition.precision import resolve_precision
from exfuse.composition.reading import plain
from exfuse.store.key import run_key

Config = dict[str, Any]
MANIFESTS = {"train": "a" * 64, "val": "b" * 64}


@pytest.fixture(scope="module")
def config(compose_config: Callable[..., DictConfig]) -> Config:
    return plain(compose_config("+ablation=exfuse", "trainer=cpu"))


@pytest.fixture(scope="module")
def key_of(compose_config: Callable[..., DictConfig]) -> Callable[..., str]:
    """The key of a run that was started with these overrides."""

    def of(*overrides: str) -> str:
        composed = compose_config(*overrides)
        resolve_precision(composed)
        return run_key(plain(composed), MANIFESTS)

    return of


def leaves(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value of a nested config with the way to it."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if not children and path:
        yield path, node
    for name, child in children:
        yield from leaves(child, (*path, name))


def put(config: Config, path: tuple[str | int, ...], value: Any) -> Config:
    changed = copy.deepcopy(config)
    node: Any = changed
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    return changed


def other(value: Any) -> Any:
    """A value of the same type, as close as it gets."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * (1 + 1e-9) + 1e-12
        case str():
            return value + "x"
        case None:
            return 0
        case dict() | list():  # an empty one
            return {"more": 1}
    raise TypeError(value)


def shuffled(node: Any, draw: Callable[[st.SearchStrategy], Any]) -> Any:
    """The same nested config with the keys of every mapping in another order."""
    if not isinstance(node, dict):
        return node
    return {name: shuffled(node[name], draw) for name in draw(st.permutations(list(node)))}


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_key_does_not_know_the_order_of_config_keys_or_manifests(config, data):
    manifests = shuffled(MANIFESTS, data.draw)
    assert run_key(shuffled(config, data.draw), manifests) == run_key(config, MANIFESTS)


@settings(max_examples=50, deadline=None)
@given(
    text=st.text(),
    number=st.integers(0, 64),
    logger=st.none() | st.dictionaries(st.text(), st.integers()),
    flag=st.booleans(),
)
def test_key_does_not_know_where_things_lie_who_watches_or_how_work_is_spread(config, text, number, logger, flag):
    changed = copy.deepcopy(config)
    changed["paths"] = {"data": text, "runs": text}
    changed["logger"] = logger
    changed["overwrite"] = flag
    changed["runtime"] |= {"workers": number, "threads": number}
    changed["data"] |= {"root": text, "name": text, "download": flag, "counts": {text: number}, "sbd_root": text}
    changed["data"]["train"] = changed["data"]["train"] | {"root": text, "name": text}
    changed["data"]["val"] = None
    changed["trainer"] |= {"accelerator": text, "strategy": text}
    changed["trainer"] |= {"enable_progress_bar": flag, "log_every_n_steps": number, "default_root_dir": text}
    assert run_key(changed, MANIFESTS) == run_key(config, MANIFESTS)


@pytest.mark.parametrize(
    "overrides",
    [
        ["logger=wandb"],
        ["paths.runs=/elsewhere", "paths.data=/data"],
        ["runtime.workers=0"],
        ["runtime.threads=1"],
        ["runtime.prefetch=7"],
        ["runtime.cache=disk", "paths.cache=/elsewhere", "runtime.cache_share=0.5"],
        ["trainer=ddp", "trainer.precision=32-true"],
        ["trainer.devices=[0]"],
        ["recipe.val_every=1"],
        ["trainer.enable_progress_bar=false"],
        ["overwrite=true"],
        ["decoder.checkpoint_activations=true"],
        ["data.root=/elsewhere"],
    ],
)
def test_overrides_that_change_no_number_find_the_same_run(key_of, overrides):
    assert key_of("trainer.accelerator=cpu", *overrides) == key_of("trainer=cpu")


def test_a_list_of_class_names_may_lie_anywhere(key_of):
    """The manifests know the names; data=folder gives the path of their list beside the images."""
    assert key_of("data=folder", "data.root=/here") == key_of("data=folder", "data.root=/there")


def test_a_weight_file_may_lie_anywhere_but_its_content_counts(compose_config):
    def key(init: str, content: str) -> str:
        return run_key(plain(compose_config(f"backbone.init={init}")), MANIFESTS | {"backbone": content})

    assert key("/here/weights.pth", "c" * 64) == key("/there/copy.pth", "c" * 64)
    assert key("/here/weights.pth", "c" * 64) != key("/here/weights.pth", "d" * 64)
    assert key("/here/weights.pth", "c" * 64) != run_key(plain(compose_config("backbone.init=random")), MANIFESTS)


@pytest.mark.parametrize("group", ["recipe", "technique", "backbone", "decoder"])
def test_every_leaf_of_the_model_and_its_recipe_counts(config, group):
    # how often it is validated, what becomes of a missing backbone and what is calculated twice change no number
    watching = {("recipe", "val_every"), ("backbone", "missing"), ("decoder", "checkpoint_activations")}
    found = [leaf for leaf in leaves(config[group], (group,)) if leaf[0] not in watching]
    assert len(found) > 3
    keys = {run_key(put(config, path, other(value)), MANIFESTS) for path, value in found}
    assert len(keys) == len(found)  # all different from each other
    assert run_key(config, MANIFESTS) not in keys


@pytest.mark.parametrize(
    "path",
    [
        ("seed",),
        ("trainer", "precision"),
        ("trainer", "max_epochs"),
        ("trainer", "accumulate_grad_batches"),
        ("trainer", "gradient_clip_val"),
        ("trainer", "deterministic"),
        ("runtime", "compile"),
        ("runtime", "tf32"),
        ("runtime", "channels_last"),
        ("debug", "images"),
        ("debug", "val_is_train"),
    ],
)
def test_everything_else_that_changes_numbers_counts(config, path):
    value = config
    for name in path:
        value = value[name]
    assert run_key(put(config, path, other(value)), MANIFESTS) != run_key(config, MANIFESTS)


def test_a_key_that_someone_adds_counts(config):
    keys = {run_key(config, MANIFESTS)}
    for group in ("trainer", "runtime", "recipe", "data"):
        keys.add(run_key(put(config, (group, "brand_new"), 1), MANIFESTS))
    keys.add(run_key({**config, "brand_new": 1}, MANIFESTS))
    assert len(keys) == 6


def test_every_option_of_every_technique_has_a_key_of_its_own(key_of):
    options = {
        "ss": ("none", "heads_removed", "second_conv_features"),
        "lr": ("standard", "rearranged"),
        "ecre": ("deconv", "deconv_supervised", "subpixel", "subpixel_supervised"),
        "seb": ("none", "product", "sum", "concat", "gate"),
        "dap": ("none", "wide", "last", "wide_control"),
    }
    chosen = [f"technique/{group}={option}" for group, names in options.items() for option in names[1:]]
    chosen += ["backbone=resnet50", "decoder=levels_45", "recipe=voc", "seed=1", "data=voc", "trainer.precision=16-mixed"]
    keys = [key_of(), *map(key_of, chosen)]
    assert len(set(keys)) == len(keys)


def test_a_variant_named_by_its_file_or_spelt_out_is_the_same_run(key_of):
    assert key_of("+ablation=seb_ecre") == key_of("technique/seb=product", "technique/ecre=subpixel_supervised")


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_manifest_counts(config, split):
    assert run_key(config, MANIFESTS | {split: "c" * 64}) != run_key(config, MANIFESTS)
    assert run_key(config, {split: "a" * 64}) != run_key(config, MANIFESTS)


def test_train_and_val_are_not_interchangeable(config):
    swapped = {"train": MANIFESTS["val"], "val": MANIFESTS["train"]}
    assert run_key(config, swapped) != run_key(config, MANIFESTS)


def test_key_is_16_hexadecimal_digits_and_leaves_the_config_alone(config):
    before = copy.deepcopy(config)
    key = run_key(config, MANIFESTS)
    assert len(key) == 16
    int(key, 16)
    assert config == before


def test_processes_count_where_each_normalises_its_own_share_of_the_batch(key_of):
    assert key_of("trainer=ddp_cpu", "trainer.sync_batchnorm=false") != key_of("trainer=cpu")
    assert key_of("trainer=ddp_cpu") == key_of("trainer=cpu")
