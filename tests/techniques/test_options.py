import functools
import itertools
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
    assert second.endswith(f"  exfuse train +ablation={path.stem}")


@pytest.mark.parametrize("path", OPTIONS, ids=label)
def test_an_option_is_a_callable_of_its_techniques_file_with_a_comment_first(path):
    files = {
        "ss": ("semantic_supervision",),
        "lr": ("layer_rearrangement",),
        "ecre": ("channel_resolution",),
        "seb": ("embedding_branch",),
        "dap": ("adjacent_prediction", "adjacent_controls"),
    }
    text = path.read_text()
    content = yaml.safe_load(text)
    assert text.startswith("# ")
    assert content["_target_"].removeprefix("exfuse.techniques.").partition(".")[0] in files[path.parent.name]
    assert content["_partial_"] is True


@pytest.mark.parametrize("technique", sorted(TECHNIQUES))
def test_no_two_options_of_a_technique_are_the_same(technique):
    contents = [yaml.safe_load(path.read_text()) for path in OPTIONS if path.parent.name == technique]
    assert all(one != other for one, other in itertools.combinations(contents, 2))


@pytest.fixture(scope="module")
def changed(compose_config):
    """The techniques for which an overlay chooses another option than train.yaml does."""

    @functools.cache
    def techniques(overlay):
        return set(compose_config(f"+ablation={overlay}").technique)

    return techniques


def test_without_an_overlay_the_model_is_the_baseline(changed):
    assert changed("baseline") == set()


@pytest.mark.parametrize(
    ("row", "overlay", "techniques"),
    [
        (1, "baseline", set()),
        (2, "ss", {"ss"}),
        (3, "ss_lr", {"ss", "lr"}),
        (4, "ss_lr_ecre", {"ss", "lr", "ecre"}),
        (5, "ss_lr_seb", {"ss", "lr", "seb"}),
        (6, "ss_lr_seb_dap", {"ss", "lr", "seb", "dap"}),
        (7, "ss_lr_ecre_seb_dap", TECHNIQUES),
        (7, "exfuse", TECHNIQUES),
    ],
)
def test_table_3s_rows_are_there_and_say_so(changed, row, overlay, techniques):
    assert changed(overlay) == techniques
    assert f"able 3 row {row}" in (CONF / "ablation" / f"{overlay}.yaml").read_text()


@pytest.mark.parametrize("path", OVERLAYS, ids=label)
def test_an_overlay_changes_just_the_techniques_in_its_name(changed, path):
    parts = set(path.stem.split("_"))
    named = parts & TECHNIQUES
    assert changed(path.stem) == (TECHNIQUES if "exfuse" in parts else TECHNIQUES - named if "without" in parts else named)


def test_exfuse_is_the_last_row_of_table_3(compose_config):
    assert compose_config("+ablation=exfuse").technique == compose_config("+ablation=ss_lr_ecre_seb_dap").technique
