"""A W&B file whose writer was killed ends at a whole record afterwards."""

from pathlib import Path

import pytest

from exfuse.store.folder import RunFolder
from exfuse.tracking.wandb_tracker import cut_to_whole_records
from tests.tracking.test_wandb import tracked_run  # noqa: F401 - a fixture
from tests.tracking.wandb_files import records_of


@pytest.fixture
def written(tracked_run: RunFolder) -> bytes:  # noqa: F811
    (path,) = (path for path in tracked_run.path.glob("wandb/offline-run-*/*.wandb"))
    return path.read_bytes()


def test_a_cut_anywhere_leaves_the_whole_records_before_it(written: bytes, tmp_path: Path) -> None:
    assert len(written) > 2 * 32768  # records that lie in several blocks are among them
    whole = [record.SerializeToString() for record in records_of(written)]
    file = tmp_path / "run.wandb"
    for cut in [*range(7, len(written), 1499), *range(32760, 32790), len(written)]:
        file.write_bytes(written[:cut])
        left = cut_to_whole_records(file)
        mended = file.read_bytes()
        kept = [record.SerializeToString() for record in records_of(mended)]
        assert kept == whole[: len(kept)]
        assert kept == [record.SerializeToString() for record in records_of(written[:cut])]
        assert left == bool(kept)
        assert not cut_to_whole_records(file) or file.read_bytes() == mended  # mending again changes nothing
    assert kept == whole


def test_a_file_of_another_format_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "run.wandb"
    file.write_bytes(b"something else")
    assert cut_to_whole_records(file)
    assert file.read_bytes() == b"something else"
