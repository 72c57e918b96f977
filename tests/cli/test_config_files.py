"""Config files as help reads them."""

import re

import pytest

from exfuse.config.overrides import compose_config
from exfuse.config.search_path import about
from tests.command import Command
from tests.conftest import REPOSITORY

FILES = sorted((REPOSITORY / "conf").rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY / "conf")))
def test_every_file_says_in_its_first_comment_line_what_it_is(path):
    line = about(path)
    assert len(line) > 10
    assert re.search(r"[.:;]( |$)|  exfuse", line), "the first sentence does not end in the first line"


def test_what_commands_share_stands_in_one_place():
    roots = sorted((REPOSITORY / "conf").glob("*.yaml"))
    assert [path.name for path in roots if "job_logging" in path.read_text()] == ["base.yaml"]
    assert [path.name for path in roots if "output_subdir" in path.read_text()] == ["base.yaml"]
    classes = [path for path in FILES if "diningtable" in path.read_text()]
    assert [path.name for path in classes] == ["voc.yaml"]


@pytest.mark.parametrize("name", ["voc", "voc_aug", "voc_coco", "voc_trainval", "voc_animals"])
def test_vocs_readers_differ_in_their_splits_alone(name):
    data = compose_config("train", [f"data={name}"])[0].data
    train = data.train.parts[1] if name == "voc_coco" else data.train
    val = data.val.of if name == "voc_trainval" else data.val
    assert train.classes == val.classes == data.classes
    assert len(data.classes) == 21
    assert val.split == "val"
    assert val._target_ == "exfuse.data.voc.read_voc"
    assert train.get("split", "train") == {"voc_trainval": "trainval"}.get(name, "train")


LATIN, BINARY = b"# caf\xe9\n", b"\x00\xff\xfe"
NO_YAML = [b"a: [1\n", b"a: b: c\n", b"\tx: 1\n"]


@pytest.mark.parametrize(
    ("typed", "content", "says"),
    [
        *(("+ablation=mine", content, "no YAML") for content in NO_YAML),
        *(
            (typed, content, "UTF-8")
            for content in (LATIN, BINARY)
            for typed in ("+ablation=mine", "ablation --help", "--help")
        ),
    ],
)
def test_a_config_file_of_ones_own_that_cannot_be_read_is_named(typed, content, says, tmp_path, command: Command):
    file = tmp_path / "ablation" / "mine.yaml"
    file.parent.mkdir()
    file.write_bytes(content)
    status, said, told = command("train", "--config-dir", tmp_path, *typed.split())
    assert status == (0 if "--help" in typed else 1)
    assert ("seb_ecre" in said) == ("--help" in typed)  # the rest is shown
    assert len(told.strip().splitlines()) == 1
    assert str(file) in told
    assert says in told


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("technique=none", "technique/dap"),
        ("technique.dap.windw=3", "technique/dap=none has no settings"),
        ("technique.dap.window=3", "technique/dap=last or"),
        *((f"technique/dap={word}", "expected the name of one option") for word in ("nan", "True", "inf", "false", "null")),
    ],
)
def test_what_no_key_is_gets_advice_that_helps(typed, says, command: Command):
    status, _, told = command("train", typed)
    assert status == 1
    assert says in told
    assert "append to your" not in told


@pytest.mark.parametrize("second", [False, True])
def test_a_file_that_would_not_be_read_is_named(second, tmp_path, command: Command):
    """The package's own of that name, or that of a folder before, would be taken for it in silence."""
    name = "technique/seb/mine.yaml" if second else "technique/seb/gate.yaml"
    folders = [tmp_path / "one", tmp_path / "two"][: 1 + second]
    for folder in folders:
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(f"# Of {folder.name}.\n_target_: mine.Gate\n_partial_: true\n")
    typed = f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders)}]"
    status, _, told = command("train", typed, "technique/seb=none")
    first = str(folders[0] / name) if second else "the package's own"
    assert status == 1
    assert f"{folders[-1] / name} would not be read: {first} of that name comes first." in told


def test_a_copy_of_a_file_is_no_other_one(tmp_path, command: Command):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "folder.yaml").write_bytes((REPOSITORY / "conf" / "data" / "folder.yaml").read_bytes())
    status, said, _ = command("train", "--config-dir", tmp_path, "--cfg", "job")
    assert (status, "seed:" in said) == (0, True)


def test_a_group_of_another_command_is_answered_with_what_this_one_has(command: Command, tmp_path):
    status, _, told = command("evaluate", tmp_path, "trainer=cpu")
    assert status == 1
    assert "This command has no trainer." in told
    assert "device" in told
    assert "append to your" not in told


@pytest.mark.parametrize(
    ("code", "partial", "says"),
    [
        ("raise RuntimeError('mine')", True, "its module raised RuntimeError: mine"),
        ("class Gate:\n    def __init__(self, channels, levels):\n        pass", False, "Does its file lack _partial_: true"),
    ],
)
def test_own_code_that_cannot_be_called_is_told_what_it_lacks(code, partial, says, tmp_path, command: Command, monkeypatch):
    name = f"own_code_{partial}".lower()
    (tmp_path / f"{name}.py").write_text(code)
    (tmp_path / "technique" / "seb").mkdir(parents=True)
    option = f"# Mine.\n_target_: {name}.Gate\n" + "_partial_: true\n" * partial
    (tmp_path / "technique" / "seb" / "mine.yaml").write_text(option)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    small = ["data.images.train=4", "data.images.val=1", "data.size=64", "trainer=cpu", "backbone.init=random"]
    status, _, told = command("train", "--config-dir", tmp_path, "technique/seb=mine", *small)
    assert status == 1
    assert says in told
    assert "Traceback" not in told
