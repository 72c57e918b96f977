import errno
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from exfuse.data_setup import download
from exfuse.data_setup.download import fetch
from exfuse.errors import DataError
from tests.data_setup.conftest import Site

CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def get(site: Site, tmp_path: Path, console: Console) -> Callable[..., Path]:
    site.files["a.tar"] = CONTENT

    def fetched(checksum: str | None = MD5, **options: object) -> Path:
        fetch(site.url("a.tar"), tmp_path / "archives" / "a.tar", checksum, console, pause=0, **options)  # type: ignore[arg-type]
        return tmp_path / "archives" / "a.tar"

    return fetched


def told(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("checksum", [MD5, SHA256, None])
def test_a_file_arrives_whole_and_alone_and_is_not_fetched_twice(get, site: Site, checksum: str | None) -> None:
    path = get(checksum)
    assert path.read_bytes() == CONTENT
    assert [one.name for one in path.parent.iterdir()] == ["a.tar"]
    get(checksum)
    assert len(site.asked) == 1


@pytest.mark.parametrize("checksum", [MD5, None])
def test_a_cut_connection_is_taken_up_where_it_was_cut(get, site: Site, checksum: str | None) -> None:
    site.cuts = [100_000, 50_000]
    assert get(checksum).read_bytes() == CONTENT
    assert [wanted for _, wanted in site.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert site.sent == len(CONTENT)


def test_a_later_start_goes_on_with_what_came_before(get, site: Site, tmp_path: Path) -> None:
    site.cuts = [100_000]
    with pytest.raises(DataError, match=r"cut after 100,000 of 300,000 bytes.*goes on where it stopped.*by hand"):
        get(attempts=1)
    part = tmp_path / "archives" / "a.tar.part"
    assert part.stat().st_size == 100_000
    assert not (tmp_path / "archives" / "a.tar").exists()
    assert get().read_bytes() == CONTENT
    assert site.asked[-1][1] == "bytes=100000-"
    assert site.sent == len(CONTENT)


def test_a_server_without_ranges_sends_it_all_again(get, site: Site) -> None:
    site.ranges, site.cuts = False, [100_000]
    assert get().read_bytes() == CONTENT
    assert site.sent == len(CONTENT) + 100_000


def test_a_file_that_changed_meanwhile_is_not_pieced_together(get, site: Site) -> None:
    site.cuts = [100_000]
    with pytest.raises(DataError):
        get(None, attempts=1)
    site.files["a.tar"], site.mark = CONTENT[::-1], '"v2"'
    assert get(None).read_bytes() == CONTENT[::-1]


def test_without_a_mark_or_checksum_nothing_is_pieced_together(get, site: Site) -> None:
    site.mark, site.cuts = None, [100_000]
    assert get(None).read_bytes() == CONTENT
    assert [wanted for _, wanted in site.asked] == [None, None]


def test_a_whole_part_needs_no_byte_more(get, site: Site, tmp_path: Path) -> None:
    """Killed between the last byte and the new name."""
    part = tmp_path / "archives" / "a.tar.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT)
    assert get().read_bytes() == CONTENT
    assert site.sent == 0


def test_a_part_longer_than_the_file_is_begun_anew(get, site: Site, tmp_path: Path) -> None:
    part = tmp_path / "archives" / "a.tar.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT + b"more")
    assert get().read_bytes() == CONTENT
    assert site.sent == len(CONTENT)


def test_a_broken_or_partial_archive_is_named_and_fetched_again(get, site: Site, tmp_path: Path, console: Console) -> None:
    path = tmp_path / "archives" / "a.tar"
    path.parent.mkdir()
    for broken in (CONTENT[:-1], CONTENT[:-1] + b"?", b""):
        path.write_bytes(broken)
        assert get().read_bytes() == CONTENT
    assert told(console).count(f"{path} is broken or partial") == 3
    assert site.sent == 3 * len(CONTENT)


def test_damage_on_the_way_is_fetched_again_once(get, site: Site, console: Console) -> None:
    site.damaged = 1
    assert get().read_bytes() == CONTENT
    assert "arrived damaged" in told(console)
    assert len(site.asked) == 2


def test_a_wrong_checksum_twice_is_a_clear_error_and_nothing_is_left(get, site: Site, tmp_path: Path) -> None:
    site.damaged = 2
    with pytest.raises(DataError, match=rf"a\.tar is not the expected file: twice md5:\w+ instead of {MD5}.*mirror"):
        get()
    assert len(site.asked) == 2
    assert not (tmp_path / "archives" / "a.tar").exists()
    assert not (tmp_path / "archives" / "a.tar.part").exists()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_asked_again(get, site: Site, status: int) -> None:
    site.statuses = [status, status]
    assert get().read_bytes() == CONTENT
    site.files.clear()


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_file_that_is_gone_is_said_at_once_with_what_to_do(get, site: Site, status: int) -> None:
    site.statuses = [status]
    with pytest.raises(DataError, match=rf"HTTP {status}.*mirror.*fetch a\.tar by hand and put it into .*archives"):
        get()
    assert len(site.asked) == 1


def test_a_server_that_is_not_there_is_a_clear_error(tmp_path: Path, console: Console) -> None:
    with pytest.raises(DataError, match="could not be fetched"):
        fetch("http://127.0.0.1:9/a.tar", tmp_path / "a.tar", MD5, console, attempts=2, pause=0)


def test_a_misspelt_checksum_is_refused(get) -> None:
    with pytest.raises(DataError, match="expected md5:"):
        get("crc32:12345678")


@pytest.mark.parametrize(
    "url", ["host/VOC.tar", "None", "ftp://host/a.tar", "https://host/gr\u00f6\u00dfe.tar", "https://host/"]
)
def test_what_is_no_address_is_refused(url: str, tmp_path: Path, console: Console) -> None:
    with pytest.raises(DataError, match="expected the address of a file"):
        fetch(url, tmp_path / "a.tar", None, console)


def test_a_full_disk_is_no_bad_connection(get, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_transfer", full)
    with pytest.raises(OSError, match="No space left"):
        get(None)
