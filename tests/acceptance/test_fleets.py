"""A real Slurm and a real Ray start workers, and SkyPilot reads its task. `make test-fleets` installs them."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.runs import RunOutcome
from swarm import Client
from tests.acceptance.conftest import Volunteer
from tests.support.ports import choose_port

pytestmark = [pytest.mark.fleets, pytest.mark.timeout(600)]

FLEETS = Path(__file__).parents[2] / "docker/fleets"
OURS = Path(sys.executable).parent
PROGRAMS = Path(sys.prefix, "fleets/bin")
"""Ray and SkyPilot, in an environment of their own."""

SECONDS = 120

SLURM = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=2000
PartitionName=all Nodes={host} Default=YES State=UP
"""


def make_environment(volunteer: Volunteer, **more: str) -> dict[str, str]:
    """The environment of somebody who starts a fleet; the worker's program is on the path."""
    return volunteer.environment | {
        "PATH": f"{OURS}:{os.environ['PATH']}:/usr/sbin", "SWARM_COORDINATOR_URL": volunteer.url,
        "SWARM_TOKEN": volunteer.token, "SWARM_DATA_DIR": str(volunteer.folder / "workers"), **more,
    }  # fmt: skip


@contextmanager
def run_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """A cluster of this machine alone; the variables by which its commands find it."""
    (folder / "munge").mkdir(parents=True, mode=0o700)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge/key").write_bytes(os.urandom(1024))
    (folder / "munge/key").chmod(0o400)
    (folder / "slurm.conf").write_text(
        SLURM.format(
            folder=folder,
            host=socket.gethostname().partition(".")[0],
            ports=[choose_port(), choose_port()],
            cores=os.cpu_count(),
            user=os.environ.get("USER", "root"),
        )
    )
    found = {"SLURM_CONF": str(folder / "slurm.conf")}
    munge = ["munged", "--foreground", "--force"]
    munge += [f"--{name}-file={folder}/munge/{name}" for name in ("key", "pid", "log", "seed")]
    commands = [[*munge, f"--socket={folder}/munge/socket"], ["slurmctld", "-D"], ["slurmd", "-D"]]
    environment = os.environ | found | {"PATH": f"{os.environ['PATH']}:/usr/sbin"}
    running = []
    try:
        for command in commands:
            with (folder / f"{command[0]}.log").open("w") as log:
                running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
            if command is commands[0]:
                wait_for((folder / "munge/socket").exists)
        yield found
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(SECONDS)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not start"
        time.sleep(0.05)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(command: list[str | Path], environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=4 * SECONDS)
    logs = "".join(path.read_text() for path in folder.glob("swarm-*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return done.stdout + done.stderr


def list_workers(volunteer: Volunteer) -> list[str]:
    """Names of the workers whose results the coordinator has; all of them are whole."""
    with Client(volunteer.url) as client:
        runs = client.list_runs("codec")
    assert {run.outcome for run in runs} == {RunOutcome.OK}
    return sorted(run.worker.rpartition("/")[2] for run in runs)


def test_slurm_runs_an_array_of_workers(codec: Volunteer, tmp_path: Path) -> None:
    with run_slurm(tmp_path / "slurm") as slurm:
        run(
            ["sbatch", "--wait", "--array=0-1", "--gres=none", "--cpus-per-task=1", "--mem=900M", "--time=10",
             FLEETS / "slurm.sbatch", "--device", "cpu", "--cores", "1", "--max-jobs", "1"],
            make_environment(codec, **slurm), tmp_path,
        )  # fmt: skip
    assert list_workers(codec) == ["swarm-0-cpu", "swarm-1-cpu"]


def test_ray_runs_workers(codec: Volunteer, tmp_path: Path) -> None:
    port, dashboard = choose_port(), choose_port()
    environment = make_environment(codec, RAY_ADDRESS=f"http://127.0.0.1:{dashboard}", RAY_USAGE_STATS_ENABLED="0")
    environment["PATH"] = f"{PROGRAMS}:{environment['PATH']}"
    head = ["ray", "start", "--head", f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=2", "--block"]
    with (
        tempfile.TemporaryDirectory(prefix="ray-") as folder,  # the test's own makes too long names of sockets
        subprocess.Popen(
            [*head, "--include-dashboard=true", "--disable-usage-stats", f"--temp-dir={folder}"],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as cluster,
    ):  # fmt: skip
        try:
            submit = ["ray", "job", "submit", "--working-dir", str(FLEETS), "--", "python", "ray_workers.py"]
            flags = ["--workers=2", "--gpus=0", "--cpus=1", "--", "--device", "cpu", "--cores", "1", "--max-jobs", "1"]
            wait_for(lambda: is_open(dashboard))
            assert "succeeded" in run([*submit, *flags], environment, tmp_path)
        finally:
            cluster.terminate()
    assert list_workers(codec) == ["ray-0-cpu", "ray-1-cpu"]


def test_skypilot_reads_the_task(tmp_path: Path) -> None:
    program = f"import sky; task = sky.Task.from_yaml({str(FLEETS / 'skypilot.yaml')!r}); print(len(task.resources))"
    environment = os.environ | {"HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    assert run([PROGRAMS / "python", "-c", program], environment, tmp_path).split()[-1] == "4"
