import json
import os
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exfuse.errors import UserError
from exfuse.files import write_json
from exfuse.importing import arrays as counts, tables
from exfuse.store.checked import sealed
from tests.importing.writing import (
    CLASSES,
    DICE,
    IMAGES,
    import_folder,
    scores,
    table_lines,
    write_counts,
    write_run,
    write_scores,
    write_study_file,
)

Spoil = Callable[[Path], object]
TITLES = ("row", "seed", "image", "score")


def counted(folder: Path) -> None:
    """Two rows of two seeds with counts."""
    write_study_file(folder, classes=CLASSES, data="harbour")
    for row, quality in (("plain", 0.6), ("wide", 0.7)):
        for seed in (0, 1):
            write_counts(folder, row, seed, quality, {"width": 1 if row == "plain" else 2})


def scored(folder: Path) -> None:
    """The same with a table of scores for each run."""
    write_study_file(folder, metric=DICE)
    for place, row in enumerate(("plain", "wide")):
        for seed in (0, 1):
            path = write_run(folder, row, seed)
            write_scores(path.with_suffix(".csv"), list(zip(IMAGES, scores(place, seed), strict=True)))


def tabled(folder: Path) -> None:
    """The same in one table."""
    write_study_file(folder, metric=DICE)
    write_scores(folder / "all.csv", table_lines(seeds=(0, 1)), TITLES)


def arrays(**changed: object) -> Spoil:
    """wide_1.npz with other arrays; None leaves one out, a function changes it."""

    def spoil(folder: Path) -> None:
        with np.load(folder / "wide_1.npz") as found:
            held = {name: found[name] for name in found.files}
        for name, value in changed.items():
            held[name] = value(held[name].copy()) if callable(value) else value
        np.savez(folder / "wide_1.npz", **{name: value for name, value in held.items() if value is not None})  # type: ignore[arg-type]

    return spoil


def said(file: str = "wide_1.json", /, **changed: object) -> Spoil:
    """A JSON with other fields; None leaves one out."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / file).read_text()) | changed
        (folder / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return spoil


def written(name: str, content: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content)


def replaced(name: str, old: str, new: str) -> Spoil:
    def spoil(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return spoil


def linked(folder: Path) -> None:
    (folder / "wide_1.json").rename(folder.parent / "elsewhere.json")
    (folder / "wide_1.json").symlink_to(folder.parent / "elsewhere.json")


def mixed(folder: Path) -> None:
    (folder / "wide_1.csv").unlink()
    write_counts(folder, "wide", 1, 0.6)


def at(place: tuple[int, ...], value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.result_type(values, np.min_scalar_type(value)))
        values[place] = value
        return values

    return change


def more_than_there_is(values: np.ndarray) -> np.ndarray:
    values[0, 0] = values[0, 0][[1, 0, 2, 3]] + [0, 7, 0, 0]
    return values


def header(shape: str) -> Spoil:
    """wide_1.npz with an array whose header numpy would not write."""

    def spoil(folder: Path) -> None:
        text = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".encode()
        with zipfile.ZipFile(folder / "wide_1.npz", "w") as archive:
            archive.writestr("counts.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(128))

    return spoil


def damaged(folder: Path) -> None:
    """wide_1.npz compressed in the one way that has an exception of its own, and spoilt."""
    with zipfile.ZipFile(folder / "wide_1.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("counts.npy", bytes(range(256)))
    content = bytearray((folder / "wide_1.npz").read_bytes())
    content[50:90] = b"\xff" * 40
    (folder / "wide_1.npz").write_bytes(content)


class Runs:
    """What would be executed if it were unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


def pickled(folder: Path) -> None:
    arrays(ids=np.array([Runs(), *IMAGES[1:]], object))(folder)


BAD: list[tuple[Callable[[Path], None], Spoil, str, str]] = [
    (counted, said(seed=None), "wide_1.json", "required field seed"),
    (counted, said(seed=-1), "wide_1.json", "seed"),
    (counted, said(seed=1.5), "wide_1.json", "seed"),
    (counted, said(sead=1), "wide_1.json", "unknown field sead"),
    (counted, said(row=""), "wide_1.json", "row"),
    (counted, said(row="a\x1b[31m"), "wide_1.json", "text that can be shown"),
    (counted, said(row="plain", settings={"width": 1}), "wide_1.json", "two runs of one cell"),
    (counted, said(seed=5), "plain_0.json", "has no run of seed 5"),
    (counted, said(settings={"width": 3}), "wide_1.json", "setting width is 3, but 2"),
    (counted, said(settings={"a": 1, "a.b": 2}), "wide_1.json", "setting a.b stands below a"),
    (counted, said(classes=[*CLASSES[:3], "gull"]), "wide_1.json", "other classes"),
    (counted, said(data="lake"), "wide_1.json", "other data"),
    (counted, said("study.json", classes=CLASSES[:3]), "plain_0.json", "counts 4 classes, but 3 are named"),
    (counted, said("study.json", classes=[*CLASSES[:3], "sky"]), "plain_0.json", "two classes have one name"),
    (counted, said("study.json", metric=DICE), "plain_0.json", "leave out metric"),
    (counted, said("study.json", rows=["plain", "deep"]), "files", "row deep has no run"),
    (counted, said("study.json", baseline="deep"), "files", "baseline deep is no row"),
    (counted, said("study.json", rows={"plain": "wide", "wide": "deep"}), "files", "builds on 'deep'"),
    (counted, said("study.json", factors=["depth"]), "files", "factor 'depth'"),
    (counted, said("study.json", groups={"by": "column"}), "plain_0.json", "none do"),
    (counted, said("study.json", groups={"by": "(x"}), "groups.by='(x'", "cannot be used"),
    (counted, said("study.json", name="../up"), "files", "a name that any file system takes"),
    (counted, written("wide_1.json", b"{"), "wide_1.json", "is no JSON"),
    (counted, written("wide_1.json", b""), "wide_1.json", "is empty"),
    (counted, written("wide_1.json", b'{"row": "\xff", "seed": 1}'), "wide_1.json", "is no JSON in UTF-8"),
    (counted, written("wide_1.json", b'{"row": "wide", "seed": 1, "gigamacs": NaN}'), "wide_1.json", "is no JSON"),
    (counted, written("study.yaml", b"title: [\n"), "study.yaml", "both say"),
    (counted, written("other.npz", b"x"), "other.npz", "has no other.json"),
    (counted, written("wide_1.csv", b"image,score\n"), "wide_1.csv", "lie side by side"),
    (counted, written("wide_1.npz", b"no zip"), "wide_1.npz", "is no whole .npz file"),
    (counted, written("wide_1.npz", b""), "wide_1.npz", "is empty"),
    (counted, lambda folder: os.truncate(folder / "wide_1.npz", 900), "wide_1.npz", "is no whole .npz file"),
    (counted, lambda folder: (folder / "wide_1.npz").unlink(), "wide_1.json", "has no wide_1.npz or wide_1.csv"),
    (counted, linked, "wide_1.json", "is a link"),
    (counted, pickled, "wide_1.npz", "pickled objects"),
    (counted, arrays(ids=None), "wide_1.npz", "expected ids and counts"),
    (counted, arrays(counts=None), "wide_1.npz", "expected ids and counts"),
    (counted, arrays(counts=lambda counts: counts[:, :3]), "wide_1.npz", "has shape"),
    (counted, arrays(counts=lambda counts: counts[:, 0]), "wide_1.npz", "has shape"),
    (counted, arrays(counts=lambda counts: counts[:-1]), "wide_1.npz", "has shape"),
    (counted, arrays(counts=lambda counts: counts[:, :3, :3]), "wide_1.json", "counts 3 classes"),
    (counted, arrays(counts=lambda counts: counts.astype("U9")), "wide_1.npz", "holds text"),
    (counted, arrays(counts=lambda counts: counts.astype(complex)), "wide_1.npz", "expected numbers"),
    (counted, arrays(counts=at((0, 0, 0), -1.0)), "wide_1.npz", "holds -1"),
    (counted, arrays(counts=at((0, 0, 0), 0.5)), "wide_1.npz", "holds 0.5: counts are whole"),
    (counted, arrays(counts=at((0, 0, 0), float("nan"))), "wide_1.npz", "not a number"),
    (counted, arrays(counts=at((0, 0, 0), float("inf"))), "wide_1.npz", "not a number"),
    (counted, arrays(counts=at((0, 0, 0), 1e300)), "wide_1.npz", "more than any data set"),
    (counted, arrays(counts=lambda counts: 0 * counts), "wide_1.npz", "no true pixel"),
    (counted, arrays(counts=more_than_there_is), "wide_1.json", "does not add up with"),
    (counted, arrays(ids=lambda ids: np.array([*ids[:-1], "other"])), "wide_1.json", "an image other that"),
    (counted, arrays(ids=lambda ids: np.array([*ids[:-1], ids[0]])), "wide_1.npz", "stands there twice"),
    (counted, arrays(ids=lambda ids: np.array([*ids[:-1], "a\nb"])), "wide_1.npz", "no image's name"),
    (counted, arrays(ids=np.array([*IMAGES[:-1], b"\xff"], "S9")), "wide_1.npz", "not in UTF-8"),
    (counted, arrays(ids=np.arange(12.0)), "wide_1.npz", "expected a list of names"),
    (counted, arrays(groups=np.array(IMAGES[:5])), "wide_1.npz", "names 5 groups of 12"),
    (counted, arrays(groups=np.array(IMAGES)), "wide_1.json", "other groups"),
    (
        counted,
        arrays(counts=None, tp=np.full((12, 4), 5), fp=np.ones((12, 4)), fn=np.ones((12, 3))),
        "wide_1.npz",
        "tp, fp, fn have shapes",
    ),
    (
        counted,
        arrays(tp=np.full((12, 4), 5), fp=np.ones((12, 4)), fn=np.ones((12, 4))),
        "wide_1.npz",
        "counts twice, by counts and by tp, fp, fn: keep one",
    ),
    (
        counted,
        arrays(counts=None, hit=np.full((12, 4), 5), true=np.full((12, 4), 4), predicted=np.full((12, 4), 9)),
        "wide_1.npz",
        "does not add up: image image00, class 0, has 5 pixels hit of 4 true",
    ),
    (scored, said("study.json", metric=None), "plain_0.json", "nothing says of what"),
    (scored, said("study.json", metric={"name": "Dice", "unit": "fraction"}), "study.json", "required field better"),
    (scored, said("study.json", metric={**DICE, "better": "up"}), "study.json", "better"),
    (scored, said("wide_1.json", metric={**DICE, "unit": "percent"}), "wide_1.json", "other metric"),
    (scored, replaced("wide_1.csv", "image,score", "image,dice"), "wide_1.csv", "no column 'score'"),
    (scored, replaced("wide_1.csv", "image,score", "image,image"), "wide_1.csv", "two columns 'image'"),
    (scored, replaced("wide_1.csv", "image03,0.", "image03,nan0."), "wide_1.csv", "line 5: score"),
    (scored, replaced("wide_1.csv", "image03,0.", "image03,"), "wide_1.json", "which is no fraction"),
    (scored, replaced("wide_1.csv", "image03,0.", "image03,-0."), "wide_1.json", "which is no fraction"),
    (scored, replaced("wide_1.csv", "image03,", "image03"), "wide_1.csv", "line 5: 1 cell under 2 titles"),
    (scored, replaced("wide_1.csv", "image03,0.", "image03,,0."), "wide_1.csv", "3 cells under 2 titles"),
    (scored, replaced("wide_1.csv", "image03", "image02"), "wide_1.csv", "image02 stands there twice"),
    (scored, replaced("wide_1.csv", "image03", "MEAN"), "wide_1.csv", "looks like a summary"),
    (scored, replaced("wide_1.csv", "image03", ""), "wide_1.csv", "nothing in column image"),
    (scored, replaced("wide_1.csv", "image03", "imag\u00e9"), "wide_1.json", "imag\u00e9 that"),
    (scored, written("wide_1.csv", b"image,score\n"), "wide_1.csv", "no line below its titles"),
    (scored, written("wide_1.csv", b""), "wide_1.csv", "is empty"),
    (scored, written("wide_1.csv", b"image,score\n\xff\xe9,1\n"), "wide_1.csv", "no text in UTF-8"),
    (scored, written("wide_1.csv", b"image,score\na\0b,1\n"), "wide_1.csv", ""),
    (scored, written("wide_1.csv", b'image,score\n"a,1\n'), "wide_1.csv", "is no table"),
    (
        scored,
        lambda folder: write_counts(folder, "wide", 1, 0.6) and (folder / "wide_1.csv").unlink(),
        "wide_1.json",
        "has counts",
    ),
    (tabled, replaced("all.csv", "seed", "sede"), "all.csv", "no column 'seed'"),
    (tabled, replaced("all.csv", "plain,0,", "plain,zero,"), "all.csv", "seed 'zero' is no whole number"),
    (tabled, replaced("all.csv", "plain,0,", "plain,-1,"), "all.csv", "seed '-1' is no whole number"),
    (tabled, replaced("all.csv", "plain,0,image03", "plain,0,image02"), "all.csv", "image02 stands there twice"),
    (tabled, replaced("all.csv", "plain,0,image03", "plain,0,image99"), "all.csv", "image03"),
    (tabled, replaced("all.csv", "plain,0,image03", "plain,2,image03"), "all.csv", ""),
    (tabled, lambda folder: (folder / "all.csv").unlink(), "files", "holds no result file"),
    (tabled, replaced("all.csv", "wide,1,image03", "wide,1,image99"), "all.csv (row wide, seed 1)", "image99 that"),
    (tabled, replaced("all.csv", "image03,0.", "image03,1_0."), "all.csv", "is not a number"),
    (scored, replaced("wide_1.csv", "image03,0.", "image03,1e307"), "wide_1.csv", "is not a number up to 1e+75"),
    (counted, written("wide_1.json", b'{"row": "wide", "seed": 1, "seed": 2}'), "wide_1.json", "seed stands there twice"),
    (counted, header("(8, "), "wide_1.npz", "is no whole .npz file"),
    (counted, header("(True, 4, 4)"), "wide_1.npz", "is no whole .npz file"),
    (counted, damaged, "wide_1.npz", "is no whole .npz file"),
    (counted, said("study.json", groups={"by": "(x)?image"}), "image00", "parenthesis one character or more"),
]


@pytest.mark.parametrize(("good", "spoil", "named", "problem"), BAD, ids=[f"{named} {problem}" for _, _, named, problem in BAD])
def test_what_cannot_be_used_is_one_line_that_names_the_file_before_anything_is_written(
    tmp_path, monkeypatch, good, spoil, named, problem
):
    monkeypatch.chdir(tmp_path)
    folder, output = tmp_path / "files", tmp_path / "study"
    good(folder)
    spoil(folder)
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(UserError) as found:
        import_folder(folder, output)
    message = str(found.value)
    assert named in message
    assert re.search(re.escape(problem), message)
    assert "\n" not in message
    assert len(message) < 500
    assert before == {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}


@pytest.mark.parametrize("good", [counted, scored, tabled])
def test_the_same_folders_unspoilt_are_taken(tmp_path, good):
    good(tmp_path / "files")
    assert len(import_folder(tmp_path / "files", tmp_path / "study").done()) == 4


def test_a_row_may_lack_a_seed_if_that_is_said(tmp_path):
    counted(tmp_path / "files")
    for name in ("wide_1.json", "wide_1.npz"):
        (tmp_path / "files" / name).unlink()
    study = import_folder(tmp_path / "files", tmp_path / "study", missing="skip")
    assert {seed: run.status for seed, run in study.row("wide").runs.items()} == {0: "done", 1: "missing"}


def test_a_yaml_in_which_a_row_stands_twice_is_refused(tmp_path):
    counted(tmp_path / "files")
    (tmp_path / "files" / "study.json").unlink()
    (tmp_path / "files" / "study.yaml").write_text("rows: {plain: null, wide: plain, wide: null}\n")
    with pytest.raises(UserError, match=r"study\.yaml is no YAML in UTF-8 \(wide stands there twice"):
        import_folder(tmp_path / "files", tmp_path / "study")


def test_factors_stand_in_any_order_and_once(tmp_path):
    for row, (ema, mixup) in {"none": (0, 0), "ema": (1, 0), "mixup": (0, 1), "both": (1, 1)}.items():
        write_counts(tmp_path / "files", row, 0, 0.6, {"ema": ema, "mixup": mixup})
    for order in (["ema", "mixup"], ["mixup", "ema"]):
        write_study_file(tmp_path / "files", factors=order)
        assert import_folder(tmp_path / "files", tmp_path / "study").factors == order
    write_study_file(tmp_path / "files", factors=["ema", "ema"])
    with pytest.raises(UserError, match="factor 'ema' is listed twice"):
        import_folder(tmp_path / "files", tmp_path / "study")


def test_what_is_too_large_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_TABLE_BYTES", 100)
    monkeypatch.setattr(counts, "_MOST_NUMBERS", 100)
    tabled(tmp_path / "table")
    with pytest.raises(UserError, match=r"all\.csv has 0 MB, expected 0 at most"):
        import_folder(tmp_path / "table", tmp_path / "study")
    counted(tmp_path / "files")
    with pytest.raises(UserError, match=r"plain_0\.npz, counts would have 192 numbers, expected 100 at most"):
        import_folder(tmp_path / "files", tmp_path / "study")


def test_no_study_of_somebody_elses_and_no_folder_that_is_read_is_written_over(tmp_path):
    counted(tmp_path / "files")
    scored(tmp_path / "more")
    counted(tmp_path / "other" / "files")
    import_folder(tmp_path / "files", tmp_path / "study")
    study = json.loads((tmp_path / "study" / "study.json").read_text())
    assert str(tmp_path) not in json.dumps(study)
    import_folder(tmp_path / "files", tmp_path / "study")
    before = {key: value for key, value in study.items() if key not in ("source", "checksum")}
    write_json(tmp_path / "study" / "study.json", sealed(before))
    import_folder(tmp_path / "files", tmp_path / "study")  # of before the place was noted
    for source, output, problem in (
        ("more", "study", "holds another study"),
        ("other/files", "study", "holds another study"),
        ("files", "files", "would be read as results"),
        ("files", "files/study", "would be read as results"),
    ):
        with pytest.raises(UserError, match=problem):
            import_folder(tmp_path / source, tmp_path / output)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "table.md").write_text("mine")
    with pytest.raises(UserError, match=r"holds table\.md and no study\.json"):
        import_folder(tmp_path / "files", tmp_path / "theirs")


def test_what_is_said_twice_has_to_be_said_alike(tmp_path):
    scored(tmp_path / "files")
    write_study_file(tmp_path / "files", metric=DICE, rows={"plain": None, "wide": "plain"})
    with pytest.raises(UserError, match="baseline wide, but its rows say what each builds on"):
        import_folder(tmp_path / "files", tmp_path / "study", baseline="wide")
    write_run(tmp_path / "files", "plain", 0, data="harbour")
    with pytest.raises(UserError, match=r"plain_0\.json has other data than are said of all runs: harbour and airport"):
        import_folder(tmp_path / "files", tmp_path / "study", dataset="airport")
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(("key", "value", "says"), [
    ("name", "Normalised surface distance at 2 mm tolerance", "40"),
    ("unit", "pixels of the original image", "20"),
    ("name", "Dice ", "no blank at either end"),
])  # fmt: skip
def test_a_metric_that_no_record_can_hold_is_refused_before_anything_is_written(tmp_path, key, value, says):
    scored(tmp_path / "files")
    write_study_file(tmp_path / "files", metric={**DICE, key: value})
    with pytest.raises(UserError, match=says):
        import_folder(tmp_path / "files", tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_copies_and_odd_percentages_are_pointed_out(tmp_path, capsys):
    scored(tmp_path / "files")
    write_study_file(tmp_path / "files", metric={**DICE, "unit": "percent"})
    (tmp_path / "files" / "wide_1.csv").write_bytes((tmp_path / "files" / "wide_0.csv").read_bytes())
    (tmp_path / "files" / "notes.txt").write_text("x")
    import_folder(tmp_path / "files", tmp_path / "study", quiet=False)
    told = capsys.readouterr().err
    assert "left out, being no results" in told
    assert "row wide, seed 1 (wide_1.json) scored just as row wide, seed 0" in told
    assert "all scores are below 1 %" in told


@pytest.mark.parametrize("odd_runs", [["wide_0"], ["wide_0", "wide_1"]])
def test_one_image_in_fractions_among_percentages_is_pointed_out(tmp_path, capsys, odd_runs):
    scored(tmp_path / "files")
    write_study_file(tmp_path / "files", metric={**DICE, "unit": "percent"})
    for name in ("plain_0", "plain_1", "wide_0", "wide_1"):
        path = tmp_path / "files" / f"{name}.csv"
        title, *lines = [line.split(",") for line in path.read_text().split()]
        odd = lines[3][0] if name in odd_runs else None
        write_scores(path, [(image, float(score) * (1 if image == odd else 100)) for image, score in lines], title)
    import_folder(tmp_path / "files", tmp_path / "study", quiet=False)
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(
        r"row wide, seed 0 \(wide_0.json\) scores image \w+ 0\.\d+ %, where .* is it a fraction among percentages", told
    )
    assert told.count("among percentages") == 1


def test_one_run_in_fractions_among_percentages_is_pointed_out(tmp_path, capsys):
    scored(tmp_path / "files")
    write_study_file(tmp_path / "files", metric={**DICE, "unit": "percent"})
    for name in ("plain_0", "plain_1", "wide_0"):
        path = tmp_path / "files" / f"{name}.csv"
        title, *lines = [line.split(",") for line in path.read_text().split()]
        write_scores(path, [(image, 100 * float(score)) for image, score in lines], title)
    import_folder(tmp_path / "files", tmp_path / "study", quiet=False)
    told = capsys.readouterr().err
    assert re.search(r"row wide, seed 1 \(wide_1.json\) is below 1 %, others up to \d\d\.\d %", told)
    for number, name in enumerate(("plain_0", "plain_1", "wide_0", "wide_1")):  # errors of about a per cent are what they are
        path = tmp_path / "files" / f"{name}.csv"
        title, *lines = [line.split(",") for line in path.read_text().split()]
        write_scores(path, [(image, 0.85 + 0.2 * number + 0.01 * place) for place, (image, _) in enumerate(lines)], title)
    import_folder(tmp_path / "files", tmp_path / "study", quiet=False)
    assert "fractions" not in capsys.readouterr().err


def areas(folder: Path, name: str, beyond: int) -> None:
    """Areas that count as many predicted pixels of the first class more than there are true ones."""
    with np.load(folder / f"{name}.npz") as found:
        counts, ids = found["counts"], found["ids"]
    hit, true, predicted = counts.diagonal(axis1=1, axis2=2), counts.sum(2), counts.sum(1)
    predicted[:, 0] += beyond
    np.savez(folder / f"{name}.npz", ids=ids, hit=hit, true=true, predicted=predicted)


def test_predictions_over_void_are_pointed_out_and_runs_that_differ_in_it_refused(tmp_path, capsys):
    counted(tmp_path / "files")
    for name in ("plain_0", "plain_1", "wide_0", "wide_1"):
        areas(tmp_path / "files", name, 0)
    import_folder(tmp_path / "files", tmp_path / "study", quiet=False)
    assert "predicted pixels" not in capsys.readouterr().err
    with np.load(tmp_path / "files" / "wide_1.npz") as found:
        content = dict(found)
    np.savez(tmp_path / "files" / "wide_1.npz", **{**content, "predicted": content["predicted"] + 100})
    with pytest.raises(UserError, match=r"wide_1.json counts more predicted pixels than true ones, .*plain_0.json as"):
        import_folder(tmp_path / "files", tmp_path / "study")
    for name in ("plain_0", "plain_1", "wide_0"):
        with np.load(tmp_path / "files" / f"{name}.npz") as found:
            content = dict(found)
        np.savez(tmp_path / "files" / f"{name}.npz", **{**content, "predicted": content["predicted"] + 100})
    import_folder(tmp_path / "files", tmp_path / "study", quiet=False)
    assert "and 3 more are counted with more predicted pixels than true ones" in capsys.readouterr().err


def test_classes_that_were_left_out_are_no_void(tmp_path, capsys):
    """Of one class alone more pixels may be predicted than are true, in a run without errors just as many."""
    counted(tmp_path / "files")
    for name in ("plain_0", "plain_1", "wide_0", "wide_1"):
        areas(tmp_path / "files", name, 0)
        with np.load(tmp_path / "files" / f"{name}.npz") as found:
            content = dict(found)
        content["hit"] = content["true"]
        content["predicted"] = content["true"] + (100 if name.startswith("wide") else 0)
        np.savez(tmp_path / "files" / f"{name}.npz", **content)
    import_folder(tmp_path / "files", tmp_path / "study", quiet=False)
    with np.load(tmp_path / "files" / "wide_1.npz") as found:
        content = dict(found)
    content["predicted"][0] = content["hit"][0] = content["true"][0] // 2
    for name in ("wide_0", "wide_1"):
        np.savez(tmp_path / "files" / f"{name}.npz", **content)
    capsys.readouterr()
    import_folder(tmp_path / "files", tmp_path / "study", quiet=False)
    assert "predicted pixels" not in capsys.readouterr().err


def test_a_network_that_predicts_classes_which_are_not_scored_is_taken(tmp_path, capsys):
    counted(tmp_path / "files")
    for name in ("plain_0", "plain_1", "wide_0", "wide_1"):
        areas(tmp_path / "files", name, 0)
    with np.load(tmp_path / "files" / "wide_1.npz") as found:
        content = dict(found)
    np.savez(tmp_path / "files" / "wide_1.npz", **{**content, "predicted": content["hit"]})
    import_folder(tmp_path / "files", tmp_path / "study", quiet=False)
    assert "predicted pixels" not in capsys.readouterr().err


def test_a_table_of_titles_alone_is_refused(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text("row,seed,image,score\n")
    with pytest.raises(UserError, match="no line below its titles"):
        import_folder(path, tmp_path / "study")


@pytest.mark.parametrize("column", ["row", "group"])
def test_names_of_rows_and_groups_can_be_shown(tmp_path, column):
    path = tmp_path / "all.csv"
    cell = {"row": "plain", "group": "g", column: "\x1b[31mX"}
    path.write_text(f"row,seed,image,score,group\n{cell['row']},0,a,0.5,{cell['group']}\n")
    with pytest.raises(UserError, match=f"line 2: .*in column {column} has characters that cannot be shown"):
        import_folder(path, tmp_path / "study", metric_name="Dice", metric_unit="fraction", metric_better="higher")


@pytest.mark.parametrize("name", ["parameters", "gigamacs"])
def test_costs_of_one_row_that_contradict_one_another_are_refused(tmp_path, name):
    scored(tmp_path / "files")
    for seed, cost in enumerate((1_000_000, 2_000_000)):
        path = tmp_path / "files" / f"plain_{seed}.json"
        told = json.loads(path.read_text()) if path.is_file() else {"row": "plain", "seed": seed}
        path.write_text(json.dumps({**told, name: cost}))
    with pytest.raises(
        UserError, match=rf"plain_1\.json: {name} is 2,000,000(\.0)?, but 1,000,000(\.0)? in .*plain_0\.json of the same row"
    ):
        import_folder(tmp_path / "files", tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_relative_folder_of_another_place_is_another_study(tmp_path, monkeypatch):
    for place in ("pa", "pb"):
        scored(tmp_path / place / "results")
    for place in ("pa", "pb"):
        monkeypatch.chdir(tmp_path / place)
        import_folder(Path("results"), Path("own"))  # travels with its results, wherever to
    shared = tmp_path / "shared"
    monkeypatch.chdir(tmp_path / "pa")
    import_folder(Path("results"), shared)
    import_folder(Path("results"), shared)
    monkeypatch.chdir(tmp_path / "pb")
    with pytest.raises(UserError, match="holds another study"):
        import_folder(Path("results"), shared)
