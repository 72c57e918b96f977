"""Which source files outside the package a run's options rest on."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from exfuse.config import own_code
from exfuse.files import sha256

FILES = {
    "mine_too/__init__.py": "",
    "mine_too/attention.py": "from . import helper\nfrom .deep.more import thing\nimport json, torch, of_the_system\n"
    "def late():\n    import aside\n",
    "mine_too/helper.py": "from mine_too import attention\n",  # a circle
    "mine_too/deep/more.py": "thing = 1\n",  # in a folder that is no package
    "mine_too/unused.py": "",
    "aside.py": "this is no Python",
    "dist-packages/of_the_system.py": "x = 1",
}


VERSIONS = {"torch": "1.2"}


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> dict[str, str]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "dist-packages"))
    monkeypatch.syspath_prepend(str(tmp_path))
    files = {
        "technique/mine": {"_target_": "mine_too.attention.Attention", "more": {"_target_": "no.such.thing"}},
        "optimizer/adamw": {"_target_": "torch.optim.AdamW"},
        "loss/installed": {"_target_": "of_the_system.Loss"},
        "loss/plain": {"weight": 1},
    }
    monkeypatch.setattr(own_code, "_options", lambda _: [tuple(name.split("/")) for name in files])
    monkeypatch.setattr(own_code, "code_of", lambda group, name: files[f"{group}/{name}"])
    monkeypatch.setattr(own_code.search_path, "find", lambda name: own_code.CONFIG_DIR / f"{name}.yaml")
    monkeypatch.setattr(own_code, "packages_distributions", lambda: {"of_the_system": ["torch"]})
    monkeypatch.setattr(own_code, "version", lambda name: VERSIONS[name])
    request.node.files = files
    nothing: Any = None
    return own_code.own_code(nothing)


def test_it_is_what_is_imported_and_neither_installed_nor_ours(code: dict[str, str], tmp_path: Path) -> None:
    said = {"technique=mine": "mine_too.attention.Attention\nno.such.thing", "loss=installed": "of_the_system.Loss\ntorch 1.2"}
    assert {name: value for name, value in code.items() if "=" in name} == {
        name: hashlib.sha256(text.encode()).hexdigest() for name, text in said.items()
    }
    names = ["aside", "mine_too", "mine_too.attention", "mine_too.deep.more", "mine_too.helper"]
    assert [name for name in code if "=" not in name] == names
    assert code["mine_too.helper"] == sha256(tmp_path / "mine_too" / "helper.py")


def test_what_changed_since_is_named(code: dict[str, str], tmp_path: Path) -> None:
    assert own_code.changed_code(code) == own_code.changed_code({}) == ""
    (tmp_path / "mine_too" / "unused.py").write_text("x = 1")
    assert own_code.changed_code(code) == ""
    (tmp_path / "mine_too" / "helper.py").write_text("x = 1")
    assert own_code.changed_code(code) == "mine_too.helper has changed since"
    (tmp_path / "aside.py").unlink()
    assert own_code.changed_code(code) == "mine_too.helper has changed since"  # what is gone fails where it is needed


def test_what_an_option_names_and_the_version_of_what_is_installed_may_change(
    code: dict[str, str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request.node.files["technique/mine"]["_target_"] = "mine_too.attention.Another"  # of the same file
    assert own_code.changed_code(code) == "technique=mine has changed since"
    monkeypatch.setitem(VERSIONS, "torch", "1.3")
    assert own_code.changed_code(code) == "technique=mine, loss=installed have changed since"
