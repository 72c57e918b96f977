"""Every number of every config has a range: what is below, above or beside it is refused by its key before anything starts."""

import functools
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from omegaconf import DictConfig, OmegaConf

from exfuse.cli.verbs import VERBS
from exfuse.config import search_path
from exfuse.config.overrides import compose_config, describe_backbone, describe_run
from exfuse.config.read import Choices, describe, describe_pretraining, fitting, read_arguments
from exfuse.config.signatures import signature
from exfuse.errors import ConfigError
from exfuse.store.description import PretrainingDescription, RunDescription
from tests.sharing import FULL

DESCRIBED = {"train": describe, "pretrain": describe_pretraining}
TYPED = {verb.config: verb.target for verb in VERBS if verb.work}
FREE = {
    "report_features": {"image"},
    "study_import": {"columns_seed"},
    "runs_list": {"name", "data", "recipe"},
}  # an id, a place or a name, which is looked up
FRACTIONS = {"band", "megabytes", "timeout", "device_mib", "hung"}  # written as whole numbers
# Where the number stands in a file for people, or is asserted of a published data set.
WRONG: tuple[Any, ...] = (-7, float("nan"), float("-inf"), 1e30)


def numbers(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Keys that a config sets to a number or to a list of numbers."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from numbers(value, f"{key}.{name}" if key else str(name))
    elif is_number(node) or (isinstance(node, list) and node and all(map(is_number, node))):
        yield key, node


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TRIED: set[tuple[Any, ...]] = set()  # in make test, settings that other options of their group have, too, and are read alike


def refuse_all(config: DictConfig, choices: Choices, read: Any, below: str = "", free: Any = ()) -> int:
    """Try what is out of every range; how many keys there were."""
    tried, failed = 0, list[str]()
    for key, value in [*numbers(OmegaConf.to_container(config, resolve=False))]:
        if not key.startswith(below) or key in free or "backbone.arguments" in key:
            continue
        tried += 1
        around = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
        alike = (read, key, around.get("_target_"), *sorted(map(str, around)))
        if not FULL and alike in _TRIED:
            continue
        _TRIED.add(alike)
        for wrong in (
            *WRONG,
            "x",
            *([0.5] if isinstance(value, int) and key.rpartition(".")[2] not in FRACTIONS else []),
        ):
            OmegaConf.update(config, key, [wrong] * len(value) if isinstance(value, list) else wrong)
            try:
                read(config, choices)
                said = "taken"
            except ConfigError as refusal:
                said = str(refusal)
            named = said.partition("=")[0]
            if not (key.endswith(named) or key.startswith(f"{named}.")):  # of a mapping or of what refers to the key
                failed.append(f"{key}={wrong}: {said}")
        OmegaConf.update(config, key, value)
    assert not failed, "\n".join(failed)
    read(config, choices)
    return tried


@pytest.mark.parametrize("root", DESCRIBED)
def test_every_number_of_a_run_and_a_pretraining_has_a_range(root: str) -> None:
    assert refuse_all(*compose_config(root, []), DESCRIBED[root]) > 40


def options_with_numbers() -> list[tuple[str, str]]:
    skip = ("study", "chain", "source", "debug", "ablation", "architecture", "paths", "slot", "data/parts", "hydra")
    return [
        (group, option)
        for group in search_path.groups()
        if not group.startswith(skip)
        for option in search_path.options(group)
        if next(numbers(search_path.read_whole(group, option)), None)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("group", "option"), options_with_numbers())
def test_every_number_of_every_option_has_a_range(group: str, option: str) -> None:
    place = {"optimizer": "optimizer@recipe.optimizer", "schedule": "schedule@recipe.schedule"}.get(group, group)
    if group in ("protocol",):
        root, read = "evaluate", typed("evaluate")
    else:
        root, read = ("pretrain", describe_pretraining) if group.startswith("pretraining") else ("train", describe)
    needed = ["checkpoint=x"] if root == "evaluate" else ["data.root=x"] if option == "voc_animals" else []
    needed += ["backbone.name=resnet18"] if option == "timm" else []
    if option == "cosine":  # the recipe sets the other schedule's
        needed = ["~recipe.schedule.power", "~recipe.schedule.warmup_steps"]
    config, choices = compose_config(root, [f"{place}={option}", *needed])
    assert refuse_all(config, choices, read, below=place.partition("@")[2] or group.replace("/", "."))


@functools.cache
def typed(root: str) -> Any:
    return lambda config, choices: read_arguments(config, TYPED[root], choices)


@pytest.mark.parametrize("root", TYPED)
def test_every_number_of_a_command_with_a_type_has_a_range(root: str) -> None:
    lists = {verb.config: {thing.key for thing in verb.things if thing.many} for verb in VERBS}[root]
    config, kinds = compose_config(root, [])[0], {name: one.kind for name, one in signature(TYPED[root]).arguments.items()}
    needed = []
    for key in missing(OmegaConf.to_container(config)):
        words = ["[x]"] if key in lists else ["x"]
        if kind := kinds.get(key):
            words = [
                text
                for text, value in {"x": "x", "[x]": ["x"], **{word: word for word in get_args(kind)}}.items()
                if takes(value, kind)
            ]
        needed.append(f"{key}={words[0]}")
    refuse_all(*compose_config(root, needed), typed(root), free=FREE.get(root, ()))


def missing(node: Any, key: str = "") -> list[str]:
    if isinstance(node, dict):
        return [found for name, value in node.items() for found in missing(value, f"{key}.{name}" if key else name)]
    return [key] if node == "???" else []


@pytest.mark.parametrize("root", TYPED)
def test_every_number_that_a_command_takes_has_a_range_where_its_file_says_null_too(root: str) -> None:
    for name, argument in signature(TYPED[root]).arguments.items():
        if name not in FREE.get(root, ()) and takes(3, argument.kind):
            assert not [wrong for wrong in (*WRONG, "x", [], [-1, 3]) if takes(wrong, argument.kind)], name


def takes(value: Any, kind: Any) -> bool:
    try:
        fitting("key", value, kind, None)
    except ConfigError:
        return False
    return kind is not Any


@pytest.mark.parametrize(
    ("typed_words", "says"),
    [
        (
            "recipe.augmentation.scale=[2,1]",
            "recipe.augmentation.scale=[2.0,1.0]: expected a list",
        ),
        ("recipe.epochs=null", "recipe.epochs=null: expected a whole number of at least 1"),
        ("debug.images=0", "debug.images=0: expected"),
        ("paths.runs=", "paths.runs=: expected text"),
        ("paths.data=''", "paths.data=: expected text"),
        ("trainer.devices=0", "trainer.devices=0: expected"),
        ("trainer.devices=-3", "trainer.devices=-3: expected"),
        ("trainer.num_sanity_val_steps=-2", "trainer.num_sanity_val_steps=-2: expected a whole number of at least -1"),
        ("recipe.lr=1e30", "recipe.lr=1e+30: expected a number above 0; no number but a seed may be larger than 1,000,000,000"),
        ("seed=1.5", "seed=1.5: expected a whole number of at least 0"),
        ("seed=true", "seed=true: expected"),
        ("+trainer.limit_train_batches=0", "trainer.limit_train_batches=0: this is decided here"),
        ("+trainer.limit_val_batches=-1", "trainer.limit_val_batches=-1: this is decided here"),
        ("+trainer.limit_val_batches=1.5", "trainer.limit_val_batches=1.5: this is decided here"),
        ("+trainer.max_steps=-5", "trainer.max_steps=-5: this is decided here"),
        ("+trainer.val_check_interval=0", "trainer.val_check_interval=0: this is decided here"),
        ("+trainer.overfit_batches=-1", "trainer.overfit_batches=-1: this is decided here"),
        ("optimizer@recipe.optimizer=sgd recipe.optimizer.momentum=1.5", "recipe.optimizer.momentum=1.5: expected"),
        ("+recipe.optimizer.betas=[0.9,1.0]", "recipe.optimizer.betas=[0.9,1.0]: expected"),
        ("+recipe.optimizer.eps=-1", "recipe.optimizer.eps=-1: expected"),
        ("decoder.levels=[]", "decoder.levels=[]: expected"),
        ("decoder.levels=[1,2]", "decoder.levels=[1,2]: expected"),
        ("data=voc data.counts.train=-1", "data.counts={"),
        ("data=folder data.orientation=upwards", "data.orientation=upwards: expected refuse, stored or upright."),
        ("backbone.normalisation={mean:[0,0,2],std:[1,1,1]}", "backbone.normalisation.mean=[0,0,2]: expected"),
        ("backbone.normalisation={mean:[0,0,0],std:[1,0,1]}", "backbone.normalisation.std=[1,0,1]: expected"),
    ],
)
def test_numbers_that_would_make_another_experiment_are_refused(typed_words: str, says: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        describe_run(typed_words.split())
    assert str(refusal.value).startswith(says)


def test_crops_of_a_pretraining_keep_a_share_of_the_image() -> None:
    for scale in ("[0.4,1.5]", "[1.0,0.4]", "[0,1]"):
        with pytest.raises(ConfigError, match=r"pretraining\.recipe\.augmentation\.scale="):
            describe_backbone([f"pretraining.recipe.augmentation.scale={scale}"])


def test_what_is_at_the_end_of_a_range_is_taken() -> None:
    run: RunDescription = describe_run([f"seed={2**63 - 1}", "recipe.augmentation.scale=[1,1]", "trainer.devices=-1"])
    made: PretrainingDescription = describe_backbone(["pretraining.recipe.augmentation.scale=[1,1]"])
    assert (run.seed, run.recipe.augmentation.scale, run.trainer.devices) == (2**63 - 1, [1.0, 1.0], -1)
    assert made.recipe.augmentation.scale == [1.0, 1.0]
