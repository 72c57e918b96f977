import errno
import hashlib
import json
import os
import resource
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from exfuse.errors import UserError, user_error
from exfuse.files import (
    check_folder,
    check_outputs,
    folder_name,
    is_locked,
    outputs,
    remove_abandoned,
    sha256,
    write_atomically,
    write_csv,
    write_folder,
    write_json,
    write_text,
)


def files_in(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_appears_under_its_name_in_a_new_folder(tmp_path):
    write_atomically(tmp_path / "new" / "table.csv", lambda scratch: scratch.write_text("whole"))
    assert files_in(tmp_path) == {"new/table.csv": "whole"}


def test_an_earlier_file_is_replaced(tmp_path):
    for content in ("a long first version", "second"):
        write_atomically(tmp_path / "a.txt", lambda scratch, content=content: scratch.write_text(content))
    assert files_in(tmp_path) == {"a.txt": "second"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [{}, {"a.txt": "old"}])
def test_a_writer_that_fails_halfway_leaves_the_folder_as_it_was(tmp_path, error, before):
    for name, content in before.items():
        (tmp_path / name).write_text(content)

    def fail(scratch: Path) -> None:
        scratch.write_text("half of")
        raise error

    with pytest.raises(error):
        write_atomically(tmp_path / "a.txt", fail)
    assert files_in(tmp_path) == before


def test_the_old_file_is_there_while_the_new_one_is_written(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    seen = []

    def write(scratch: Path) -> None:
        scratch.write_text("new")
        seen.append(path.read_text())

    write_atomically(path, write)
    assert (seen, path.read_text()) == (["old"], "new")


@pytest.mark.parametrize("name", ["table.npz", "weights.safetensors", "archive.tar.gz"])
def test_the_scratch_file_keeps_the_suffix_and_the_folder(tmp_path, name):
    scratches = []
    write_atomically(tmp_path / name, lambda scratch: (scratches.append(scratch), scratch.write_text("x")))
    (scratch,) = scratches
    assert scratch.suffix == Path(name).suffix
    assert scratch.parent == tmp_path  # a rename is atomic only within a file system
    assert scratch.name.startswith(".")  # no pattern such as *.npz takes it for a result
    assert files_in(tmp_path) == {name: "x"}


def test_a_file_is_as_private_as_its_user_wants(tmp_path, monkeypatch):
    for mask, mode in ((0o077, 0o600), (0o002, 0o664), (0o022, 0o644)):
        monkeypatch.setattr("exfuse.files._UMASK", mask)
        write_atomically(tmp_path / "a.txt", lambda path: path.write_text("a"))
        assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


def test_whether_a_lock_is_held_is_asked_without_writing(tmp_path):
    assert not is_locked(tmp_path / "a.lock")
    assert not [*tmp_path.iterdir()]
    with FileLock(tmp_path / "a.lock"):
        (tmp_path / "a.lock").chmod(0o444)
        assert is_locked(tmp_path / "a.lock")
    assert not is_locked(tmp_path / "a.lock")


def test_json_comes_back_as_it_was(tmp_path):
    content = {"status": "done", "scores": [0.1 + 0.2, None, 1e-300], "name": "Übergröße", "nested": {"a": {}}}
    write_json(tmp_path / "record.json", content)
    assert json.loads((tmp_path / "record.json").read_text()) == content


def test_content_that_json_cannot_hold_leaves_the_old_record(tmp_path):
    write_json(tmp_path / "record.json", {"status": "running"})
    with pytest.raises(TypeError):
        write_json(tmp_path / "record.json", {"status": {1, 2}})
    assert [json.loads(content) for content in files_in(tmp_path).values()] == [{"status": "running"}]


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1])
def test_hash_is_sha256_of_the_whole_content(tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert sha256(tmp_path / "file") == hashlib.sha256(content[:size]).hexdigest()


def test_a_missing_file_hashes_like_an_empty_one(tmp_path):
    assert sha256(tmp_path / "nothing") == hashlib.sha256(b"").hexdigest()


def test_a_folder_is_replaced_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "pictures"
    write_folder(folder, lambda scratch: (scratch / "a.txt").write_text("first"))
    assert (folder / "a.txt").read_text() == "first"

    def fail(scratch: Path) -> None:
        (scratch / "b.txt").write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_folder(folder, fail)
    assert [path.name for path in folder.glob("[!.]*")] == ["a.txt"]
    write_folder(folder, lambda scratch: (scratch / "b.txt").write_text("second"))
    assert [path.name for path in folder.glob("[!.]*")] == ["b.txt"]
    assert [path.name for path in folder.parent.iterdir()] == ["pictures"]


def test_a_folder_in_which_anything_is_somebody_elses_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for _ in range(2):
        check_folder(folder)  # missing, then as it was written
        write_folder(folder, lambda scratch: (scratch / "a.txt").write_text("first"), checked=True)
    shutil.copytree(folder, tmp_path / "moved")
    check_folder(tmp_path / "moved")
    for place, content in (("notes.txt", "mine"), ("a.txt", "mended"), ("deep/photo.jpg", "mine")):
        other = shutil.copytree(folder, tmp_path / "other")
        (other / place).parent.mkdir(exist_ok=True)
        (other / place).write_text(content)
        with pytest.raises(UserError, match="other is there, not written by exfuse or changed since"):
            check_folder(other)
        shutil.rmtree(other)
    (tmp_path / "mine").mkdir()
    check_folder(tmp_path / "mine")  # empty
    (tmp_path / "mine" / "index.json").write_text("{}")
    for wrong in ("mine", "mine/index.json"):
        with pytest.raises(UserError, match=f"{wrong} is there"):
            check_folder(tmp_path / wrong)


def test_what_killed_writers_left_goes_and_what_live_ones_write_stays(tmp_path: Path) -> None:
    (tmp_path / ".notes.txt").write_text("a user's own")
    for left in range(2):  # a process that dies while it writes a file, and one that dies while it writes a folder
        if (child := os.fork()) == 0:
            write = (write_folder, write_atomically)[left]
            write(tmp_path / f"{left}.ckpt", lambda _: os._exit(0))
        os.waitpid(child, 0)
    assert len([*tmp_path.iterdir()]) == 3

    def write(scratch: Path) -> None:
        scratch.write_text("whole")
        remove_abandoned(tmp_path)

    write_atomically(tmp_path / "last.ckpt", write)
    assert files_in(tmp_path) == {"last.ckpt": "whole", ".notes.txt": "a user's own"}


def test_whoever_writes_a_file_again_takes_away_what_killed_writers_of_it_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".mask.part-somebodys.png").write_text("a user's own")
    for name in ("mask.png", "other.png"):
        if (child := os.fork()) == 0:
            write_atomically(tmp_path / name, lambda _: os._exit(0))
        os.waitpid(child, 0)
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setattr("exfuse.files._FRESH", 0)
    with outputs([tmp_path / "mask.png"]):
        write_text(tmp_path / "mask.png", "whole")
    left = {path.name.partition(".part-")[0] for path in tmp_path.iterdir()}
    assert left == {"mask.png", ".mask", ".other"}  # the user's, and one that nobody writes now
    assert len([*tmp_path.iterdir()]) == 3


def test_a_folder_takes_away_what_killed_writers_of_it_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write() -> None:
        write_folder(tmp_path / "mine", lambda scratch: (scratch / "a.txt").write_text("whole"))

    (tmp_path / ".mine.part-notes").mkdir()  # a user's own
    for name in ("mine", "other"):
        if (child := os.fork()) == 0:
            write_folder(tmp_path / name, lambda _: os._exit(0))
        os.waitpid(child, 0)
    write()
    assert len([*tmp_path.iterdir()]) == 4  # of this moment: its writer may be about to take its lock
    monkeypatch.setattr("exfuse.files._FRESH", 0)
    write()
    assert sorted(path.name.partition(".part-")[0] for path in tmp_path.iterdir()) == [".mine", ".other", "mine"]
    assert (tmp_path / ".mine.part-notes").is_dir()


@pytest.mark.parametrize("before", [False, True])
def test_what_somebody_puts_there_during_the_work_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    monkeypatch.chdir(tmp_path)
    folder, file = tmp_path / "pictures", tmp_path / "a.png"

    def write(meanwhile: bool) -> None:
        def fill(scratch: Path) -> None:
            (scratch / "a.txt").write_text("ours")
            if meanwhile:
                folder.mkdir(exist_ok=True)
                (folder / "thesis.txt").write_text("mine")

        write_folder(folder, fill, checked=True)

    if before:
        write(False), write(False)
        with outputs([file]):
            for _ in range(2):  # a file may be written several times inside
                write_atomically(file, lambda scratch: scratch.write_text("ours"))
    with pytest.raises(UserError, match="pictures is there, not written by exfuse or changed since"):
        write(True)
    assert (folder / "thesis.txt").read_text() == "mine"
    with outputs([file]):
        file.write_text("mine")
        with pytest.raises(UserError, match=r"a\.png was put there or changed meanwhile"):
            write_atomically(file, lambda scratch: scratch.write_text("ours"))
    assert file.read_text() == "mine"
    file.unlink()
    with outputs([file]):
        write_text(file, "ours")
        file.unlink()  # which loses nobody anything
        write_text(file, "ours")
        file.write_text("the same")
        write_text(file, "the same")
    assert file.read_text() == "the same"
    assert not [path for path in tmp_path.iterdir() if ".part-" in path.name]


def test_what_was_written_is_known_after_its_project_has_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    with outputs([Path("table.csv")]):
        write_text(Path("table.csv"), "ours")
    project.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    with outputs([tmp_path / "moved" / "table.csv"]):
        pass
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"changed since, as far as {tmp_path}/outputs/written knows"):
        check_outputs([tmp_path / "moved" / "table.csv"])


@pytest.mark.parametrize("of", ["run a\rb", os.fsdecode(b"study \xff"), "Übung\nzwei"])
def test_of_what_an_output_is_may_be_named_by_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        check_folder(tmp_path / "pictures", of)
        write_folder(tmp_path / "pictures", lambda scratch: (scratch / "a.txt").write_text("ours"), checked=True, of=of)
        with outputs([tmp_path / "a.png"], of=[of]):
            write_text(tmp_path / "a.png", "ours")
    with pytest.raises(UserError, match="this would be of"):
        check_folder(tmp_path / "pictures", "something else")
    with pytest.raises(UserError, match="this would be of"):
        check_outputs([tmp_path / "a.png"], of=["something else"])


def test_what_was_noted_by_its_absolute_place_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("ours")
    note = tmp_path / "outputs" / "written" / hashlib.sha256(os.fsencode(tmp_path / "a.csv")).hexdigest()[:32]
    write_text(note, f"{sha256(tmp_path / 'a.csv')}\n")
    check_outputs([Path("a.csv")])


@pytest.mark.parametrize("stem", ["a" * 251, "ü" * 125, "x" * 100 + "." + "y" * 150])
def test_a_name_may_be_as_long_as_the_system_takes(tmp_path: Path, stem: str) -> None:
    write_atomically(tmp_path / f"{stem}.png", lambda scratch: scratch.write_text("whole"))
    write_folder(tmp_path / stem, lambda scratch: (scratch / "a.txt").write_text("whole"))
    assert {path.name for path in tmp_path.iterdir()} == {stem, f"{stem}.png"}


def test_an_error_of_the_system_names_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    def full(scratch: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(scratch))

    with pytest.raises(OSError, match=r"a\.txt") as caught:
        write_atomically(tmp_path / "a.txt", full)
    assert caught.value.filename == str(tmp_path / "a.txt")

    def nameless(scratch: Path) -> None:  # as the system is when a file is closed
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def inside(scratch: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(scratch / "lists" / "train.txt"))

    for fails, write in ((nameless, write_atomically), (nameless, write_folder), (inside, write_folder)):
        with pytest.raises(OSError, match="b") as caught:
            write(tmp_path / "b", fails)
        assert caught.value.filename == str(tmp_path / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file") as caught:
        write_atomically(tmp_path / "file" / "a.txt", full)
    message = str(user_error(caught.value))
    assert message.startswith(f"{tmp_path / 'file'} cannot be read or written: a file stands where a folder is needed.")


def test_what_a_library_hides_the_system_is_asked_again(tmp_path: Path) -> None:
    def hide(scratch: Path) -> None:
        raise RuntimeError("unexpected pos 900928 vs 900824")

    with pytest.raises(RuntimeError, match="unexpected pos"):  # the disk has space: it was something else
        write_atomically(tmp_path / "a.onnx", hide)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, usual[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_atomically(tmp_path / "a.onnx", hide)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert str(user_error(caught.value)).startswith(f"{tmp_path / 'a.onnx'} cannot be read or written: it would be larger")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("value", "cell"), [("=1+1", "'=1+1"), ("+seb", "'+seb"), ("@a", "'@a"), ("-x", "'-x"), ("\t=1", "'\t=1")]
)
def test_text_that_a_spreadsheet_would_calculate_stays_text(value: str, cell: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [[value, "-1.5e-3", "+2", -1, None, "seb"]])
    assert (tmp_path / "a.csv").read_text() == f"{cell},-1.5e-3,+2,-1,,seb\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("generated scenes val", "generated_scenes_val"),
        ("VOC animals, augmented (subset) val", "voc_animals_augmented_subset_val"),
        ("../../tmp/mine", "tmp_mine"),
        ("/etc", "etc"),
        ("..", "data"),
        ("a\nb\x1b[31m", "a_b_31m"),
        ("é" * 200, "é" * 80),
    ],
)
def test_any_text_names_one_folder(text: str, name: str) -> None:
    assert folder_name(text) == name
