import subprocess
import sys

import pytest

from exfuse import files
from exfuse.errors import ConfigError
from exfuse.store import variants

BASELINE = {"ss": "none", "lr": "standard", "ecre": "deconv", "seb": "none", "dap": "none"}


@pytest.fixture
def added(tmp_path):
    """A folder of config files that is on the search path for one test."""
    (tmp_path / "slot").mkdir()
    files.set_config_dirs([tmp_path])
    yield tmp_path
    files.set_config_dirs([])


def add(folder, name, text="title: attention\norder: 6\nbaseline: none\nplace: levels\n"):
    (folder / "slot" / f"{name}.yaml").write_text(text)


def test_the_packages_techniques_in_their_order():
    assert variants.names() == tuple(BASELINE)
    assert variants.baseline() == BASELINE
    assert [technique.short for technique in variants.techniques()] == ["SS", "LR", "ECRE", "SEB", "DAP"]
    assert variants.technique("seb").title == "semantic embedding branch"


@pytest.mark.parametrize(
    ("options", "decoder", "label", "short"),
    [
        ({}, "levels_2345", "baseline", "baseline"),
        ({"seb": "product", "ss": "second_conv_features"}, "levels_2345", "ss-second_conv_features+seb-product", "ss+seb"),
        ({"seb": "none", "dap": "last"}, "levels_5", "dap-last+levels_5", "dap-last+levels_5"),
    ],
)
def test_labels(options, decoder, label, short):
    assert variants.label(options, decoder) == label
    assert variants.short_name(label, options, decoder) == short
    assert variants.short_name(f"{label} wide", options, decoder) == f"{short} wide"
    assert variants.short_name("mine", options, decoder) == "mine"


def test_an_option_that_is_not_named_is_the_baselines():
    assert variants.complete({"dap": "wide"}) == BASELINE | {"dap": "wide"}
    choices = {"technique/dap": "wide", "decoder": "levels_5", "data": "voc"}
    assert variants.chosen_options(choices) == BASELINE | {"dap": "wide"}


def test_a_technique_of_another_folder_joins_the_table_and_changes_no_label_without_it(added):
    add(added, "attention")
    assert variants.names() == (*BASELINE, "attention")
    assert variants.technique("attention").short == "ATTENTION"
    assert variants.complete({"seb": "product"})["attention"] == "none"
    assert variants.label({"seb": "product"}) == variants.label({"seb": "product", "attention": "none"}) == "seb-product"
    assert variants.label({"attention": "on", "seb": "product"}) == "seb-product+attention-on"
    files.set_config_dirs([])
    assert variants.names() == tuple(BASELINE)
    assert variants.label({"attention": "on"}) == "attention-on"  # what is unknown is named


def test_an_unknown_technique_is_answered_with_those_that_there_are():
    with pytest.raises(
        ConfigError, match=r"no technique 'sep'\. Did you mean 'seb'\? Techniques: ss, lr, ecre, seb, dap\. Another"
    ):
        variants.technique("sep")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: x\norder: 6\nbaseline: on\nplace: levels\n", "Expected `str`, got `bool` - at `\\$.baseline`.*: quote them"),
        ("title: x\norder: 6\nbaseline: none\nplace: middle\n", "Invalid enum value 'middle' - at `\\$.place`"),
        ("title: x\norder: 6\nbaseline: none\nplace: levels\npapr: y\n", "unknown field `papr`"),
        ("title: x\norder: 6\nplace: levels\n", "missing required field `baseline`"),
        ("title: [", "attention.yaml is no technique"),
    ],
)
def test_a_file_that_is_no_technique_is_named_with_the_key(added, text, message):
    add(added, "attention", text)
    with pytest.raises(ConfigError, match=message) as refused:
        variants.techniques()
    assert str(added / "slot" / "attention.yaml") in str(refused.value)
    assert "title, order, baseline, place, paper, short" in str(refused.value)


def test_the_table_is_read_without_torch():
    code = "import sys; from exfuse.store.variants import label; print(label({'seb': 'product'}), 'torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "seb-product False\n"
    )


def test_a_technique_is_not_called_as_a_column_of_tables(added):
    add(added, "edge")
    with pytest.raises(ConfigError, match=r"edge\.yaml: tables have a column edge already"):
        variants.techniques()
