"""Which source files outside the package a run's options rest on."""

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


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "dist-packages"))
    monkeypatch.syspath_prepend(str(tmp_path))
    named = ["mine_too.attention.Attention", "exfuse.models.gcn.GlobalConvolution", "torch.optim.AdamW", "no.such.thing"]
    monkeypatch.setattr(own_code, "_targets", lambda _: iter(named))
    nothing: Any = None
    return own_code.own_code(nothing)


def test_it_is_what_is_imported_and_neither_installed_nor_ours(code: dict[str, str], tmp_path: Path) -> None:
    names = ["aside", "mine_too", "mine_too.attention", "mine_too.deep.more", "mine_too.helper"]
    assert list(code) == names
    assert code["mine_too.helper"] == sha256(tmp_path / "mine_too" / "helper.py")


def test_what_changed_since_is_named(code: dict[str, str], tmp_path: Path) -> None:
    assert own_code.changed_code(code) == own_code.changed_code({}) == ""
    (tmp_path / "mine_too" / "unused.py").write_text("x = 1")
    assert own_code.changed_code(code) == ""
    (tmp_path / "mine_too" / "helper.py").write_text("x = 1")
    assert own_code.changed_code(code) == "mine_too.helper has changed since"
    (tmp_path / "aside.py").unlink()
    assert own_code.changed_code(code) == "aside, mine_too.helper have changed since"
