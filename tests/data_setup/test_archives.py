"""Archives unpacked safely, complete or not at all, and listed."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from exfuse.data_setup.archives import Archive, _file_name, check_manifest, manifest_file, provide, unpack, write_manifest
from exfuse.errors import DataError
from tests.data_setup.conftest import Site

FILES = {"kit/data/one.txt": b"1", "kit/data/deep/two.txt": b"22", "kit/notes.txt": b"left behind"}


def tar(members: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


PACKED = {"a.tgz": tar(FILES), "a.tar": tar(FILES, "w"), "a.zip": zipped(FILES)}


@pytest.mark.parametrize("name", PACKED)
def test_the_wanted_folder_appears_and_nothing_else(name: str, tmp_path: Path, console: Console) -> None:
    (tmp_path / name).write_bytes(PACKED[name])
    target = tmp_path / "data" / "mine"
    unpack(tmp_path / name, "kit/data", target, console)
    assert {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()} == {
        "one.txt": b"1",
        "deep/two.txt": b"22",
    }
    assert [path.name for path in target.parent.iterdir()] == ["mine"]


EVIL = {
    "a step upwards.tar": tar({**FILES, "kit/data/../../../evil.txt": b"x"}, "w"),
    "an absolute link.tar": tar({**FILES, "kit/data/out": link("kit/data/out", "/etc")}, "w"),
    "a link upwards.tar": tar({**FILES, "kit/data/out": link("kit/data/out", "../../../..")}, "w"),
    "a device.tar": tar({**FILES, "kit/data/null": link("kit/data/null", "", tarfile.CHRTYPE)}, "w"),
    "a step upwards.zip": zipped({**FILES, "kit/../../../evil.txt": b"x"}),
    "a step back.zip": zipped({**FILES, "kit\\..\\..\\..\\evil.txt": b"x"}),
    "an absolute path.zip": zipped({**FILES, "/tmp/evil.txt": b"x"}),
}


@pytest.mark.parametrize("name", EVIL)
def test_a_member_that_would_lie_outside_is_refused_and_nothing_is_unpacked(
    name: str, tmp_path: Path, console: Console
) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / name).write_bytes(EVIL[name])
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        unpack(inner / name, "kit/data", inner / "data" / "mine", console)
    assert not list(tmp_path.rglob("evil.txt"))
    assert not (inner / "data" / "mine").exists()
    assert not list((inner / "data").iterdir())


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_cut_archive_leaves_nothing(name: str, kept: float, tmp_path: Path, console: Console) -> None:
    (tmp_path / name).write_bytes(PACKED[name][: int(kept * len(PACKED[name]) * (0.1 if name == "a.tar" else 1))])
    with pytest.raises(DataError, match=rf"{name} (cannot be unpacked|holds no folder)"):
        unpack(tmp_path / name, "kit/data", tmp_path / "data" / "mine", console)
    assert not list((tmp_path / "data").iterdir())


def test_an_interruption_leaves_nothing_that_is_taken_for_the_folder(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.zip").write_bytes(PACKED["a.zip"])
    extract, done = zipfile.ZipFile._extract_member, list[str]()  # type: ignore[attr-defined]

    def interrupted(self: zipfile.ZipFile, name: str, *to: object) -> str:
        if done:
            raise KeyboardInterrupt
        done.append(name)
        return extract(self, name, *to)

    monkeypatch.setattr(zipfile.ZipFile, "_extract_member", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack(tmp_path / "a.zip", "kit/data", tmp_path / "data" / "mine", console)
    assert not (tmp_path / "data" / "mine").exists()
    monkeypatch.undo()
    (tmp_path / "data" / ".mine.unpacking" / "kit" / "data").mkdir(parents=True)  # what a killed process leaves
    (tmp_path / "data" / ".mine.unpacking" / "kit" / "data" / "stale.txt").touch()
    unpack(tmp_path / "a.zip", "kit/data", tmp_path / "data" / "mine", console)
    assert not (tmp_path / "data" / "mine" / "stale.txt").exists()


def test_another_archive_is_named(tmp_path: Path, console: Console) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"else/one.txt": b"1"}))
    with pytest.raises(DataError, match=r"a\.zip holds no folder kit/data"):
        unpack(tmp_path / "a.zip", "kit/data", tmp_path / "mine", console)


def test_a_manifest_knows_names_and_sizes_and_nothing_of_place_or_later_files(tmp_path: Path) -> None:
    for place in ("here", "there"):
        for name, content in FILES.items():
            (tmp_path / place / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / place / name).write_bytes(content)
    here, there = (write_manifest(tmp_path / place) for place in ("here", "there"))
    assert here == there
    lines = "".join(f"{len(content)}\t{name}\n" for name, content in sorted(FILES.items()))
    assert here == (3, 14, hashlib.sha256(lines.encode()).hexdigest())
    (tmp_path / "here" / "converted.png").touch()
    assert check_manifest(tmp_path / "here") == here
    assert check_manifest(tmp_path / "elsewhere") is None
    (tmp_path / "here" / "kit" / "notes.txt").write_bytes(b"cut")
    (tmp_path / "here" / "kit" / "data" / "one.txt").unlink()
    with pytest.raises(DataError, match=r"2 files are missing or of another size, e\.g\. kit/data/one\.txt"):
        check_manifest(tmp_path / "here")


def test_a_manifest_knows_names_that_break_lines_or_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    folder.mkdir()
    for name in ("Icon\r", "two\nlines", "next\x85line", '"quoted".txt', "\udcff", "plain é"):
        (folder / name).write_bytes(b"12")
    here = write_manifest(folder)
    assert (here.files, check_manifest(folder)) == (6, here)
    (folder / "two\nlines").unlink()
    with pytest.raises(DataError, match=r"1 files? (is|are) missing or of another size"):
        check_manifest(folder)


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path: Path, console: Console) -> None:
    (tmp_path / "a.tar").write_bytes(tar({**FILES, "kit/data/zz.zip": zipped({"inner.txt": b"1"})}, "w"))
    unpack(tmp_path / "a.tar", "kit/data", tmp_path / "mine", console)
    assert (tmp_path / "mine" / "one.txt").read_bytes() == b"1"


def archive_of(site: Site, tmp_path: Path, name: str, checksum: str | None = None, manifest: str | None = None) -> Archive:
    return Archive(site.url(name), checksum, "kit/data", tmp_path / "data" / "mine", manifest)


def test_a_folder_is_provided_once(site: Site, tmp_path: Path, console: Console) -> None:
    site.files = dict(PACKED)
    for _ in range(2):
        manifest = provide(archive_of(site, tmp_path, "a.tgz"), tmp_path / "archives", 1, console)
    assert manifest.files == 2
    assert len(site.asked) == 1
    (tmp_path / "data" / "mine" / "one.txt").unlink()
    with pytest.raises(DataError, match=r"mine is not as it was unpacked.*one\.txt\. Delete .* the archive is kept"):
        provide(archive_of(site, tmp_path, "a.tgz"), tmp_path / "archives", 1, console)


def test_a_broken_archive_without_a_published_checksum_is_fetched_again(site: Site, tmp_path: Path, console: Console) -> None:
    site.files = dict(PACKED)
    (tmp_path / "archives").mkdir()
    mine = archive_of(site, tmp_path, "a.tgz")
    (tmp_path / "archives" / _file_name(mine.url, mine.checksum)).write_bytes(PACKED["a.tgz"][:80])
    assert provide(mine, tmp_path / "archives", 1, console).files == 2
    assert isinstance(console.file, io.StringIO)
    assert "a.tgz cannot be unpacked" in console.file.getvalue()
    site.files["b.tgz"] = PACKED["a.tgz"][:80]
    other = archive_of(site, tmp_path, "b.tgz")._replace(target=tmp_path / "data" / "other")
    with pytest.raises(DataError, match=r"b\.tgz cannot be unpacked"):
        provide(other, tmp_path / "archives", 1, console)
    assert not (tmp_path / "data" / "other").exists()


def test_archives_that_a_query_names_are_kept_apart(site: Site, tmp_path: Path, console: Console) -> None:
    for name in ("a.tgz", "a.zip"):
        site.files[f"get?file={name}"] = PACKED[name]
        found = archive_of(site, tmp_path, f"get?file={name}")._replace(target=tmp_path / name)
        assert provide(found, tmp_path / "archives", 1, console).files == 2
    assert {path.name.partition("-")[2] for path in (tmp_path / "archives").iterdir()} == {"a.tgz", "a.zip"}
    names = [_file_name(f"https://h/{path}", "md5:0") for path in ("get?file=a.zip", "get?file=b.zip", "a.tar.gz?token=1", "a")]
    assert names == ["a.zip", "b.zip", "a.tar.gz", "a"]
    for checksum in (None, "md5:0"):
        assert len({_file_name(f"https://h/?id={number}", checksum) for number in (1, 2)}) == 2
    assert _file_name("https://one/a.zip", None) != _file_name("https://other/a.zip", None)


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])
def test_an_archive_whose_bits_have_flipped_is_not_unpacked(kind: str, tmp_path: Path, console: Console) -> None:
    whole = tar({"kit/data/noise": np.random.default_rng(0).bytes(100_000)}, f"w:{kind}")
    for place in range(len(whole) // 2, len(whole) - 64, len(whole) // 9):
        flipped = bytearray(whole)
        flipped[place] ^= 255
        (tmp_path / f"a.tar.{kind}").write_bytes(flipped)
        with pytest.raises(DataError, match="cannot be unpacked"):
            unpack(tmp_path / f"a.tar.{kind}", "kit/data", tmp_path / "mine", console)
    assert not (tmp_path / "mine").exists()


def test_a_manifest_can_be_pinned(site: Site, tmp_path: Path, console: Console) -> None:
    site.files = dict(PACKED)
    found = provide(archive_of(site, tmp_path, "a.zip"), tmp_path / "archives", 1, console).digest
    provide(archive_of(site, tmp_path, "a.zip", manifest=found[:16]), tmp_path / "archives", 1, console)
    with pytest.raises(DataError, match=r"mine holds 2 files.* where 0123 is expected"):
        provide(archive_of(site, tmp_path, "a.zip", manifest="0123"), tmp_path / "archives", 1, console)
    assert manifest_file(tmp_path / "data" / "mine").is_file()
