"""A model as a folder for Hugging Face's Hub, and back."""

import json
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from msgspec.structs import replace
from safetensors.torch import load_file, save_file
from torch import Tensor

import exfuse
from exfuse.errors import UserError
from exfuse.exporting import hub
from exfuse.exporting.command import export
from exfuse.files import sha256
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.checked import sealed
from exfuse.store.folder import RunFolder

NAME = "somebody/scenes"


@pytest.fixture
def run(finished_run: RunFolder) -> RunFolder:
    """No test may change it."""
    return finished_run


@pytest.fixture
def folder(run: RunFolder, tmp_path: Path) -> Path:
    return export(str(run.path), "onnx", None, str(tmp_path / "hub"), hub=NAME, licence="cc-by-4.0")


def test_what_is_read_back_says_what_the_run_says(run: RunFolder, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (75, 103, 3), np.uint8)
    expected = exfuse.load(run.path).scores(image)
    assert np.array_equal(exfuse.load(folder).scores(image), expected)
    asked = []

    def download(name: str, **options: object) -> str:
        asked.append((name, options["revision"]))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = exfuse.load(f"hf-hub:{NAME}@v1")
    assert np.array_equal(found.scores(image), expected)
    assert asked == [(NAME, "v1")]
    ours, theirs = load_checkpoint(run.path)[0], found.model
    assert [value.stride() for value in ours.parameters()] == [value.stride() for value in theirs.parameters()]


def test_code_beside_this_package_travels_along(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run.record()
    assert record is not None
    code = dict.fromkeys(("json", "not_here", "data=not_here"), "0" * 64)  # what is not here was not needed
    of_own = replace(record, environment=replace(record.environment, code=code))
    monkeypatch.setattr(hub, "finished", lambda _: of_own)
    folder = export(str(run.path), "onnx", None, str(tmp_path / "hub"), hub=NAME, licence="cc-by-4.0")
    assert "Code beside it: `json`, `not_here`" in (folder / "README.md").read_text()
    assert not capsys.readouterr().err
    exfuse.load(folder)
    assert "json has changed since" in capsys.readouterr().err


def test_the_card_names_scores_licence_data_and_commit_and_the_hub_reads_its_header(run: RunFolder, folder: Path) -> None:
    found, record = ModelCard.load(folder / "README.md"), run.record()
    assert record is not None
    assert found.data.license == "cc-by-4.0"
    assert found.data.library_name == "exfuse"
    (result,) = found.data.eval_results
    assert (result.metric_name, result.metric_value) == ("mIoU", round(record.scores.miou, 4))
    assert f"mIoU {100 * record.scores.miou:.1f} %" in found.text
    assert f"commit {record.environment.commit or 'unknown'}" in found.text
    assert record.data in found.text
    assert f'exfuse.load("hf-hub:{NAME}")' in found.text


def test_nothing_of_the_machine_is_told(run: RunFolder, folder: Path) -> None:
    written = (folder / "config.json").read_text()
    assert str(run.path.parent.parent) not in written
    assert str(Path.home()) not in written


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_flipped_bit_is_noticed(folder: Path, file: str) -> None:
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors is not the file|config\.json is not the description"):
        exfuse.load(folder)


def test_weights_of_another_model_and_code_in_a_description_are_refused(folder: Path, tmp_path: Path) -> None:
    before = load_file(folder / "model.safetensors")
    about = json.loads((folder / "config.json").read_text())

    def publish(state: dict[str, Tensor]) -> None:
        save_file(state, folder / "model.safetensors")
        about["files"] = {"model.safetensors": sha256(folder / "model.safetensors")}
        (folder / "config.json").write_text(json.dumps(sealed(about)))

    publish(dict([*before.items()][:-1]))
    with pytest.raises(UserError, match="holds weights of another architecture"):
        exfuse.load(folder)
    name, value = next((name, value) for name, value in before.items() if value.is_floating_point())
    value.view(-1)[0] = float("nan")
    publish(before)
    with pytest.raises(UserError, match=rf"{name} holds numbers that are not finite"):
        exfuse.load(folder)
    about["config"]["decoder"]["_target_"] = "pathlib.Path.touch"
    about["config"]["decoder"]["self"] = str(tmp_path / "trace")
    (folder / "config.json").write_text(json.dumps(sealed(about)))
    with pytest.raises(UserError):
        exfuse.load(folder)
    assert not (tmp_path / "trace").exists()


def test_it_is_pushed_on_the_users_word_alone(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    class Api:
        def create_repo(self, name: str, **_: object) -> None:
            done.append(("create", name))

        def upload_folder(self, repo_id: str, folder_path: Path, **_: object) -> None:
            done.append(("upload", repo_id, sorted(path.name for path in folder_path.iterdir() if path.name[0] != ".")))

    monkeypatch.setattr(hub, "HfApi", Api)
    hub.publish(str(run.path), NAME, "unknown", push=False, output=str(tmp_path / "hub"))
    assert not done
    hub.publish(str(run.path), NAME, "unknown", push=True, output=str(tmp_path / "hub"))
    assert done == [("create", NAME), ("upload", NAME, ["README.md", "config.json", "model.safetensors"])]

    def refused(*_: object, **__: object) -> None:
        raise OSError("401 Unauthorized\nmore")

    monkeypatch.setattr(Api, "create_repo", refused)
    with pytest.raises(UserError, match=r"could not be pushed \(OSError: 401 Unauthorized\).*hf auth login"):
        hub.publish(str(run.path), NAME, "unknown", push=True, output=str(tmp_path / "hub"))


@pytest.mark.parametrize("name", ["a b", "x/y/z", "../up", "", "nobody"])
def test_names_that_the_hub_does_not_take_are_refused(run: RunFolder, name: str) -> None:
    with pytest.raises(UserError, match=r"expected OWNER/NAME"):
        export(str(run.path), "onnx", None, None, hub=name)


def test_what_is_absent_or_not_named_is_said(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", absent)
    with pytest.raises(UserError, match=r"hf-hub:nobody/nothing could not be fetched \(OSError\)"):
        exfuse.load("hf-hub:nobody/nothing")
    with pytest.raises(UserError, match="hub=OWNER/NAME"):
        export(str(run.path), "onnx", None, None, push=True)
    assert torch.is_tensor(next(load_checkpoint(run.path)[0].parameters()))
