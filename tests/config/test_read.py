"""What a config is read into, and the one line in which what is wrong with it is refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from exfuse import files
from exfuse.config import search_path
from exfuse.config.options import build, code_of
from exfuse.config.overrides import check_groups, compose_config, describe_backbone, describe_run, explain
from exfuse.config.signatures import signature
from exfuse.config.words import as_typed
from exfuse.errors import ConfigError
from exfuse.files import CONFIG_DIR, config_dirs
from exfuse.store.description import Option, PretrainingDescription, RunDescription, from_plain, to_plain
from tests.conftest import REPOSITORY
from tests.pace import patience


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("technique/dap=wide technique.dap.window=4", "technique.dap.window=4: expected an odd whole number of at least 1."),
        ("seed=-1", "seed=-1: expected a whole number of at least 0."),
        ("seed=one", "seed=one: expected a whole number of at least 0."),
        ("trainer.max_epochs=abc", "trainer.max_epochs=abc: expected a whole number of at least 1."),
        ("recipe.epochs=0", "recipe.epochs=0: expected a whole number of at least 1."),
        ("recipe.batch_size=0", "recipe.batch_size=0: expected a whole number of at least 1."),
        ("recipe.epochs=2.5", "recipe.epochs=2.5: expected a whole number of at least 1."),
        ("recipe.lr=-1e-3", "recipe.lr=-0.001: expected a number above 0."),
        ("recipe.lr=nan", "recipe.lr=nan: expected a finite number."),
        ("recipe.weight_decay=inf", "recipe.weight_decay=inf: expected a finite number."),
        ("recipe.augmentation.flip=2", "recipe.augmentation.flip=2: expected a number of at least 0 and of at most 1."),
        ("recipe.augmentation.scale=[1]", "recipe.augmentation.scale=[1]: expected a list, each a number above 0 of length 2."),
        ("data=folder data.classes=3", "data.classes=3: expected text or a list, each text."),
        (
            "data=folder data.classes=[false,true]",
            "data.classes=[false,true]: expected text or a list, each text. YAML reads no, yes, on and off as",
        ),
        (
            "data=folder data.void_ids=[300]",
            "data.void_ids=[300]: expected a list, each a whole number of at least 0 and",
        ),
        ("data.images.train=0", "data.images.train=0: expected a whole number of at least 1."),
        ("runtime.cache=dsk", "runtime.cache=dsk: expected auto, none, memory or disk. Did you mean disk?"),
        ("logger=wandb logger.mode=onlin", "logger.mode=onlin: expected offline or online. Did you mean online?"),
        ("backbone.output_stride=4", "backbone.output_stride=4: expected 32, 16 or 8."),
        ("technique.ecre.auxiliary_weight=-1", "technique.ecre.auxiliary_weight=-1: expected a number of at least 0."),
        ("recipe.schedule.warmup_steps=-1", "recipe.schedule.warmup_steps=-1: expected a whole number of at least 0."),
        ("+trainer.benchmark=3", "trainer.benchmark=3: expected true, false or null."),
        ("+trainer.max_stepz=3", "trainer.max_stepz: Lightning's Trainer has no such argument. Did you mean 'max_steps'?"),
        ("+recipe.epochz=3", "recipe.epochz: nothing reads this key. Did you mean 'epochs'? Keys of recipe: optimizer,"),
        (
            "+recipe.optimizer.momentun=3 optimizer@recipe.optimizer=sgd",
            "recipe.optimizer.momentun: nothing reads this key. Did you",
        ),
        ("+technique.dap.windw=5 technique/dap=wide", "technique.dap.windw: nothing reads this key. Did you mean 'window'?"),
        ("+technique.dap.window=5", "technique.dap.window: nothing reads this key. technique/dap="),
        ("+technique.foo=1", "technique.foo: nothing reads this key. Keys of technique: ss, lr, ecre, seb, dap."),
        ("technique/dap=wide technique.dap=null", "technique.dap=null: expected the settings of technique/dap=wide."),
        ("~recipe.optimizer", "~recipe.optimizer: expected the settings of optimizer=adamw."),
        ("recipe.schedule=null", "recipe.schedule=null: expected the settings of schedule=poly."),
        ("recipe=voc ~recipe.schedule.power", "recipe.schedule.power is left out, and exfuse.tasks.schedule.poly needs it."),
        ("+trainer.profiler=foo", "trainer.profiler=foo: expected "),
        ("+trainer.gradient_clip_algorithm=foo", "trainer.gradient_clip_algorithm=foo: expected "),
        ("loss=sum loss.parts=null", "loss.parts=null: a sum of losses needs them."),
        ("+sed=3", "sed: nothing reads this key. Did you mean 'seed'?"),
        (
            "recipe.optimizer._target_=torch.optim.Sgd",
            "recipe.optimizer._target_=torch.optim.Sgd: optimizer=adamw is torch.optim.AdamW, as its file says; choose "
            "another. Did you mean 'sgd'? Options of optimizer: adamw, sgd.",
        ),
        (
            "technique/seb=sum technique.seb._target_=os.getcwd",
            "technique.seb._target_=os.getcwd: technique/seb=sum is ",
        ),
        ("trainer._target_=mine.Trainer", "trainer._target_=mine.Trainer: pytorch_lightning.Trainer trains every run."),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_key_the_value_and_what_is_expected(typed: str, said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        describe_run(typed.split())
    assert str(refusal.value).startswith(said)
    assert "\n" not in str(refusal.value)


def test_a_key_of_an_option_that_is_not_chosen_is_answered_with_those_that_have_it() -> None:
    said = explain(Exception("Could not override"), "train", ["technique.dap.window=5"])
    assert "technique/dap=last or last_control or last_kernel or wide or wide_control or wide_kernel have window." in said
    assert "recipe=" not in said


def test_arguments_of_lightnings_trainer_that_only_watch_or_speed_up_may_be_added() -> None:
    run = describe_run(["+trainer.benchmark=true", "+trainer.profiler=simple", "debug=fast_dev_run"])
    limits = {"limit_train_batches": 1, "limit_val_batches": 1}  # of the preset's own file
    assert run.trainer.more == {"benchmark": True, "profiler": "simple", **limits}


@pytest.mark.parametrize(
    "typed",
    [
        *("+trainer.max_steps=3", "+trainer.min_epochs=9", "+trainer.limit_train_batches=0.5"),
        *("+trainer.callbacks=[]", "+trainer.logger=false", "+trainer.plugins=[]", "+trainer.default_root_dir=/tmp"),
        *("+trainer.enable_checkpointing=false", "+trainer.fast_dev_run=true", "+trainer.overfit_batches=1"),
        *("+trainer.val_check_interval=2", "+trainer.barebones=true", "debug=fast_dev_run trainer.limit_train_batches=2"),
        *("trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2", "trainer.gradient_clip_val=1.5"),
        *("+recipe.optimizer.lr=5", "+recipe.optimizer.weight_decay=5", "+recipe.schedule.steps=5"),
        *("+backbone.arguments.checkpoint_path=evil.pth", "+backbone.arguments.pretrained=true"),
    ],
)
def test_what_is_decided_elsewhere_cannot_be_set_past_it(typed: str) -> None:
    key = typed.split()[-1].lstrip("+").partition("=")[0]
    with pytest.raises(ConfigError, match=f"^{re.escape(key)}[=:]"):
        describe_run(typed.split())


@pytest.mark.parametrize("option", ["../../../outside", "/outside", "..", "seb/../../outside", ""])
def test_the_name_of_an_option_never_leads_out_of_the_config_folders(option: str, tmp_path: Path) -> None:
    (tmp_path / "outside.yaml").write_text("_target_: os.getcwd")
    for name in (option, f"{tmp_path}/outside", os.path.relpath(tmp_path / "outside", CONFIG_DIR / "decoder")):
        with pytest.raises(ConfigError, match="There is no decoder="):
            build("decoder", Option(name))
    with pytest.raises(ConfigError, match="There is no"):
        build(os.path.relpath(tmp_path, CONFIG_DIR), Option("outside"))


@pytest.mark.parametrize(
    "settings",
    [
        {"_target_": "pathlib.Path.write_text"},
        {"kernel": {"_target_": "sympy.sympify", "a": "1"}},
        {"kernel": [{"_target_": "torch.load", "weights_only": False}]},
        {"brand_new": 1},
        {"levels": "2345"},
    ],
)
def test_settings_from_a_file_are_checked_as_those_of_configs_are(settings: dict[str, Any]) -> None:
    usual = search_path.as_written("decoder", "levels_2345").settings
    with pytest.raises(ConfigError, match=r"^decoder\."):
        build("decoder", Option("levels_2345", usual | settings))


def test_a_description_survives_plain_containers_and_names_no_code() -> None:
    overrides = ["+ablation=exfuse", "data=voc_coco", "+trainer.benchmark=true"]
    run, wanted = describe_run(overrides), describe_backbone(["+ablation=ss_lr", "pretraining=imagenet"])
    assert to_plain(from_plain(to_plain(run), RunDescription)) == to_plain(run)
    assert to_plain(from_plain(to_plain(wanted), PretrainingDescription)) == to_plain(wanted)
    assert "_target_" not in f"{to_plain(run)}{to_plain(wanted)}"
    assert run.name == "exfuse"
    assert describe_run(["technique/seb=sum"]).name == "seb-sum"
    assert describe_run(["technique/seb=sum", "name=mine"]).name == "mine"
    assert describe_run([]).technique == {}  # the baseline's
    with pytest.raises(ConfigError, match=r"ecre=deconv is what runs without .* another: deconv_supervised, subpixel, subpix"):
        describe_run(["technique.ecre.auxiliary_weight=1"])


def test_a_setting_is_what_its_argument_is_whichever_way_it_is_typed() -> None:
    chosen = "technique/ecre=subpixel_supervised"
    one, other = (describe_run([chosen, f"technique.ecre.auxiliary_weight={value}"]) for value in ("1", "1.0"))
    assert one.technique == other.technique
    assert isinstance(one.technique["ecre"].settings["auxiliary_weight"], float)
    one, other = (describe_run(["loss=sum", f"loss.weights.dice={value}"]) for value in ("2", "2.0"))
    assert json.dumps(one.loss.settings) == json.dumps(other.loss.settings)


def test_a_kind_is_known_by_the_name_that_a_module_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own or an imported one; circles and names without a kind are no plain values."""
    package = tmp_path / "kinds_by_name"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "names.py").write_text('Colour = Literal["red", "blue"]\nfrom .use import Round\n')
    (package / "use.py").write_text(
        "from .names import Colour as Paint, Round\nSize = list[Paint]\nThing = object()\nSelf = Self\n"
        "def f(paint: Paint | None, size: Size, round: Round, thing: Thing, me: Self, other: Elsewhere): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    kinds = {name: one.kind for name, one in signature("kinds_by_name.use.f").arguments.items()}
    colour = Literal["red", "blue"]
    unknown = dict.fromkeys(("round", "thing", "me", "other"), Any)
    assert kinds == {"paint": Optional[colour], "size": list[colour], **unknown}  # noqa: UP045 - as it is put together


def test_signatures_are_read_without_importing_what_they_are_of() -> None:
    code = (
        "import sys\nfrom exfuse.config.signatures import signature\n"
        "assert 'momentum' in signature('torch.optim.SGD').arguments\n"
        "assert 'max_epochs' in signature('pytorch_lightning.Trainer').arguments\n"
        "assert not {'torch', 'pytorch_lightning'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, timeout=patience(60))
    assert not signature("exfuse.techniques.adjacent_prediction.AdjacentPrediction").arguments["classes"].optional
    with pytest.raises(ConfigError, match=r"torch\.optim\.Sgd cannot be found"):
        signature("torch.optim.Sgd")


def test_what_a_class_inherits_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inheriting.py").write_text(
        "import torch.nn as nn\nimport base_of_inheriting as base\nfrom torch.nn import *\n"
        "class Dotted(base.Base):\n    pass\n"
        "class Entropy(nn.CrossEntropyLoss):\n    pass\n"
        "class Starred(CrossEntropyLoss):\n    gain: float = 2.0\n"
        "class Plain(nn.Module):\n    pass\n"
        "from dataclasses import dataclass as record\n@record\nclass Held:\n    gain: float = 2.0\n"
    )
    (tmp_path / "base_of_inheriting.py").write_text("class Base:\n    def __init__(self, counts, epsilon=1.0):\n        pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [*signature("inheriting.Dotted").arguments] == ["counts", "epsilon"]
    for name in ("Entropy", "Starred"):
        assert "label_smoothing" in signature(f"inheriting.{name}").arguments
    assert signature("inheriting.Plain") == ({}, False)
    assert [*signature("inheriting.Held").arguments] == ["gain"]


@pytest.mark.parametrize("recipe", ["voc", "scenes"])
def test_another_schedule_or_optimiser_than_the_recipes_leaves_its_settings_behind(recipe: str) -> None:
    run = describe_run([f"recipe={recipe}", "schedule@recipe.schedule=cosine", "optimizer@recipe.optimizer=adamw"])
    assert run.recipe.schedule == Option("cosine", {"warmup_share": 0.05})
    assert "momentum" not in run.recipe.optimizer.settings
    with pytest.raises(ConfigError, match=r"recipe\.schedule\.power: nothing reads this key\. schedule=poly has power"):
        describe_run([f"recipe={recipe}", "schedule@recipe.schedule=cosine", "recipe.schedule.power=0.5"])


def test_options_of_a_folder_of_ones_own_are_found_checked_and_built(tmp_path: Path) -> None:
    (tmp_path / "schedule").mkdir()
    (tmp_path / "schedule" / "flat.yaml").write_text("# No decay.\n_target_: exfuse.tasks.schedule.poly\n_partial_: true\n"
                                                     "power: 0.0\nwarmup_steps: 0\n")  # fmt: skip
    try:
        search_path.use_words(["train", "--config-dir", str(tmp_path)])
        assert "flat" in search_path.options("schedule")
        assert search_path.arguments() == ["--config-dir", str(tmp_path)]
        run = describe_run(["schedule@recipe.schedule=flat", "recipe.schedule.power=0"])
        assert run.recipe.schedule == Option("flat", {"power": 0.0, "warmup_steps": 50})
        assert build("schedule", run.recipe.schedule).keywords == {"power": 0.0, "warmup_steps": 50}
    finally:
        search_path.use([])
    assert len(config_dirs()) == 1
    with pytest.raises(ConfigError, match="There is no schedule=flat among the config files, only cosine, poly"):
        build("schedule", Option("flat"))
    with pytest.raises(ConfigError, match="/nowhere: there is no such folder of config files \\(--config-dir"):
        search_path.use_words(["--config-dir=/nowhere"])


def test_a_program_that_imports_this_keeps_its_own_words():
    """Only the command reads the command line: a program of somebody else's may well have a --config-dir of its own."""
    code = "import sys; sys.argv += ['--config-dir', 'nowhere']; import exfuse.config, exfuse.config.overrides"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=patience(120), cwd=REPOSITORY)


TEXTS = [
    *("VOC 2012", "gr\u00f6\u00dfer", "/home/j\u00fcrgen/d", r"(\w+)_\d", r"say \"x\" \\", "ends with \\", ".5", "null"),
    *("a,b=(c)", "it's", "~x"),
]


@pytest.mark.parametrize("value", TEXTS)
def test_what_is_typed_for_a_text_is_read_as_that_text(value: str) -> None:
    for typed, expected in ((as_typed(value), value), (as_typed([value, "b"]), [value, "b"])):
        (override,) = OverridesParser.create().parse_overrides([f"key={typed}"])
        assert override.value() == expected


def test_files_of_ones_own_are_read_as_hydra_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("eps: 1e-5\nbig: 2E3\nday: 2026-01-02\nname: e5\nwhole: 12\nnested: {lr: 1.5e-3}\n")
    assert search_path.read(path) == OmegaConf.to_container(OmegaConf.load(path))
    for name, text, says in (
        ("twice", "a: 1\nb: 2\na: 3\n", "twice.yaml is no YAML: a stands there twice"),
        ("list", "- a\n- b\n", "list.yaml holds list: expected keys with values"),
    ):
        (tmp_path / f"{name}.yaml").write_text(text)
        with pytest.raises(ConfigError, match=says):
            search_path.read(tmp_path / f"{name}.yaml")


def test_a_baseline_whose_file_has_a_small_number_changes_no_key_and_refers_to_no_setting(tmp_path: Path) -> None:
    folder = tmp_path / "any (odd) folder, really"
    (folder / "slot").mkdir(parents=True)
    (folder / "technique" / "mine").mkdir(parents=True)
    (folder / "slot" / "mine.yaml").write_text(
        "# Mine.\ntitle: mine\nshort: MINE\norder: 9\nbaseline: plain\npaper: null\nplace: levels\n"
    )
    plain = folder / "technique" / "mine" / "plain.yaml"
    text = "# Nothing.\n_target_: torch.nn.Identity\n_partial_: true\nnormalized_shape: 8\neps: 1e-5\n"
    plain.write_text(text)
    try:
        search_path.use_words(["train", "--config-dir", str(folder)])
        assert describe_run(["seed=1"]).technique == {}
        with pytest.raises(ConfigError, match=r"technique\.mine\.eps=2e-05: technique/mine=plain is what runs without"):
            describe_run(["technique.mine.eps=2e-5"])
        other = tmp_path / "other"
        shutil.copytree(folder, other)
        (other / plain.relative_to(folder)).write_text(text.replace("8", "${recipe.epochs}"))
        search_path.use_words(["train", "--config-dir", str(other)])
        with pytest.raises(ConfigError, match=r"technique/mine=plain: normalized_shape refers to another setting"):
            describe_run(["seed=1"])
        for code in (
            "torch.nn.LayerNorm",
            "exfuse.techniques.embedding_branch.ProductEmbedding",
            "exfuse.models.decoder.Decoder",
        ):
            acting = tmp_path / code
            shutil.copytree(folder, acting)
            (acting / plain.relative_to(folder)).write_text(f"# Acts.\n_target_: {code}\n_partial_: true\n")
            search_path.use_words(["train", "--config-dir", str(acting)])
            wanted = "Let it name exfuse.techniques.embedding_branch.NoEmbedding or torch.nn.Identity"
            with pytest.raises(ConfigError, match=rf"technique/mine=plain names {code}, but .* no record says so. {wanted}"):
                describe_run(["seed=1"])
    finally:
        search_path.use([])


@pytest.mark.parametrize(
    ("slot", "option", "says"),
    [
        (b"order: .nan", "true", r"mine\.yaml is no technique \(Expected `float`.* at `\$\.order`\)\."),
        (b"order: .inf", "true", r"mine\.yaml is no technique \(Expected `float`.* at `\$\.order`\)\."),
        ("order: 9\n# größer".encode("latin-1"), "true", r"^[^\n]*mine\.yaml is no technique \(unacceptable[^\n]*$"),
        (b"order: 9", "hello", r"technique/mine=acts: _partial_: hello in its file, expected true or false\."),
    ],
)
def test_a_technique_of_ones_own_that_says_nonsense_is_refused_in_a_line(
    tmp_path: Path, slot: bytes, option: str, says: str
) -> None:
    (tmp_path / "slot").mkdir()
    (tmp_path / "technique" / "mine").mkdir(parents=True)
    (tmp_path / "slot" / "mine.yaml").write_bytes(b"# Mine.\ntitle: mine\nbaseline: plain\nplace: levels\n" + slot + b"\n")
    for name, waits in (("plain", "true"), ("acts", option)):
        text = f"# {name}.\n_target_: torch.nn.Identity\n_partial_: {waits}\n"
        (tmp_path / "technique" / "mine" / f"{name}.yaml").write_text(text)

    def built() -> None:
        search_path.use_words(["train", "--config-dir", str(tmp_path)])
        code_of("technique/mine", "acts")

    try:
        with pytest.raises(ConfigError, match=says):
            built()
    finally:
        search_path.use([])


def test_what_a_technique_of_ones_own_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "technique" / "gate").mkdir(parents=True)
    (tmp_path / "technique" / "gate" / "squeeze.yaml").write_text(
        "# Squeezes.\n_target_: nobodys_gates.Gate\n_partial_: true\n"
    )
    try:
        search_path.use_words(["train", "--config-dir", str(tmp_path)])
        for word in ("technique/gate=squeeze", "+technique/gate=squeeze"):
            with pytest.raises(ConfigError, match=r"technique/gate has options and no entry .*: add slot/gate\.yaml"):
                describe_run([word])
        whole = tmp_path / "whole"
        shutil.copytree(tmp_path / "technique", whole / "technique")
        (whole / "slot").mkdir()
        (whole / "slot" / "gate.yaml").write_text(
            "# Gate.\ntitle: gate\nshort: GATE\norder: 9\nbaseline: none\npaper: null\nplace: levels\n"
        )
        (whole / "technique" / "gate" / "none.yaml").write_text("# None.\n_target_: torch.nn.Identity\n_partial_: true\n")
        search_path.use_words(["train", "--config-dir", str(whole)])
        with pytest.raises(ConfigError, match=r"there is no module nobodys_gates\. Is the folder that holds it on PYTHONPATH"):
            describe_run(["technique/gate=squeeze"])
    finally:
        search_path.use([])


def test_a_module_of_ones_own_that_is_no_python_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halfway_done.py").write_text("x = 1\ndef f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"halfway_done\.py, line 2 is no Python: "):
        signature("halfway_done.f")


WRONG = {
    "null": r"loss=wrong: its file's _target_, null, is no import path",
    "[torch.nn.Module]": "loss=wrong: its file's _target_, ",
    '""': "loss=wrong: its file's _target_, ",
    "a b": "loss=wrong: its file's _target_, a b, is no import path",
    "os.system": r"loss=wrong cannot be built: .*missing required argument 'command'.*Does its file lack _partial_",
    "of_a_test.Nothing": "loss=wrong: of_a_test.Nothing cannot be found: ",
    "of_a_test.Unlucky": "loss=wrong cannot be built: RuntimeError: no luck",
    "of_a_test.lacking": r"loss=wrong cannot be built: .*missing 1 required positional argument: 'number'\.$",  # of its own
    "that_exits.Loss": r"loss=wrong: that_exits.Loss cannot be found: its module raised SystemExit: 3",
}


@pytest.mark.parametrize("target", WRONG)
def test_code_of_ones_own_that_cannot_be_used_is_one_line_that_names_the_option(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "wrong.yaml").write_text(f"# Wrong.\n_target_: {target}\n")
    unlucky = "class Unlucky:\n    def __init__(self):\n        raise RuntimeError('no luck')\n"
    lacking = "def needs(number):\n    return number\ndef lacking():\n    return needs()\n"
    (tmp_path / "of_a_test.py").write_text(unlucky + lacking)
    (tmp_path / "that_exits.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    files.set_config_dirs([tmp_path])
    try:
        with pytest.raises(ConfigError) as refusal:
            build("loss", describe_run(["loss=wrong"]).loss)
        assert re.search(WRONG[target], str(refusal.value)), refusal.value
        assert len(str(refusal.value).splitlines()) == 1
    finally:
        files.set_config_dirs([])


def test_a_misspelt_key_in_an_options_own_file_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "schedule").mkdir()
    text = "# Mine.\n_target_: exfuse.tasks.schedule.poly\n_partial_: true\npower: 1.0\nwarmup_step: 3\n"
    (tmp_path / "schedule" / "mine.yaml").write_text(text)
    files.set_config_dirs([tmp_path])
    try:
        said = r"warmup_step: nothing reads this key, though the file of schedule=mine has it\. Did you mean '.*warmup_steps'"
        with pytest.raises(ConfigError, match=said):
            describe_run(["schedule@recipe.schedule=mine"])
    finally:
        files.set_config_dirs([])


@pytest.mark.parametrize("group", ["ablation", "architecture", "study"])
@pytest.mark.parametrize(
    "text", ["recipe:\n  lr: 0.1\n", "# Mine.\n# @package _global_\n", "defaults:\n  - override /technique/seb: sum\n"]
)
def test_a_file_that_reaches_nothing_for_want_of_its_first_line_is_named(tmp_path: Path, group: str, text: str) -> None:
    (tmp_path / group).mkdir()
    file = tmp_path / group / "mine.yaml"
    file.write_text(text)
    files.set_config_dirs([tmp_path])
    try:
        for typed in (f"+{group}=mine", f"+{group}=mine,other"):
            with pytest.raises(ConfigError, match=rf"{group}/mine\.yaml: its first line has to be '# @package _global_'"):
                check_groups([typed])
        file.write_text("\n# @package _global_\n")
        check_groups([f"+{group}=mine", "recipe=small", "technique/seb=sum", f"+{group}=nothing"])
    finally:
        files.set_config_dirs([])


def mappings(node: object, place: str = "") -> list[str]:
    """Every key of a config that has keys below it."""
    if not isinstance(node, dict):
        return []
    below = [found for name, value in node.items() for found in mappings(value, f"{place}.{name}".lstrip("."))]
    return [place, *below] if place else below


@pytest.mark.parametrize(("config", "describe"), [("train", describe_run), ("pretrain", describe_backbone)])
def test_a_value_where_keys_are_expected_is_refused_in_a_line(config: str, describe: Callable[[list[str]], object]) -> None:
    written = OmegaConf.to_container(compose_config(config, [])[0], resolve=False)
    places = [place for place in mappings(written) if not place.startswith("hydra")]
    assert {"data.images", "pretraining.recipe.augmentation", "runtime"} <= {*places}
    for place in places:
        with pytest.raises((ConfigError, HydraException)) as refused:
            describe([f"{place}=3"])
        if isinstance(refused.value, ConfigError):
            assert f"{place.removeprefix('pretraining.')}=3: expected" in str(refused.value)
            assert len(str(refused.value).splitlines()) == 1
