"""A real SLURM of one node, started for the tests: munged, slurmctld and slurmd, in one folder and on free ports."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.pace import patience

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "sinfo", "squeue", "setpriv")
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # where daemons lie; not on everyone's PATH
_START_SECONDS = patience(60)

_CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SchedulerParameters=sched_interval=2,batch_sched_delay=1
KillWait=5
ReturnToService=2
# as many jobs at a time as the tests ask for, however many cores there are
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class NoSlurm(Exception):
    """SLURM cannot be started here; the message says why."""


@contextmanager
def one_node_slurm(cpus: int = 2) -> Iterator[dict[str, str]]:
    """Start SLURM; yield the environment in which sbatch, squeue and so on find it. Nothing of it is left afterwards.

    Args:
        cpus: how many CPUs the node claims to have, which bounds how many jobs run at a time.

    Raises:
        NoSlurm: if its programs are absent, the user is not root, or a daemon does not come up.
    """
    path = os.pathsep.join((os.environ.get("PATH", ""), _SBIN))
    absent = [program for program in _PROGRAMS if shutil.which(program, path=path) is None]
    if absent:
        raise NoSlurm(f"no SLURM here, {', '.join(absent)} not found: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        raise NoSlurm("SLURM's daemons run as root, which this user is not")
    # Not in pytest's folder: munged wants parents that everyone may enter, and a socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, ExitStack() as daemons:
        folder = Path(name)
        folder.chmod(0o755)
        others = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}  # of a job we may be in
        environment = {**others, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
        _configure(folder, cpus)
        _start_munged(folder, environment, daemons)
        started = [_start([program, "-D"], folder, environment, daemons) for program in ("slurmctld", "slurmd")]
        _wait_until_idle(folder, environment, started)
        daemons.callback(_cancel_jobs, environment)  # first, while the daemons still live
        yield environment


def _configure(folder: Path, cpus: int) -> None:
    controller_port, node_port = free_ports(2)
    host = socket.gethostname().partition(".")[0]
    text = _CONFIG.format(host=host, controller_port=controller_port, node_port=node_port, folder=folder, cpus=cpus)
    (folder / "slurm.conf").write_text(text)
    for part in ("state", "spool"):
        (folder / part).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)


def _start_munged(folder: Path, environment: dict[str, str], daemons: ExitStack) -> None:
    files = {"socket": "munge.socket", "key-file": "munge.key", "log-file": "munged.log", "pid-file": "munged.pid"}
    files |= {"seed-file": "munged.seed"}
    # --force: munged prefers not to be root
    options = ["--foreground", "--force", *(f"--{option}={folder / file}" for option, file in files.items())]
    _start(["munged", *options], folder, environment, daemons)
    deadline = time.monotonic() + _START_SECONDS
    while not (folder / "munge.socket").exists():
        if time.monotonic() > deadline:
            raise NoSlurm(f"munged opened no socket within {_START_SECONDS} s: {_last_words(folder)}")
        time.sleep(0.05)


def _start(command: list[str], folder: Path, environment: dict[str, str], daemons: ExitStack) -> "subprocess.Popen[bytes]":
    # setpriv: a daemon ends with the tests even if these are killed
    with (folder / f"{command[0]}.out").open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "SIGTERM", *command], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    daemons.callback(_stop, process)
    return process


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(patience(10))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_idle(folder: Path, environment: dict[str, str], daemons: list["subprocess.Popen[bytes]"]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        asked = subprocess.run(["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True)
        if asked.stdout.strip() == "idle":
            return
        if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in daemons):
            state = asked.stdout.strip() or asked.stderr.strip()
            raise NoSlurm(f"SLURM's node did not become idle but {state}: {_last_words(folder)}")
        time.sleep(0.2)


def _cancel_jobs(environment: dict[str, str]) -> None:
    """Cancel what still runs, and wait for it: slurmd's children outlive slurmd."""
    subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True)
    deadline = time.monotonic() + patience(15)
    while time.monotonic() < deadline:
        queue = subprocess.run(["squeue", "--noheader"], env=environment, capture_output=True, text=True)
        if not queue.stdout.strip():
            return
        time.sleep(0.2)


def _last_words(folder: Path) -> str:
    """The last line of every daemon's log."""
    logs = [*folder.glob("*.log"), *folder.glob("*.out")]
    lines = [(log.name, log.read_text(errors="replace").strip().splitlines()) for log in sorted(logs)]
    return "; ".join(f"{name}: {content[-1]}" for name, content in lines if content)


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()
