"""A file is read again whenever it may have changed, and only then."""

import hashlib
import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exfuse.data import contents
from exfuse.data.census import count_classes
from exfuse.data.contents import content_hashes
from exfuse.data.folder import read_folder
from tests.pace import processor
from tests.sharing import amount

OLD = 10**10  # ns


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which files were read, in order."""
    monkeypatch.setenv("EXFUSE_CACHE", str(tmp_path / "cache"))
    found: list[Path] = []
    plain = contents.sha256
    monkeypatch.setattr(contents, "sha256", lambda path: found.append(path) or plain(path))
    return found


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Written long before it is hashed: the clock is put forward, since nobody can set back a status change."""
    path = tmp_path / "image.png"
    path.write_bytes(b"first")
    now = time.time_ns
    monkeypatch.setattr(contents.time, "time_ns", lambda: now() + OLD)
    return path


def test_hashes_are_sha256_in_the_order_asked_for(read, tmp_path):
    paths = [tmp_path / name for name in "ba"]
    for path in paths:
        path.write_text(path.name)
    assert content_hashes([*paths, paths[0]]) == [hashlib.sha256(name.encode()).hexdigest() for name in "bab"]
    assert content_hashes([]) == []


def test_a_settled_file_is_read_once(read, file):
    assert content_hashes([file]) == content_hashes([file])
    assert read == [file]


def test_a_file_that_has_just_been_written_is_read_each_time(read, file, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("EXFUSE_CACHE", str(file.parent / "cache"))
    first = content_hashes([file])
    file.write_bytes(b"secnd")
    assert content_hashes([file]) != first


def test_a_change_in_place_is_seen_though_size_and_time_are_what_they_were(read, file):
    first, times = content_hashes([file]), file.stat()
    file.write_bytes(b"secnd")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_mtime_ns == times.st_mtime_ns
    assert content_hashes([file]) != first
    assert len(read) == 2


def test_another_file_in_its_place_is_read(read, file):
    first = content_hashes([file])
    other = file.with_name("other")
    other.write_bytes(b"other")
    other.replace(file)
    assert content_hashes([file]) != first


def test_a_memory_that_is_cut_short_or_cannot_be_kept_costs_time_alone(read, file, tmp_path, monkeypatch):
    first = content_hashes([file])
    (memory,) = (tmp_path / "cache").rglob("*.msgpack")
    memory.write_bytes(memory.read_bytes()[:-5])
    assert content_hashes([file]) == first
    monkeypatch.setenv("EXFUSE_CACHE", "/dev/null/nowhere")
    assert content_hashes([file]) == first
    assert len(read) == 3


def test_ten_thousand_pairs_are_known_again_in_two_seconds_and_looked_at_in_two_minutes(tmp_path, monkeypatch):
    """As many as VOC's augmented training set, at its size: what stands between a start and its first step."""
    monkeypatch.setenv("EXFUSE_CACHE", str(tmp_path / "cache"))
    number = amount(500, 10_582)
    rng = np.random.default_rng(0)
    photograph, labels = io.BytesIO(), io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)).save(photograph, "JPEG", quality=50)
    Image.fromarray(np.kron(rng.integers(0, 3, (15, 20), dtype=np.uint8), np.ones((25, 25), np.uint8))).save(labels, "PNG")
    for kind, suffix, content in (("images", "jpg", photograph), ("labels", "png", labels)):
        folder = tmp_path / "train" / kind
        folder.mkdir(parents=True)
        for one in range(number):
            (folder / f"{one}.{suffix}").write_bytes(content.getvalue() + one.to_bytes(4, "big"))
    now = time.time_ns
    monkeypatch.setattr(contents.time, "time_ns", lambda: now() + OLD)

    def start() -> float:
        began = time.process_time()  # it waits for nothing, and a busy machine's clock says nothing
        split = read_folder(tmp_path, "train", ["ground", "tree", "sky"])
        split.manifest()
        count_classes(split)
        return time.process_time() - began

    first = start()
    again = min(start() for _ in range(3))
    assert first < processor(120 * number / 10_582 + 2, first)
    assert again < processor(2 * number / 10_582 + 0.2, again)
