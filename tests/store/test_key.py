import copy
from collections.abc import Callable, Iterator
from typing import Any

import PIL
import pytest
from hypothesis import given, settings, strategies as st

from exfuse.composition import precision
from exfuse.composition.precision import resolve_precision
from exfuse.config.options import code_of
from exfuse.config.overrides import describe_backbone, describe_run
from exfuse.runs.plan import plan_run
from exfuse.store import key as keys
from exfuse.store.description import Option, RunDescription, from_plain, to_plain
from exfuse.store.key import aside, backbone_key, run_key
from exfuse.store.numbers_version import HISTORY, NUMBERS_VERSION
from tests.described import changed

MANIFESTS = {"train": "a" * 64, "val": "b" * 64}
PINNED = {
    "": "715e38fe7b88f01e",
    "+ablation=seb_ecre": "18c84fdf2e7019be",
    "+ablation=exfuse": "41d6e81a39c20992",
    "+ablation=exfuse_last seed=1": "bce84b1f7de8751a",
    "+ablation=ss_second_conv backbone=resnet50 recipe=voc": "f8d20140f1918ecb",
    "+architecture=aspp_os8": "268c71702595e29e",
    "+ablation=without_dap data=voc_aug recipe=gcn backbone=resnet101 backbone.init=timm": "1e5bcedda5a5bb94",
    "technique/seb=gate technique/dap=last technique.dap.window=5": "75192b97f982a5fd",
    "decoder=levels_45 technique/ecre=subpixel technique.ecre.auxiliary_weight=0.1": "e78af883c9d1353c",
    "debug=overfit trainer.precision=bf16-mixed +trainer.benchmark=true": "a5a169e09a965a57",
}
PINNED_BACKBONES = {
    "+ablation=baseline": "9a7061e396374f99",
    "+ablation=ss_lr seed=3": "e03b800448f538bd",
    "+ablation=exfuse backbone=resnext101_32x4d": "ee1a4bf8e6d390bc",
}
PINNED_SCENES = "e16773df9bb3c9c8"


@pytest.fixture(autouse=True)
def _plain_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one without bfloat16, on which ``trainer=auto`` and ``trainer=cpu`` are the same."""
    monkeypatch.setattr(precision, "processor_knows_bfloat16", lambda: False)


@pytest.fixture(scope="module")
def run(compose_config: Callable[..., RunDescription]) -> RunDescription:
    return compose_config("+ablation=exfuse", "trainer=cpu")


@pytest.fixture(scope="module")
def key_of(compose_config: Callable[..., RunDescription]) -> Callable[..., str]:
    """The key of a run that was started with these overrides."""
    return lambda *overrides: run_key(resolve_precision(compose_config(*overrides)), MANIFESTS)


@pytest.mark.parametrize("command", PINNED)
def test_the_key_of_a_command_is_what_it_was(key_of: Callable[..., str], command: str) -> None:
    """Keys change by `NUMBERS_VERSION` alone, with a line of history there: every finished run is trained anew then."""
    assert key_of("trainer=cpu", *command.split()) == PINNED[command]


@pytest.mark.parametrize("command", PINNED_BACKBONES)
def test_the_key_of_a_backbone_is_what_it_was(command: str) -> None:
    assert backbone_key(describe_backbone(command.split()), MANIFESTS) == PINNED_BACKBONES[command]


def test_the_key_of_a_run_on_the_scenes_is_what_it_was(scenes_folder, small_overrides) -> None:
    """Its manifests too: they hold the content of the files that the generator draws and Pillow's encoders write."""
    if not PIL.__version__.startswith("13."):
        pytest.skip(f"pinned with Pillow 13, here is {PIL.__version__}")
    assert plan_run(describe_run(small_overrides)).folder.key == PINNED_SCENES


def test_every_version_of_the_numbers_has_its_line_of_history(run: RunDescription, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(HISTORY) == list(range(1, NUMBERS_VERSION + 1))
    before = run_key(run, MANIFESTS), backbone_key(run, MANIFESTS)
    monkeypatch.setattr(keys, "NUMBERS_VERSION", NUMBERS_VERSION + 1)
    assert {run_key(run, MANIFESTS), backbone_key(run, MANIFESTS)}.isdisjoint(before)


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value of a nested dict with the way to it; lists are values."""
    if not (isinstance(node, dict) and node) and path:
        yield path, node
    elif isinstance(node, dict):
        for name, child in node.items():
            yield from leaves(child, (*path, name))


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
            return 1
        case list():
            return [*value[:-1], other(value[-1])]
        case dict():
            return {"more": 1}
    raise TypeError(value)


def altered(run: RunDescription, path: tuple[str, ...]) -> RunDescription:
    """The run with another value there, whether or not it makes sense."""
    plain: Any = to_plain(run)
    for name in path:
        plain = plain[name]
    if path[-1] != "option":
        return changed(run, ".".join(path), other(plain))
    node: Any = run
    for name in path[:-1]:
        node = node[name] if isinstance(node, dict) else getattr(node, name)
    return changed(run, ".".join(path[:-1]), Option(other(plain), node.settings))


@settings(max_examples=30)
@given(st.data())
def test_key_does_not_know_the_order_of_settings_or_manifests(run, data):
    def shuffled(node):
        return (
            {name: shuffled(node[name]) for name in data.draw(st.permutations(list(node)))} if isinstance(node, dict) else node
        )

    assert run_key(from_plain(shuffled(to_plain(run)), RunDescription), shuffled(MANIFESTS)) == run_key(run, MANIFESTS)


@pytest.mark.parametrize(
    "overrides",
    [
        ["logger=wandb", "logger.project=mine"],
        ["paths.runs=/elsewhere", "paths.data=/data"],
        ["runtime.workers=0"],
        ["runtime.threads=1"],
        ["runtime.prefetch=7"],
        ["runtime.cache=disk", "paths.cache=/elsewhere", "runtime.cache_share=0.5"],
        ["trainer=ddp", "trainer.precision=32-true"],
        ["trainer.devices=[0]"],
        ["+trainer.profiler=simple"],
        ["recipe.val_every=1"],
        ["trainer.enable_progress_bar=false", "trainer.log_every_n_steps=3", "trainer.strategy=ddp"],
        ["overwrite=true"],
        ["decoder.checkpoint_activations=true"],
        ["data.root=/elsewhere", "data.name=mine"],
        ["+study=table4_ecre", "sweep.mixed=true", "seed=0"],
        ["name=mine"],
        ["backbone.missing=refuse"],
        ["pretraining=imagenet"],
    ],
)
def test_overrides_that_change_no_number_find_the_same_run(key_of, overrides):
    assert key_of("trainer.accelerator=cpu", *overrides) == key_of("trainer=cpu")


def test_a_list_of_class_names_may_lie_anywhere(key_of):
    """The manifests know the names; data=folder gives the path of their list beside the images."""
    assert key_of("data=folder", "data.root=/here") == key_of("data=folder", "data.root=/there")


def test_a_weight_file_may_lie_anywhere_but_its_content_counts(compose_config):
    def key(init: str, content: str) -> str:
        return run_key(compose_config(f"backbone.init={init}"), MANIFESTS | {"backbone": content})

    assert key("/here/weights.pth", "c" * 64) == key("/there/copy.pth", "c" * 64)
    assert key("/here/weights.pth", "c" * 64) != key("/here/weights.pth", "d" * 64)
    assert key("/here/weights.pth", "c" * 64) != run_key(compose_config("backbone.init=random"), MANIFESTS)


@pytest.mark.parametrize("group", ["recipe", "technique", "backbone", "decoder", "trainer", "runtime", "debug", "seed"])
def test_every_leaf_counts_that_is_not_listed(run, group):
    ignored = aside().get(group) or set()
    plain = to_plain(run)[group]
    found = [path for path, _ in leaves({group: plain}) if path[-1] not in ignored]
    keys = {run_key(altered(run, path), MANIFESTS) for path in found}
    assert len(keys) == len(found)  # all different from each other
    assert run_key(run, MANIFESTS) not in keys


def test_what_is_aside_is_this_and_no_more():
    """Where things lie, who watches, how work is spread over processes and devices; what others stand for."""
    assert {group for group, names in aside().items() if names is None} == {
        *("name", "choices", "data", "pretraining", "logger", "paths", "overwrite", "sweep", "study", "init_from")
    }
    assert {group: names for group, names in aside().items() if names} == {
        "backbone": {"missing"},
        "decoder": {"checkpoint_activations"},
        "runtime": {"workers", "prefetch", "threads", "checkpoint_every", "cache", "cache_share", "micro_batch"},
        "recipe": {"val_every"},
        "trainer": {
            *("accelerator", "devices", "num_nodes", "strategy", "sync_batchnorm", "enable_progress_bar"),
            *("enable_model_summary", "log_every_n_steps", "check_val_every_n_epoch", "use_distributed_sampler", "max_time"),
        },
    }


def test_a_setting_that_someone_adds_counts(run):
    keys = {run_key(run, MANIFESTS)}
    for place in ("technique.dap", "decoder", "recipe.optimizer", "recipe.schedule", "backbone.arguments", "trainer.more"):
        keys.add(run_key(changed(run, f"{place}.brand_new", 1), MANIFESTS))
    keys.add(run_key(changed(run, "technique.brand_new", Option("some")), MANIFESTS))
    assert len(keys) == 8


def test_every_option_of_every_technique_has_a_key_of_its_own(key_of):
    options = {
        "ss": ("none", "heads_removed", "second_conv_features"),
        "lr": ("standard", "rearranged"),
        "ecre": ("deconv", "deconv_supervised", "subpixel", "subpixel_supervised"),
        "seb": ("none", "product", "sum", "concat", "gate"),
        "dap": ("none", "wide", "last", "wide_control"),
    }
    chosen = [f"technique/{group}={option}" for group, names in options.items() for option in names[1:]]
    chosen += ["backbone=resnet50", "decoder=levels_45", "recipe=voc", "seed=1", "trainer.precision=16-mixed"]
    keys = [key_of(), *map(key_of, chosen), key_of("technique/ecre=subpixel", "technique.ecre.auxiliary_weight=0.1")]
    assert len(set(keys)) == len(keys)


def test_a_variant_named_by_its_file_or_spelt_out_is_the_same_run(key_of):
    assert key_of("+ablation=seb_ecre") == key_of("technique/seb=product", "technique/ecre=subpixel_supervised")


def test_neither_records_nor_keys_know_where_code_lies(run, monkeypatch):
    assert code_of("technique/dap", "wide")["_target_"].startswith("exfuse.")
    assert "exfuse" not in str({name: part for name, part in to_plain(run).items() if name not in ("name", "choices")})
    assert "_target_" not in str(to_plain(run))


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_manifest_counts(run, split):
    assert run_key(run, MANIFESTS | {split: "c" * 64}) != run_key(run, MANIFESTS)
    assert run_key(run, {split: "a" * 64}) != run_key(run, MANIFESTS)


def test_train_and_val_are_not_interchangeable(run):
    swapped = {"train": MANIFESTS["val"], "val": MANIFESTS["train"]}
    assert run_key(run, swapped) != run_key(run, MANIFESTS)


def test_key_is_16_hexadecimal_digits_and_leaves_the_description_alone(run):
    before = copy.deepcopy(to_plain(run))
    key = run_key(run, MANIFESTS)
    assert len(key) == 16
    int(key, 16)
    assert to_plain(run) == before


def test_processes_count_where_a_loss_is_no_sum_over_pixels(key_of):
    synchronised = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true"]
    one, two, same = (key_of(*synchronised, "loss=dice", f"trainer.devices={devices}") for devices in (1, 2, "[0,1]"))
    assert one != two == same
    assert key_of(*synchronised, "trainer.devices=1") == key_of(*synchronised, "trainer.devices=2")


def test_processes_count_where_each_normalises_its_own_share_of_the_batch(key_of):
    assert key_of("trainer=ddp_cpu", "trainer.sync_batchnorm=false") != key_of("trainer=cpu")
    assert key_of("trainer=ddp_cpu") == key_of("trainer=cpu")
