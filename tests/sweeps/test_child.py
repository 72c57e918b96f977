"""What a supervisor reads off a child that ended."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from exfuse.errors import ConfigError, reason_of
from exfuse.runs import child, server
from exfuse.runs.backbones import run_pretraining
from exfuse.runs.child import Ended, Patience, _complaint, _environment, run_child
from exfuse.runs.server import Forked
from exfuse.store.folder import RunFolder
from exfuse.store.outcome import Outcome
from exfuse.sweeps.collect import swept_besides
from exfuse.sweeps.ending import _shared_reasons, _table
from exfuse.sweeps.supervisor import judge
from exfuse.sweeps.watching import names_of
from tests.pace import patience
from tests.records import leave_record


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["warning: x", "Error: data not found.", "Set data.root."], "data not found."),
        (["Traceback (most recent call last):", "  File x", "ValueError: too big", ""], "ValueError: too big"),
        ([], ""),
    ],
)
def test_the_complaint_is_the_line_that_says_what_is_wrong(lines: list[str], complaint: str) -> None:
    assert _complaint(lines) == complaint


def test_a_child_does_not_take_the_supervisors_cluster_job_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    environment = _environment()
    assert environment["OMP_NUM_THREADS"] == "3"
    assert not {"SLURM_NTASKS", "HYDRA_FULL_ERROR"} & environment.keys()


def test_a_held_run_is_told_from_a_failed_one() -> None:
    assert Ended(75, "", False).held
    assert not Ended(1, "", False).held


_CAUSED = "The above exception was the direct cause of the following exception:"
_MEANWHILE = "During handling of the above exception, another exception occurred:"
_OURS = "exfuse.errors.DataError"
_TRACE = "Traceback (most recent call last):\n  File x, line 1, in f\n    g()\n"


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (f"{_TRACE}ValueError: too big\nSee the manual for\nmore.", "ValueError: too big"),
        (f"{_TRACE}torch.OutOfMemoryError: CUDA is full.\nTried to allocate\n\n", "torch.OutOfMemoryError: CUDA is full."),
        (f"{_TRACE}KeyError: 'a'\n\n{_CAUSED}\n\n{_TRACE}RuntimeError: DataLoader worker exited", "KeyError: 'a'"),
        (f"{_TRACE}KeyError: 'a'\n\n{_MEANWHILE}\n\n{_TRACE}OSError: b", "OSError: b"),
        (f"{_TRACE}{_OURS}: Caught DataError in worker.\nOriginal {_TRACE}{_OURS}: x.png is cut.\nMend it.", "x.png is cut."),
        ("half a line of something", "half a line of something"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_reason_is_what_was_wrong_not_the_last_line(trace: str, reason: str) -> None:
    assert reason_of(trace) == reason


def put_in_the_place_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    (tmp_path / "exfuse").mkdir()
    (tmp_path / "exfuse" / "__main__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def child_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, patience: Patience) -> Ended:
    put_in_the_place_of_a_training(tmp_path, monkeypatch, code)
    return run_child("train", [], tmp_path / "log", patience)


def test_a_child_that_stands_still_is_said_once_and_ended_as_asked(tmp_path, monkeypatch):
    said: list[str] = []
    code = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(60)"
    monkeypatch.setattr(child, "_GRACE", 0.5)
    ended = child_of(tmp_path, monkeypatch, code, Patience(0.5, 2.0, said.append))
    assert ended.hung >= 2
    assert ended.returncode == -9  # it did not end by itself
    assert not ended.interrupted
    assert len(said) == 1
    assert "no progress for" in said[0]
    assert "sweep.timeout" in said[0]


def test_a_child_that_goes_on_is_left_alone_however_long_it_takes(tmp_path, monkeypatch):
    said: list[str] = []
    code = "import os, time\nfor _ in range(12):\n    os.utime(os.environ['EXFUSE_HEARTBEAT'])\n    time.sleep(0.25)"
    ended = child_of(tmp_path, monkeypatch, code, Patience(1.5, 1.5, said.append))
    assert (ended.returncode, ended.hung, said) == (0, 0.0, [])


def test_a_clock_that_jumps_is_no_standstill(tmp_path, monkeypatch):
    said: list[str] = []
    code = "import os, time\nthen = time.time() - 3600\nos.utime(os.environ['EXFUSE_HEARTBEAT'], (then, then))\ntime.sleep(2)"
    ended = child_of(tmp_path, monkeypatch, code, Patience(30, 30, said.append))
    assert (ended.returncode, ended.hung, said) == (0, 0.0, [])


_INTERRUPTED = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
Path(sys.argv[0]).with_name("started").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("Error: interrupted.", file=sys.stderr)
    sys.exit(130)
"""


def test_a_pretraining_ends_with_the_training_that_asked_for_it_and_one_of_them_says_so(tmp_path, monkeypatch, capfd):
    put_in_the_place_of_a_training(tmp_path, monkeypatch, _INTERRUPTED)

    def order_to_end() -> None:
        while not (tmp_path / "exfuse" / "started").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=order_to_end).start()
    with pytest.raises(KeyboardInterrupt):
        run_pretraining(["seed=0"])
    assert "Error" not in capfd.readouterr().err


def test_why_a_pretraining_failed_is_said_once(tmp_path, monkeypatch, capfd):
    put_in_the_place_of_a_training(tmp_path, monkeypatch, "import sys\nsys.exit('before\\nError: no data.\\nSet data.root.')")
    with pytest.raises(ConfigError, match=r"could not be made \(exfuse pretrain seed=0\): no data\.\nSet data\.root\."):
        run_pretraining(["seed=0"])
    assert capfd.readouterr().err == "before\n"


def test_the_progress_of_a_childs_child_is_the_childs(tmp_path, monkeypatch):
    heart = tmp_path / "heart"
    heart.touch()
    os.utime(heart, (0, 0))
    monkeypatch.setenv("EXFUSE_HEARTBEAT", str(heart))
    ended = child_of(tmp_path, monkeypatch, "import os\nos.utime(os.environ['EXFUSE_HEARTBEAT'])", Patience(0.1, 0.1))
    assert (ended.returncode, ended.hung) == (0, 0.0)
    assert heart.stat().st_mtime > 0


def test_a_run_that_hung_is_recorded_as_failed_with_the_reason(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "0" * 16)
    leave_record(folder, "interrupted")
    assert judge(folder, Ended(-2, "", False, hung=31.4)) == (
        "failed",
        "it made no progress for 31 s, and sweep.timeout ended it",
    )
    record = folder.record()
    assert record is not None
    assert (record.status, record.why) == ("failed", "it made no progress for 31 s, and sweep.timeout ended it")


def test_a_reason_that_many_runs_have_stands_once() -> None:
    why = ["no data", "no data", "no data", "its own", "its own", ""]
    outcomes = [Outcome(number, [], "row", number, {}, reason=reason, log="/no/such.log") for number, reason in enumerate(why)]
    shared = _shared_reasons(outcomes)
    assert shared == {"no data": "(1)"}
    cells = [*_table(outcomes, {id(one): one.row for one in outcomes}, shared).columns[-1].cells]
    assert cells == ["(1)", "(1)", "(1)", "its own", "its own", ""]


def test_a_summary_names_jobs_by_what_was_swept() -> None:
    jobs = [Outcome(number, ["+ablation=seb", f"recipe.lr={lr}", "seed=0"], "seb", 0, {}) for number, lr in enumerate((1, 2))]
    assert [*names_of(jobs).values()] == ["seb recipe.lr=1", "seb recipe.lr=2"]
    assert swept_besides(jobs, ["++recipe.lr"]) == [[], []]  # settled by a search, however its key was typed


def test_a_child_that_a_wall_clock_limit_ended_was_interrupted_and_no_sweep_ends_with_it(tmp_path):
    folder = RunFolder(tmp_path, "a" * 16)
    leave_record(folder, "interrupted")
    ended = Ended(130, "trainer.max_time=00:00:00:01 is over after step 3.", False)
    assert judge(folder, ended) == ("interrupted", "interrupted; the same command goes on from the last saved epoch")
    assert not ended.interrupted  # by which a sweep would end


@pytest.mark.parametrize(("last", "status"), [(b"0\n", 0), (b"-15\n", -15), (b"", 130)])
def test_a_forked_run_ends_as_its_server_says_or_with_it(last: bytes, status: int) -> None:
    (told, tell), (errors, complain) = os.pipe(), os.pipe()
    os.write(tell, b"4321\n")
    forked = Forked(told, errors)
    assert forked.pid == 4321
    with pytest.raises(subprocess.TimeoutExpired):
        forked.wait(0.01)
    os.write(tell, last)
    for one in (tell, complain):
        os.close(one)
    with forked:
        assert forked.wait(patience(5)) == forked.returncode == status


def test_a_server_that_ends_before_it_has_started_a_run_is_an_error(tmp_path, monkeypatch):
    put_in_the_place_of_a_training(tmp_path, monkeypatch, "")  # a package without a server
    with pytest.raises(ChildProcessError, match="ended before it started one"):
        run_child("train", [], tmp_path / "log", served=True)


def test_a_run_whose_server_was_killed_is_waited_for() -> None:
    (told, tell), (errors, complain) = os.pipe(), os.pipe()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as run:
        os.write(tell, f"{run.pid}\n".encode())
        for one in (tell, complain):
            os.close(one)
        with Forked(told, errors) as forked:
            with pytest.raises(subprocess.TimeoutExpired):
                forked.wait(0.1)
            run.kill()
            assert forked.wait(patience(10)) == 130  # as what the end of its server interrupts


def test_half_a_request_ends_a_server() -> None:
    ours, theirs = socket.socketpair()
    ours.sendall(b'{"words": [')
    ours.close()
    with theirs:
        assert server._serve(theirs, lambda _: lambda: None) is None


def test_a_server_with_other_code_than_lies_there_is_not_asked(tmp_path, monkeypatch) -> None:
    package = tmp_path / "exfuse" / "runs"
    package.mkdir(parents=True)
    (package / "server.py").write_text("")
    monkeypatch.setattr(server, "__file__", str(package / "server.py"))
    monkeypatch.setattr(server.subprocess, "Popen", lambda *_, stdin, **__: os.dup(stdin))  # somebody who holds on to it
    one = server.Server({"A": "1"})
    assert one.fits({"A": "1"})
    assert not one.fits({"A": "2"})
    (package / "server.py").write_text("EDITED = 1")
    assert not one.fits({"A": "1"})


@pytest.mark.skipif(sys.platform != "linux", reason="a server ends with its parent, and its runs with it, on Linux")
def test_processes_share_a_server_unless_it_has_ended_or_runs_other_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start = subprocess.Popen
    code = "from exfuse.runs import server\nserver._LIBRARIES = ()\nserver._main()"
    monkeypatch.setattr(server, "_shared", None)
    monkeypatch.setattr(
        server.subprocess, "Popen", lambda command, **more: start([*command[:1], "-c", code, *command[3:]], **more)
    )
    monkeypatch.setitem(os.environ, server.SHARED, "")
    environment, clients = _environment(), []

    def connected() -> bool:
        """Whether one more client has a fork of the shared server; either way what it asks for is done."""
        clients.append(server.Server(environment))
        told, tell = os.pipe()
        with clients[-1].start(["--help"], environment, tell) as run:
            os.close(tell)
            with os.fdopen(told) as output:
                assert "exfuse VERB" in output.read()
        assert run.returncode == 0
        return not hasattr(clients[-1], "process")

    server.start_shared(environment)
    process, folder = server._shared.process, Path(os.environ[server.SHARED]).parent  # type: ignore[attr-defined]
    assert folder.stat().st_mode & 0o077 == 0
    assert [connected(), connected()] == [True, True]
    server.start_shared(environment)
    assert server._shared.process is process  # type: ignore[attr-defined]
    clients[0].connection.close()
    assert [one.fits(environment) for one in clients] == [False, True]

    with monkeypatch.context() as edited:
        edited.setattr(server, "code_of_package", lambda: "0" * 64)
        assert not connected()
        assert not clients[1].fits(environment)
    process.kill()
    process.wait()
    assert clients[1].fits(environment)  # a fork outlives what it was forked from
    assert not connected()
    server.start_shared(environment)
    assert connected()
    assert not folder.exists()
    process, folder = server._shared.process, Path(os.environ[server.SHARED]).parent
    server.start_shared(environment | {"OMP_NUM_THREADS": "7"})
    assert process.wait(patience(10))
    assert not folder.exists()
    assert server._shared.process.poll() is None
    monkeypatch.setattr(server, "_shared", None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 30)))
    (tmp_path / ("long" * 30)).mkdir()
    server.start_shared(environment)  # no socket has such a path
    assert server._shared is None
    for one in clients:
        one.connection.close()


def test_what_a_server_imports_makes_no_folder_that_the_first_fork_to_end_would_take_away() -> None:
    """W&B makes some on its import, which timm asks for. What is left out can be imported as ever afterwards."""
    code = (
        "import atexit, importlib, sys, tempfile\nmade = []\nmake = tempfile.mkdtemp\n"
        "tempfile.mkdtemp = lambda *a, **k: made.append(make(*a, **k)) or made[-1]\n"
        "from exfuse.imports import without_unused\nfrom exfuse.runs.server import _LIBRARIES\n"
        "with without_unused():\n    [importlib.import_module(name) for name in _LIBRARIES]\n"
        "print(made, 'timm' in sys.modules, 'wandb' in sys.modules, 'scipy.stats' in sys.modules)\n"
        "import wandb, scipy.signal\nprint(wandb.__name__, scipy.signal.windows.hamming(1))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=patience(120), check=True)
    assert done.stdout.split("\n")[:2] == ["[] True False False", "wandb [1.]"]
