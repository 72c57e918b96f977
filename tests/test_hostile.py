"""A run folder from elsewhere, sealed as it should be, runs nothing: whatever its config and its checkpoint ask for."""

import copy
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from exfuse.composition.reading import read_split
from exfuse.composition.segmentation import build_model
from exfuse.config.options import build
from exfuse.errors import UserError
from exfuse.exporting.formats import FORMATS
from exfuse.files import sha256
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.runs.loading import load
from exfuse.store.description import RunDescription, from_plain
from exfuse.store.folder import RunFolder
from exfuse.store.seal import write_sealed
from tests.command import Command
from tests.sharing import amount

PLACES = (
    *("technique.seb", "technique.brand_new", "decoder", "decoder.levels", "data", "data.val", "data.classes", "data.root"),
    *("recipe.optimizer", "recipe.schedule", "logger", "pretraining.data", "backbone.arguments", "backbone.name"),
    *("trainer.more", "paths", "debug"),
)


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def payloads(folder: Path, mark: Path) -> dict[str, Any]:
    """What has been tried, and what else could be: each leaves a mark if it runs."""
    bomb, outside = folder / "bomb.pt", folder / "outside.yaml"
    torch.save(Bomb(mark), bomb)
    outside.write_text(f"_target_: pathlib.Path.touch\nself: {mark}\n")
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    targets: dict[str, dict[str, Any]] = {
        "sympify": {"_target_": "sympy.sympify", "a": code},
        "eval": {"_target_": "builtins.eval", "source": code},
        "system": {"_target_": "os.system", "command": f"touch {mark}"},
        "torch.load": {"_target_": "torch.load", "f": str(bomb), "weights_only": False},
        "write_text": {"_target_": "pathlib.Path.write_text", "self": {"_target_": "pathlib.Path", "_args_": [str(mark)]}},
        "run_child": {"_target_": "exfuse.runs.child.run_child", "verb": "train", "overrides": [], "log": str(mark)},
        "partial": {"_target_": "pathlib.Path.touch", "_partial_": True, "self": str(mark)},
        "call": {"_call_": code, "_convert_": "all"},
    }
    found: dict[str, Any] = {name: {"option": "levels_2345", **target} for name, target in targets.items()}
    found |= {f"{name}, nested": {"option": "levels_2345", "kernel": [target]} for name, target in targets.items()}
    found |= {f"{name}, bare": target for name, target in targets.items()}
    plain = str(outside.with_suffix(""))
    for name in (f"../../..{plain}", plain, "../" * 12 + plain[1:]):
        found[f"option {name[:8]}"] = {"option": name}
    found["reference to itself"] = "${data.val}"
    found["interpolation"] = "${oc.env:HOME}"
    found["resolver"] = f"${{eval:{code}}}"
    found["weights of timm's"] = {"option": "levels_2345", "checkpoint_path": str(bomb), "pretrained": True}
    found["hub"] = "hf-hub:somebody/something"
    found["folder as model"] = f"local-dir:{folder}"
    found |= {"number": 5, "text": "[/bold]", "list": [[[]]], "none": None, "empty": {}}
    return found


def set_at(config: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    *way, leaf = place.split(".")
    node = changed
    for name in way:
        node = node[name]
    node[leaf] = value
    return changed


@pytest.fixture
def hostile(finished_run: RunFolder, tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs", finished_run.key)
    shutil.copytree(finished_run.path, folder.path)
    return folder


def reseal(folder: RunFolder, config: dict[str, Any]) -> None:
    """Write a config into the checkpoint and the record, with seals that fit."""
    content = torch.load(folder.last, weights_only=True)
    content["description"]["config"] = config
    write_sealed(folder.last, lambda file: torch.save(content, file))
    record = folder.record()
    assert record is not None
    folder.write(replace(record, config=config, checkpoint_sha256=sha256(folder.last)))


def attempts(folder: Path, mark: Path, config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every payload at every place; in make test each at every fifth, so that every place gets every kind."""
    tried = itertools.product(payloads(folder, mark).items(), PLACES)
    for (name, payload), place in itertools.islice(tried, 0, None, amount(5, 1)):
        yield f"{name} at {place}", set_at(config, place, payload)


def test_no_config_from_a_file_runs_anything(hostile: RunFolder, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    usual = hostile.record().config  # type: ignore[union-attr]
    refused = []
    for what, config in attempts(tmp_path, mark, dict(usual)):
        try:
            run = from_plain(config, RunDescription)
            build_model(run, 5)
            for split in ("train", "val"):
                read_split(run.data, split)
            build("optimizer", run.recipe.optimizer)
            build("logger", run.logger)
        except UserError as error:
            refused.append(str(error))
        assert not mark.exists(), what
    assert len(refused) > amount(50, 100)
    assert not [said for said in refused if "Traceback" in said or len(said.splitlines()) > 3]


@pytest.mark.parametrize(
    "words",
    [
        *(
            "evaluate {run} device=cpu workers=0",
            "predict {run} {image} device=cpu output={out}/masks",
            "compare {run} images=1",
        ),
        *("export {run} format=torch output={out}/model.pt2", "runs rescore {run} device=cpu workers=0", "runs show {run}"),
        *("report features {run} image=0 device=cpu output={out}/f", "report probe {run} device=cpu output={out}/p"),
        *("runs list paths.runs={runs}", "runs summarise {runs}", "evaluate {run}/checkpoints/best.ckpt device=cpu workers=0"),
    ],
)
@pytest.mark.parametrize(
    ("place", "payload"), [("decoder", "write_text"), ("data.val", "sympify"), ("data", "torch.load, bare")]
)
def test_no_verb_runs_what_a_folder_asks_for(
    command: Command, hostile: RunFolder, finished_run: RunFolder, tmp_path: Path, words: str, place: str, payload: str
) -> None:
    mark, out = tmp_path / "mark", tmp_path / "out"
    out.mkdir()
    record = finished_run.record()
    assert record is not None
    reseal(hostile, set_at(dict(record.config), place, payloads(out, mark)[payload]))
    shutil.copy(hostile.last, hostile.checkpoints / "best.ckpt")
    image = next(Path(record.config["data"]["root"]).rglob("*.jpg"))
    status, output, errors = command(*words.format(run=hostile.path, runs=hostile.root, out=out, image=image).split())
    assert not mark.exists()
    assert "Traceback" not in output + errors
    assert status in (0, 1)
    if status:
        assert errors.count("Error: ") == 1
    if words.startswith(("evaluate", "predict", "compare", "export", "report")) and place != "data":
        assert status == 1 or place == "data.val"  # predict reads no data


def test_a_checkpoint_that_is_pickled_code_runs_nothing(hostile: RunFolder, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for content in ({"state_dict": {}, "description": Bomb(mark)}, Bomb(mark), [Bomb(mark)]):
        write_sealed(hostile.last, lambda file, content=content: torch.save(content, file))  # type: ignore[misc]
        record = hostile.record()
        assert record is not None
        hostile.write(replace(record, checkpoint_sha256=sha256(hostile.last)))
        for use in (load_checkpoint, load):
            with pytest.raises(UserError, match=r"last\.ckpt"):
                use(hostile.path)
        assert not mark.exists()


@pytest.mark.parametrize("gone", ["backbone", "recipe", "data", "technique", "trainer"])
def test_a_record_that_says_too_little_is_a_mistake_of_the_users(
    command: Command, hostile: RunFolder, gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = hostile.record()
    assert record is not None
    hostile.write(replace(record, config={name: part for name, part in record.config.items() if name != gone}))
    # the file itself, which takes the time, is made of the model alone
    monkeypatch.setattr("exfuse.exporting.command.trace", lambda *_: None)
    monkeypatch.setattr("exfuse.exporting.command.agreement", lambda *_: (0.0, 1.0))
    empty = FORMATS["torch"]._replace(write=lambda path, *_: path.touch(), load=lambda _: lambda image: image)
    monkeypatch.setitem(FORMATS, "torch", empty)
    for words in ("runs show RUN", "export RUN format=torch", "compare RUN images=1", f"runs list paths.runs={hostile.root}"):
        status, output, errors = command(*words.replace("RUN", str(hostile.path)).split())
        assert status in (0, 1)
        assert "Traceback" not in output + errors
