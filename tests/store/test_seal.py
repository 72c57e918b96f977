"""A sealed checkpoint is what was written, or refused by name: after a flipped bit, a cut, an exchange, a kill, a full disk."""

import io
import os
import random
import shutil
import zipfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from exfuse.errors import CheckpointError
from exfuse.files import sha256
from exfuse.store.folder import RunFolder
from exfuse.store.record import DONE, RUNNING, Record
from exfuse.store.seal import check_sealed, write_sealed
from tests.sharing import amount

KEY = "0123456789abcdef"


def packed(seed: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", random.Random(seed).randbytes(5000))
    return file.getvalue()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that is still trained, with a sealed checkpoint."""
    folder = RunFolder(tmp_path, KEY)
    write_sealed(folder.last, lambda file: file.write(packed()))
    folder.write(Record(key=KEY, status=RUNNING))
    return folder


def test_a_sealed_file_is_still_the_zip_file_that_was_written(run: RunFolder) -> None:
    assert check_sealed(run.last) == sha256(run.last)
    with zipfile.ZipFile(run.last) as archive:
        assert archive.testzip() is None
        assert archive.read("data.pkl") == random.Random(0).randbytes(5000)


def test_every_flipped_bit_is_refused_by_name(run: RunFolder) -> None:
    whole, chance = run.last.read_bytes(), random.Random(1)
    places = [chance.randrange(8 * len(whole)) for _ in range(amount(60, 300))]
    places += [8 * (len(whole) - back) for back in range(1, 101)]  # the seal itself, and what comes before it
    for place in places:
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        run.last.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged.*overwrite=true"):
            check_sealed(run.last)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99])
def test_a_cut_and_an_emptied_block_are_refused(run: RunFolder, share: float) -> None:
    whole = run.last.read_bytes()
    place = int(share * len(whole))
    for damaged in (whole[:place], whole[:place] + bytes(500) + whole[place + 500 :], whole + b"more"):
        run.last.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"last\.ckpt"):
            check_sealed(run.last)


def test_a_finished_run_takes_no_other_checkpoint_than_its_record_describes(run: RunFolder) -> None:
    record = Record(key=KEY, status=DONE, checkpoint_sha256=sha256(run.last))
    run.write(record)
    check_sealed(run.last)
    write_sealed(run.last, lambda file: file.write(packed(seed=1)))  # another, sealed as it should be
    with pytest.raises(CheckpointError, match=r"last\.ckpt is not the checkpoint that its record describes"):
        check_sealed(run.last)
    run.last.write_bytes(packed(seed=2))  # of a version without seals: its record vouches for it
    run.write(replace(record, checkpoint_sha256=sha256(run.last)))
    check_sealed(run.last)
    write_sealed(run.path / "checkpoints_40" / "last.ckpt", lambda file: file.write(packed(seed=3)))  # kept by hand
    check_sealed(run.path / "checkpoints_40" / "last.ckpt")
    shutil.copy(run.last, run.checkpoints / "best.ckpt")
    with pytest.raises(CheckpointError, match=r"best\.ckpt is damaged or unsealed"):
        check_sealed(run.checkpoints / "best.ckpt")


def test_what_fails_while_it_is_written_leaves_the_sealed_one_before(run: RunFolder) -> None:
    before = run.last.read_bytes()

    def fill(file: io.BytesIO) -> None:
        file.write(packed(seed=1))
        os.write(os.open("/dev/full", os.O_WRONLY), b"x")

    with pytest.raises(OSError, match="No space left") as caught:
        write_sealed(run.last, fill)  # type: ignore[arg-type]
    assert caught.value.filename == str(run.last)
    assert run.last.read_bytes() == before
    assert [path.name for path in run.checkpoints.iterdir()] == ["last.ckpt"]
