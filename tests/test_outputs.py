"""Every verb that writes where it is told to: what lies there and is not its own stays, and it says so before its work."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from exfuse.exporting import command as exporting
from exfuse.exporting.formats import FORMATS
from exfuse.store.folder import RunFolder
from tests.analysis.synthetic import StudyBuilder
from tests.command import Command

MINE = "years of work"
WRITERS = {  # what is typed, FOLDER and RUN and STUDY replaced, and what of somebody else's lies there
    "predict": ("predict RUN FOLDER/a.jpg output=FOLDER", "a.png"),
    "predict, overlay": ("predict RUN FOLDER/a.jpg output=FOLDER", "a_overlay.png"),
    "predict, input": ("predict RUN FOLDER/own/a.png output=FOLDER/own", None),
    "evaluate": ("evaluate RUN output=FOLDER workers=0", "scores.json"),
    "evaluate, picture": ("evaluate RUN output=FOLDER workers=0", "predictions.png"),
    "evaluate, run": ("evaluate RUN output=RUN workers=0", None),
    "export": ("export RUN format=torch output=FOLDER/model.pt2", "model.pt2"),
    "compare": ("compare RUN picture=FOLDER/a.png images=1", "a.png"),
    "compare, input": ("compare RUN picture=RUN/predictions.png images=1", None),
    "summarise": ("runs summarise RUN csv=FOLDER/values.csv", "values.csv"),
    "page": ("report page STUDY examples=none output=FOLDER/thesis.html", "thesis.html"),
    "page, folder": ("report page STUDY examples=none output=FOLDER", "study.html"),
    "features": ("report features RUN output=FOLDER image=0", "features.json"),
    "features, more": ("report features RUN output=FOLDER image=0", "photo.jpg"),
    "probe": ("report probe RUN output=FOLDER", "probe.json"),
    "probe, file": ("report probe RUN output=FOLDER/file", "file"),
    "wandb": ("report wandb STUDY output=FOLDER", "report.json"),
    "budget": ("budget +ablation=baseline output=FOLDER backbone=resnet_tiny", "budget.csv"),
    "bench": ("bench output=FOLDER only=[memory]", "benchmarks.md"),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", WRITERS)
def test_no_verb_writes_over_what_it_did_not_write(
    case: str, finished_run: RunFolder, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, file = WRITERS[case]
    run, folder, study = tmp_path / "runs" / finished_run.key, tmp_path / "there", tmp_path / "study"
    shutil.copytree(finished_run.path, run)
    (folder / "own").mkdir(parents=True)
    for path in (folder / "a.jpg", folder / "own" / "a.png"):
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(path)
    if file:
        (folder / file).write_text(MINE)
    if "STUDY" in words:
        builder = StudyBuilder(study)
        builder.row("baseline", 0.6, (0,))
        builder.finish()
    before = contents(folder), contents(run)
    typed = words.replace("RUN", str(run)).replace("FOLDER", str(folder)).replace("STUDY", str(study))
    status, said, told = command(*typed.split())
    assert status == 1, said + told
    assert "Traceback" not in told
    assert "is there, not written by exfuse or changed since" in told or "is an input and would be overwritten" in told
    assert (contents(folder), contents(run)) == before


ANOTHERS = {  # what is typed twice, of another run, image, protocol or study at the second time
    "predict": "predict RUN FOLDER/a.jpg output=FOLDER/masks",
    "predict, image": "predict RUN FOLDER/OTHER/a.jpg output=FOLDER/masks",
    "evaluate": "evaluate RUN output=FOLDER/scores workers=0",
    "evaluate, protocol": "evaluate RUN output=FOLDER/scores workers=0 protocol=PROTOCOL",
    "evaluate, split": "evaluate RUN output=FOLDER/scores workers=0 split=SPLIT",
    "export": "export RUN format=torch output=FOLDER/model.pt2",
    "export, size": "export RUN format=torch output=FOLDER/model.pt2 size=SIZE",
    "export, hub": "export RUN hub=me/model output=FOLDER/model",
    "compare": "compare RUN picture=FOLDER/a.png images=1",
    "summarise": "runs summarise RUN/.. csv=FOLDER/values.csv",
    "page": "report page STUDY examples=none output=FOLDER/study.html",
    "wandb": "report wandb STUDY output=FOLDER/report",
    "tensorboard": "report tensorboard STUDY output=FOLDER/report",
    "features": "report features RUN output=FOLDER/maps image=FOLDER/a.jpg statistics.images=0",
    "probe": "report probe RUN output=FOLDER/probe train_images=4 test_images=2",
}


@pytest.mark.parametrize("case", ANOTHERS)
def test_what_was_written_of_something_else_stays(
    case: str, finished_run: RunFolder, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results of two runs have the same names: the second may not take the place of the first in silence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exporting, "trace", lambda *_: None)  # which takes seconds
    monkeypatch.setattr(exporting, "agreement", lambda *_: (0.0, 1.0))
    for name in ("draw_overview", "draw_level"):
        monkeypatch.setattr(f"exfuse.reports.features.command.{name}", lambda *_, **__: Figure(figsize=(0.2, 0.2)))
    small = FORMATS["torch"]._replace(write=lambda path, *_: path.write_text("a model"), load=lambda _: lambda image: image)
    monkeypatch.setitem(FORMATS, "torch", small)
    folder, words = tmp_path / "there", ANOTHERS[case]
    for name in ("", "one", "other"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(folder / name / "a.jpg")
    first, second = tmp_path / "runs" / finished_run.key, tmp_path / "others" / ("0" * 16)
    for run in (first, second):
        shutil.copytree(finished_run.path, run)
    record = finished_run.record()
    assert record is not None
    RunFolder.of(second).write(msgspec.structs.replace(record, key=second.name))
    same = first if "," in case and case != "export, hub" else second

    for place in ("one", "other"):
        builder = StudyBuilder(tmp_path / place / "study")
        builder.row("baseline", 0.6, (0,))
        builder.finish()

    def typed(run: Path, image: str, protocol: str) -> tuple[int, str, str]:
        changed = words.replace("OTHER", image).replace("PROTOCOL", protocol).replace("STUDY", str(tmp_path / image / "study"))
        changed = changed.replace("SPLIT", "val" if image == "one" else "train")
        changed = changed.replace("SIZE", "[64,64]" if image == "one" else "[64,96]")
        return command(*changed.replace("RUN", str(run)).replace("FOLDER", str(folder)).split())

    status, said, told = typed(first, "one", "single_scale")
    assert status == 0, said + told
    before = contents(folder)
    status, said, told = typed(same, "other", "multi_scale")
    assert status == 1, said + told
    assert " is of " in told
    assert "Choose another place, or remove it." in told
    assert contents(folder) == before
    status, said, told = typed(first, "one", "single_scale")  # its own are written again
    assert status == 0, said + told
    if case == "features":  # nor that of another command
        words = ANOTHERS["probe"].replace("FOLDER/probe", "FOLDER/maps")
        status, said, told = typed(first, "one", "single_scale")
        assert (status, "maps is of features of run" in told) == (1, True), said + told
