"""The test server's archive: what is written, and that the validator refuses every kind of wrong one with one clear line."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from exfuse.errors import CheckpointError, ConfigError, DataError, SubmissionError
from exfuse.palette import voc_palette
from exfuse.runs.submission import check_submission, image_sizes, make_submission
from exfuse.runs.submission_archive import check_archive, results_folder, write_archive
from exfuse.store.description import Option, RunDescription
from exfuse.store.folder import RunFolder
from tests.described import arguments_of

FOLDER = results_folder("comp6", "test")
SIZES = {"2008_000006": (50, 37), "2008_000011": (40, 60), "2012_004331": (33, 21)}


def png(size: tuple[int, int], seed: int = 0, low: int = 0, high: int = 21, mode: str = "P") -> bytes:
    ids = np.random.default_rng(seed).integers(low, high, size[::-1], dtype=np.uint8)
    image, encoded = Image.fromarray(ids), io.BytesIO()
    if mode == "P":
        image.putpalette(voc_palette().tobytes())
    else:
        image = image.convert(mode)
    image.save(encoded, "PNG")
    return encoded.getvalue()


MASKS = {id: png(size, seed) for seed, (id, size) in enumerate(SIZES.items())}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "good.tar.gz"
    write_archive(path, FOLDER, MASKS.items())
    return path


def pack(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    """Any archive, as somebody else might make it."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def good_members() -> dict[str, bytes | tarfile.TarInfo]:
    return {f"results/VOC2012/Segmentation/comp6_test_cls/{id}.png": content for id, content in MASKS.items()}


def test_a_good_archive_passes_and_holds_the_masks_where_the_server_looks(archive: Path) -> None:
    check_archive(archive, FOLDER, SIZES, 21)
    with tarfile.open(archive) as opened:
        assert opened.getnames() == [f"results/VOC2012/Segmentation/comp6_test_cls/{id}.png" for id in sorted(SIZES)]
        assert {(one.mtime, one.uid, one.uname, one.mode) for one in opened} == {(0, 0, "", 0o644)}


def test_bytes_are_the_same_whatever_the_order_time_or_name(archive: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("time.time", lambda: 2e9)
    other = tmp_path / "another name.tgz"
    write_archive(other, FOLDER, list(MASKS.items())[::-1])
    assert other.read_bytes() == archive.read_bytes()


def test_folders_on_the_way_may_be_there(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("results/VOC2012")
    folder.type = tarfile.DIRTYPE
    check_archive(pack(tmp_path / "a.tar.gz", {"results/VOC2012": folder, **good_members()}), FOLDER, SIZES, 21)


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


PLACE = "results/VOC2012/Segmentation/comp6_test_cls"
FIRST = f"{PLACE}/2008_000006.png"
BROKEN: dict[str, tuple[dict[str, bytes | tarfile.TarInfo | None], str]] = {
    "a missing id": ({FIRST: None}, r"lacks 1 of 3 masks, e\.g\. results/\S+/2008_000006\.png"),
    "an extra id": ({f"{PLACE}/2008_000007.png": MASKS["2008_000006"]}, r"2008_000007\.png is not asked for"),
    "another file": ({f"{PLACE}/notes.txt": b"best run"}, r"notes\.txt is no \.png"),
    "another folder": (
        {FIRST: None, FIRST.replace("comp6", "comp5"): MASKS["2008_000006"]},
        r"comp5_test_cls/2008_000006\.png does not lie in \S+comp6_test_cls, where the server looks",
    ),
    "no results folder": (
        {FIRST: None, "2008_000006.png": MASKS["2008_000006"]},
        r": 2008_000006\.png does not lie in results/",
    ),
    "a wrong size": ({FIRST: png((37, 50))}, r"2008_000006\.png is 37x50, its image 50x37 pixels"),
    "colours": ({FIRST: png((50, 37), mode="RGB")}, r"2008_000006\.png is in PIL mode RGB: expected P"),
    "grey": ({FIRST: png((50, 37), mode="L")}, r"PIL mode L: expected P"),
    "void": ({FIRST: png((50, 37), low=255, high=256)}, r"holds the ids \[255\]: expected 0\.\.20, and no void"),
    "ids out of range": ({FIRST: png((50, 37), low=20, high=23)}, r"holds the ids \[21, 22\]"),
    "half a PNG": ({FIRST: MASKS["2008_000006"][:-200]}, r"2008_000006\.png cannot be decoded as PNG"),
    "a web page": ({FIRST: b"<html>"}, r"2008_000006\.png cannot be decoded as PNG"),
    "an empty file": ({FIRST: b""}, r"2008_000006\.png cannot be decoded as PNG"),
    "a step upwards": ({f"{PLACE}/../../../../x.png": b""}, r"x\.png would be unpacked outside"),
    "an absolute path": ({"/etc/cron.d/x.png": b""}, r"/etc/cron\.d/x\.png would be unpacked outside"),
    "a symbolic link": ({FIRST: link(FIRST, tarfile.SYMTYPE)}, r"2008_000006\.png is a link or device"),
    "a hard link": ({FIRST: link(FIRST, tarfile.LNKTYPE)}, r"2008_000006\.png is a link or device"),
    "a device": ({FIRST: link(FIRST, tarfile.CHRTYPE)}, r"2008_000006\.png is a link or device"),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_wrong_archive_is_refused_with_one_line(tmp_path: Path, damage: str) -> None:
    changes, says = BROKEN[damage]
    members = {name: content for name, content in (good_members() | changes).items() if content is not None}
    with pytest.raises(SubmissionError, match=says) as refusal:
        check_archive(pack(tmp_path / "bad.tar.gz", members), FOLDER, SIZES, 21)
    assert "\n" not in str(refusal.value)
    assert "bad.tar.gz" in str(refusal.value)


def test_a_mask_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in [*good_members().items(), (FIRST, MASKS["2008_000006"])]:
            assert isinstance(content, bytes)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(SubmissionError, match=r"2008_000006\.png is there twice"):
        check_archive(path, FOLDER, SIZES, 21)


@pytest.mark.parametrize("kept", [0, 5, 0.3, 0.6, -8, -1])
def test_a_truncated_archive_is_refused_wherever_it_ends(archive: Path, kept: float) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(SubmissionError, match=r"good\.tar\.gz is no whole \.tar\.gz"):
        check_archive(archive, FOLDER, SIZES, 21)


def test_other_containers_and_flipped_bits_are_refused(archive: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.tar.gz"
    plain.write_bytes(gzip.decompress(archive.read_bytes()))  # a .tar under another name
    with pytest.raises(SubmissionError, match=r"plain\.tar\.gz is no whole \.tar\.gz"):
        check_archive(plain, FOLDER, SIZES, 21)
    content = bytearray(archive.read_bytes())
    content[-6] ^= 1  # in gzip's checksum
    archive.write_bytes(content)
    with pytest.raises(SubmissionError, match="no whole"):
        check_archive(archive, FOLDER, SIZES, 21)
    with pytest.raises(SubmissionError, match="No archive"):
        check_archive(tmp_path / "none.tar.gz", FOLDER, SIZES, 21)


@pytest.fixture
def voc_test(tmp_path: Path) -> Path:
    """VOC's test images of different sizes, without masks."""
    root = tmp_path / "VOC2012"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for seed, (id, (width, height)) in enumerate(SIZES.items()):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{id}.jpg")
    (root / "ImageSets" / "Segmentation" / "test.txt").write_text("\n".join(SIZES))
    return root


@pytest.fixture
def compose(voc_test: Path, finished_run: RunFolder, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def composed(*overrides: str) -> dict[str, Any]:
        record = finished_run.record()
        assert record is not None
        return arguments_of(
            "submission_make",
            *(f"data.root={voc_test}", f"run={finished_run.path}", f"archive={tmp_path}/out/a.tar.gz", "count=3"),
            f"data.classes=[{','.join(record.scores.iou)}]",  # the small run knows the scenes'
            *("device=cpu", *overrides),
        )

    return composed


def to_check(asked: dict[str, Any]) -> dict[str, Any]:
    """What `check_submission` takes of what `make_submission` does."""
    return {name: asked[name] for name in ("archive", "competition", "split", "count", "data")}


def test_a_submission_is_made_checked_and_the_same_twice(compose, voc_test: Path, tmp_path: Path, capsys) -> None:
    config = compose()
    make_submission(**config)
    path = tmp_path / "out" / "a.tar.gz"
    first = path.read_bytes()
    check_submission(**to_check(config))
    check_archive(path, PurePosixPath(PLACE), SIZES, 21)
    with tarfile.open(path) as archive:
        for id, size in SIZES.items():
            stored = archive.extractfile(f"{PLACE}/{id}.png")
            assert stored is not None
            with Image.open(stored) as mask:
                assert (mask.size, mask.mode) == (size, "P")
    make_submission(**config)
    assert path.read_bytes() == first
    assert "as the server wants it: 3 masks" in capsys.readouterr().out
    assert [one.name for one in path.parent.iterdir()] == ["a.tar.gz"]


def test_the_competition_names_the_folder(compose, tmp_path: Path) -> None:
    make_submission(**compose("competition=comp5"))
    with tarfile.open(tmp_path / "out" / "a.tar.gz") as archive:
        assert all(name.startswith("results/VOC2012/Segmentation/comp5_test_cls/") for name in archive.getnames())
    with pytest.raises(SubmissionError, match=r"comp5_test_cls/\S+ does not lie in"):
        check_submission(**to_check(compose()))


def test_the_chosen_protocol_decides(compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_submission(**compose("protocol=multi_scale_flip"))
    check_archive(tmp_path / "out" / "a.tar.gz", FOLDER, SIZES, 21)

    def always_five(protocol: Option, _: RunDescription) -> Callable[..., torch.Tensor]:
        assert protocol.name == "multi_scale_flip"
        return lambda _, image, size: torch.full((len(image), *size), 5)

    monkeypatch.setattr("exfuse.runs.submission.build_protocol", always_five)
    make_submission(**compose("protocol=multi_scale_flip"))
    with tarfile.open(tmp_path / "out" / "a.tar.gz") as archive:
        stored = archive.extractfile(FIRST)
        assert stored is not None
        with Image.open(stored) as mask:
            assert set(np.unique(np.asarray(mask))) == {5}


def test_an_interruption_leaves_no_archive(compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("exfuse.runs.submission.check_archive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_submission(**compose())
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("overrides", "error", "says"),
    [
        (["competition=comp7"], ConfigError, r"competition=comp7: expected comp5 or comp6"),
        (["archive=/x/a.zip"], ConfigError, r"a\.zip: expected a name that ends in \.tar\.gz"),
        (["count=1456"], DataError, "lists 3 images where the server expects 1456"),
        (["split=tset"], DataError, r"No list file .*tset\.txt.*VOC2012test\.tar"),
        (["data.classes=[background,cat]"], CheckpointError, r"scores 11 classes .* VOC's 2"),
    ],
)
def test_what_cannot_be_submitted_is_refused(compose, overrides: list[str], error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        make_submission(**compose(*overrides))


def test_a_missing_test_image_is_named_with_where_it_comes_from(compose, voc_test: Path) -> None:
    (voc_test / "JPEGImages" / "2008_000011.jpg").unlink()
    with pytest.raises(DataError, match=r"2008_000011\.jpg is missing.*VOC2012test\.tar"):
        image_sizes(*(compose()[name] for name in ("data", "split", "count")))
