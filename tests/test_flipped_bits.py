"""One flipped bit in any kind of file: it is refused by name, read anew from what it was made of, or makes other data."""

import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from exfuse.config.overrides import describe_run
from exfuse.data import contents
from exfuse.data.disk_cache import open_disk_cache
from exfuse.data.folder import read_folder
from exfuse.data.samples import Layout
from exfuse.data.sbd import read_train_aug
from exfuse.errors import UserError
from exfuse.files import sha256
from exfuse.metrics.boundary_areas import BoundaryAreas
from exfuse.runs.backbones import choose_weights
from exfuse.runs.plan import find_backbone
from exfuse.runs.submission_archive import check_archive, results_folder, write_archive
from exfuse.store.examples import load_examples
from exfuse.store.features import FeatureIndex, read_features
from exfuse.store.folder import WEIGHTS, RunFolder
from exfuse.store.history import read_history, write_history
from exfuse.store.measured_costs import read_costs, write_costs
from exfuse.store.outcome import Outcome, read_outcomes
from exfuse.store.record import DONE, RUNNING, BackboneRecord, Record
from exfuse.store.seal import check_sealed, write_sealed
from exfuse.store.sequential import Look, Rule, Sequential
from exfuse.store.study_reading import load_study
from exfuse.store.tuning import DeclaredTune, Trial, Tuning
from exfuse.terminal import Console
from tests.analysis.synthetic import StudyBuilder, edit_study
from tests.records import SCORES, leave_record
from tests.reports.examples import add_examples
from tests.sharing import amount
from tests.store.test_measured_costs import make_study, measured
from tests.store.test_seal import packed

EACH = amount(12, 60)
CLASSES = [f"class{number}" for number in range(21)]


@dataclass
class Victim:
    """Files of one kind.

    Attributes:
        paths: of which one bit is flipped.
        read: what whoever uses them makes of them.
        identity: whether ``read`` gives what the data are known by: a changed file may then be read, as other data.
        names: what a refusal must name; None for the file itself.
    """

    paths: list[Path]
    read: Callable[[], Any]
    identity: bool = False
    names: str | None = None


def record_and_counts(folder: Path) -> Iterator[tuple[str, Victim]]:
    builder = StudyBuilder(folder)
    (run, *_) = builder.row("baseline", 0.6, (0, 1), areas=(0,))
    study = builder.finish()
    record = run.record()
    assert record is not None
    yield "record", Victim([run.path / "record.json"], run.record)
    yield "counts", Victim([run.path / "confusion.npz"], lambda: run.counts(record)[0].tolist())
    yield "areas", Victim([run.path / "boundary.npz"], lambda: areas(run.boundary_areas(record)))
    yield "study", Victim([study / "study.json"], lambda: plain(load_study(study)))
    write_history(run.path / "history.csv", {step: {"loss": 1 / (step + 1), "epoch": 0.0} for step in range(9)})
    yield "history", Victim([run.path / "history.csv"], lambda: read_history(run.path / "history.csv"))


def studies(folder: Path) -> Iterator[tuple[str, Victim]]:
    study = make_study(folder / "costs")
    write_costs(study, measured(study, "baseline", "seb"))
    yield "costs", Victim([study / "costs.json"], lambda: read_costs(study))
    later = make_study(folder / "sequential")
    looks = [Look(row="seb", base="baseline", seeds=3, low=1.25, high=9.5)]
    found = Sequential(rule=Rule(seeds=[0, 1, 2], first=2, pairs=[("seb", "baseline")]), looks=looks, runs=9)
    edit_study(later, lambda content: content.update(sequential=msgspec.to_builtins(found)))
    yield "sequential", Victim([later / "study.json"], lambda: plain(load_study(later)))
    searched = make_study(folder / "tuning")
    key, row = "f" * 16, load_study(searched).row("baseline")
    tried = Tuning(
        declared=DeclaredTune(grid={"recipe.lr": [0.1]}),
        grid={"recipe.lr": [0.1]},
        trials={"baseline": [Trial(settings={"recipe.lr": 0.1}, key=key)]},
        chosen={"baseline": {"recipe.lr": 0.1}},
    )
    choices = {f"technique/{name}": option for name, option in row.options.items()} | {"decoder": row.decoder}
    leave_record(
        RunFolder(searched / "search", key), DONE, scores=SCORES, seed=1000, choices=choices, config={"recipe": {"lr": 0.1}}
    )
    edit_study(searched, lambda content: content.update(tuning=msgspec.to_builtins(tried)))
    files = [searched / "study.json", searched / "search" / key / "record.json"]
    yield "tuning", Victim(files, lambda: plain(load_study(searched)), names="json")
    pages = StudyBuilder(folder / "pages")
    runs = pages.row("baseline", 0.6, (0,))
    there = add_examples(pages.finish(), runs)
    files = [there.folder / "index.json", there.folder / "images" / "00000.jpg", *there.folder.glob("predictions/*/*.png")]
    yield "examples", Victim(files, lambda: load_examples(there.folder))
    empty = FeatureIndex(
        folder=folder / "features", data="scenes", split="val", band=5, images=0, runs=(), overviews=(), pictures=(), summary=()
    )
    empty.write()
    yield "features", Victim([folder / "features" / "features.json"], lambda: read_features(folder / "features"))
    Outcome(3, ["seed=1"], "baseline", 1, {"decoder": "levels_2345"}, key=key).write(folder)
    yield "outcome", Victim([folder / "jobs" / "3.json"], lambda: read_outcomes(folder))


def checkpoints(folder: Path) -> Iterator[tuple[str, Victim]]:
    for name, status in (("unfinished", RUNNING), ("finished", DONE)):
        run = RunFolder(folder / name, "0123456789abcdef")
        write_sealed(run.last, lambda file: file.write(packed(0)))
        write_sealed(run.checkpoints / "best.ckpt", lambda file: file.write(packed(1)))
        run.write(Record(key=run.key, status=status, checkpoint_sha256=sha256(run.last)))
        yield f"last.ckpt, {name}", Victim([run.last], lambda run=run: check_sealed(run.last))  # type: ignore[misc]
        best = run.checkpoints / "best.ckpt"
        yield f"best.ckpt, {name}", Victim([best], lambda best=best: check_sealed(best))  # type: ignore[misc]


def data(folder: Path) -> Iterator[tuple[str, Victim]]:
    noise = np.random.default_rng(0)
    for part, suffix in (("images", "jpg"), ("labels", "png")):
        (folder / "mine" / "train" / part).mkdir(parents=True)
        for name in "abc":
            shape = (12, 16, 3) if part == "images" else (12, 16)
            pixels = noise.integers(0, 255 if part == "images" else 21, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "mine" / "train" / part / f"{name}.{suffix}")
    (folder / "mine" / "classes.txt").write_text("\n".join(CLASSES))

    def manifest() -> Any:
        split = read_folder(folder / "mine", "train", CLASSES)
        return split.manifest(), [[split.image(place).tolist(), split.mask(place).tolist()] for place in range(3)]

    files = [path for path in (folder / "mine" / "train").rglob("*") if path.is_file()]
    yield "images and masks", Victim(files, manifest, identity=True)

    voc, sbd = folder / "VOC2012", folder / "dataset"
    for place in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / place).mkdir(parents=True)
    (sbd / "cls").mkdir(parents=True)
    for id in ("v", "w", "s", "t"):
        Image.fromarray(noise.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(voc / "JPEGImages" / f"{id}.jpg")
        ids = noise.integers(0, 21, (12, 16), dtype=np.uint8)
        Image.fromarray(ids).save(voc / "SegmentationClass" / f"{id}.png")
        savemat(sbd / "cls" / f"{id}.mat", {"GTcls": {"Segmentation": ids}})
    (voc / "ImageSets" / "Segmentation" / "train.txt").write_text("v\n")
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("w\n")
    (sbd / "train.txt").write_text("s\n")
    (sbd / "val.txt").write_text("t\n")

    def union() -> Any:
        return read_train_aug(voc, sbd, CLASSES).manifest()

    union()
    yield "converted masks", Victim([*(sbd / "cls_png").glob("*.png")], union, identity=True)
    yield "what masks were made from", Victim([sbd / "cls_png.json"], union)


def caches(folder: Path) -> Iterator[tuple[str, Victim]]:
    class Source:
        name = "made up"

        def __len__(self) -> int:
            return 4

        def read(self, position: int) -> list[np.ndarray]:
            return [np.random.default_rng(position).integers(0, 255, (5, 7, 3), dtype=np.uint8)]

        def shapes(self, _: int) -> tuple[tuple[int, ...], ...]:
            return ((5, 7, 3),)

        def identity(self) -> str:
            return "made up"

    source = Source()

    def kept() -> list[Any]:
        cache = open_disk_cache(source, Layout(map(source.shapes, range(4))), folder / "cache")
        return [[array.tolist() for array in cache.read(position)] for position in range(4)]

    kept()
    (samples,) = (folder / "cache").glob("*.samples")
    yield "disk cache", Victim([samples, samples.with_suffix(".json")], kept, names=".samples")

    files = [folder / "files" / name for name in "abc"]
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(path.name.encode() * 50)
    contents._remember(str(files[0].parent), dict(zip("abc", contents.contents(files), strict=True)))
    memory = contents._memory(str(files[0].parent))
    yield "memory of hashes", Victim([memory], lambda: contents.content_hashes(files))


def submission(folder: Path) -> Iterator[tuple[str, Victim]]:
    masks, noise = {}, np.random.default_rng(0)
    for id in ("2008_000001", "2008_000002"):
        file = io.BytesIO()
        Image.fromarray(noise.integers(0, 21, (12, 16), dtype=np.uint8)).convert("P").save(file, "PNG")
        masks[id] = file.getvalue()
    archive, inside = folder / "submission.tar.gz", results_folder("comp6", "test")
    folder.mkdir()
    write_archive(archive, inside, masks.items())
    yield "submission", Victim([archive], lambda: check_archive(archive, inside, dict.fromkeys(masks, (16, 12)), 21))


def backbone(folder: Path, overrides: list[str]) -> Iterator[tuple[str, Victim]]:
    run = describe_run(
        [*overrides, "backbone.init=pretrained", "backbone.missing=refuse", f"paths.backbones={folder / 'made'}"]
    )
    found, manifests = find_backbone(run)
    found.path.mkdir(parents=True)
    (found.path / WEIGHTS).write_bytes(random.Random(0).randbytes(4000))
    about = BackboneRecord("objects", ["a", "b"], accuracy={"main": 0.5}, sha256=sha256(found.path / WEIGHTS))
    found.write(Record(key=found.key, status=DONE, manifests=manifests, pretraining=about))
    quiet = Console(quiet=True)
    yield "backbone", Victim([found.path / WEIGHTS, found.path / "record.json"], lambda: choose_weights(run, quiet))


def areas(found: BoundaryAreas | None) -> list[Any]:
    assert found is not None
    return [part.tolist() for part in found.areas]


def plain(study: Any) -> str:
    """All of a study that its files say."""
    return repr(study)


def test_a_flipped_bit_is_refused_by_name_read_anew_or_makes_other_data(
    small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXFUSE_CACHE", str(tmp_path / "remembered"))
    victims = [
        *record_and_counts(tmp_path / "study"),
        *studies(tmp_path / "studies"),
        *checkpoints(tmp_path / "checkpoints"),
        *data(tmp_path / "data"),
        *caches(tmp_path / "caches"),
        *submission(tmp_path / "submission"),
        *backbone(tmp_path / "backbones", small_overrides),
    ]
    chance, wrong, flipped = random.Random(17), list[str](), 0
    for kind, victim in victims:
        before = victim.read()
        for _ in range(EACH):
            path = chance.choice(victim.paths)
            whole = path.read_bytes()
            place = chance.randrange(8 * len(whole))
            damaged = bytearray(whole)
            damaged[place // 8] ^= 1 << place % 8
            path.write_bytes(damaged)
            flipped += 1
            try:
                found = victim.read()
            except UserError as refusal:
                if (victim.names or path.stem) not in str(refusal):
                    wrong.append(f"{kind}: bit {place} of {path.name}: {refusal}")
            else:
                if (found == before) is victim.identity and path.read_bytes() == bytes(damaged):
                    wrong.append(f"{kind}: bit {place} of {path.name} changed nothing that is seen")
                if not victim.identity and found != before:
                    wrong.append(f"{kind}: bit {place} of {path.name} was read as something else")
            path.write_bytes(whole)
        assert victim.read() == before, kind
    assert flipped >= amount(200, 1000)
    assert not wrong, "\n".join(wrong)
