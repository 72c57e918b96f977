from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

CONF = Path(__file__).parents[2] / "conf"
TECHNIQUES = {"ss", "lr", "ecre", "seb", "dap"}
OPTIONS = sorted(CONF.glob("technique/*/*.yaml"))
OVERLAYS = sorted(CONF.glob("ablation/*.yaml"))


def label(path):
    return f"{path.parent.name}/{path.stem}"


def test_the_groups_are_the_five_techniques():
    assert {path.parent.name for path in OPTIONS} == {path.name for path in (CONF / "technique").iterdir()} == TECHNIQUES


@pytest.mark.parametrize("path", [*OPTIONS, *OVERLAYS], ids=label)
def test_a_name_is_read_as_text_by_yaml_and_on_the_command_line(path):
    name = path.stem
    # `on`, `no`, `null` or `1e3` would be a boolean, nothing or a number
    assert yaml.safe_load(name) == name
    assert yaml.safe_load(f"- override /technique/x: {name}") == [{"override /technique/x": name}]
    assert OverridesParser.create().parse_override(f"+group={name}").value() == name


@pytest.mark.parametrize("path", OVERLAYS, ids=label)
def test_an_overlay_only_names_options_of_techniques(path):
    text = path.read_text()
    content = yaml.safe_load(text)
    assert content.keys() == {"defaults"}
    options = {}
    for entry in content["defaults"]:
        ((key, option),) = entry.items()
        technique = key.removeprefix("override /technique/")
        assert key != technique
        assert technique not in options
        assert (CONF / "technique" / technique / f"{option}.yaml").is_file()
        options[technique] = option
    first, second = text.splitlines()[:2]
    assert first == "# @package _global_"
    assert second.startswith("# ")
    assert second.endswith(f"  python -m src.train +ablation={path.stem}")


@pytest.mark.parametrize("path", OPTIONS, ids=label)
def test_an_option_is_a_callable_of_its_techniques_file_with_a_comment_first(path):
    files = {
        "ss": "semantic_supervision",
        "lr": "layer_rearrangement",
        "ecre": "channel_resolution",
        "seb": "embedding_branch",
        "dap": "adjacent_prediction",
    }
    text = path.read_text()
    content = yaml.safe_load(text)
    assert text.startswith("# ")
    assert content["_target_"].startswith(f"src.techniques.{files[path.parent.name]}.")
    assert content["_partial_"] is True


def changed(compose_config, *overrides):
    """The techniques for which a variant does not have the baseline's option."""
    baseline, variant = compose_config().technique, compose_config(*overrides).technique
    return {technique for technique in TECHNIQUES if baseline[technique] != variant[technique]}


def test_without_an_overlay_the_model_is_the_baseline(compose_config):
    assert changed(compose_config, "+ablation=baseline") == set()


@pytest.mark.parametrize(
    ("row", "overlay"),
    [
        (1, "baseline"),
        (2, "ss"),
        (3, "ss_lr"),
        (4, "ss_lr_ecre"),
        (5, "ss_lr_seb"),
        (6, "ss_lr_seb_dap"),
        (7, "ss_lr_ecre_seb_dap"),
    ],
)
def test_table_3s_rows_have_the_techniques_that_they_name(compose_config, row, overlay):
    techniques = [set(), {"ss"}, {"ss", "lr"}, {"ss", "lr", "ecre"}, {"ss", "lr", "seb"}, {"ss", "lr", "seb", "dap"}]
    assert changed(compose_config, f"+ablation={overlay}") == [*techniques, TECHNIQUES][row - 1]
    assert f"able 3 row {row}" in (CONF / "ablation" / f"{overlay}.yaml").read_text()


@pytest.mark.parametrize("path", OVERLAYS, ids=label)
def test_an_overlay_changes_just_the_techniques_in_its_name(compose_config, path):
    parts = set(path.stem.split("_"))
    named = TECHNIQUES if "exfuse" in parts else parts & TECHNIQUES
    assert changed(compose_config, f"+ablation={path.stem}") == named


def test_exfuse_is_the_last_row_of_table_3(compose_config):
    assert compose_config("+ablation=exfuse") == compose_config("+ablation=ss_lr_ecre_seb_dap")
