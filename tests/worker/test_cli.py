"""worker/cli.py, worker/start.py: the program as a person starts it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from coordinator.db.database import Database
from coordinator.settings import CoordinatorSettings
from shared.protocol import now
from tests.support.tokens import create_token
from tests.worker.conftest import LiveCoordinator, serve
from worker.cli import main
from worker.loop.availability import DAYS

PROGRAM = str(Path(sys.executable).with_name("swarm-worker"))


@pytest.fixture
def empty(coordinator_settings: CoordinatorSettings) -> Iterator[LiveCoordinator]:
    """A coordinator without any project: there is nothing to do."""
    database = Database(coordinator_settings.database_url)
    with database.write() as session:
        token = SecretStr(create_token(session, "ada", "test"))
    database.close()
    with serve(coordinator_settings) as url:
        yield LiveCoordinator(url, token)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A worker's environment: its own home, a CPU, an unknown token, and an address where nobody answers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SWARM_")}
    return kept | {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "SWARM_COORDINATOR_URL": "http://127.0.0.1:1",
        "SWARM_TOKEN": "t0ken-that-must-not-be-shown",
        "SWARM_DEVICE": "cpu",
        "SWARM_NAME": "box",
        "SWARM_SANDBOX": "unconfined",
    }


@dataclass(frozen=True)
class Done:
    """How a program ended."""

    returncode: int
    stdout: str
    stderr: str

    def __post_init__(self) -> None:
        assert "Traceback" not in self.stderr
        assert "t0ken" not in self.stdout + self.stderr


RunHere = Callable[..., Done]


def run(environment: dict[str, str], *arguments: str) -> Done:
    """Run the program as a process."""
    done = subprocess.run([PROGRAM, *arguments], env=environment, capture_output=True, text=True, timeout=60)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> RunHere:
    """Run the program within this process, which spares a second of imports."""

    def run_it(environment: dict[str, str], *arguments: str) -> Done:
        for name in os.environ.keys() - environment.keys():
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["swarm-worker", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(ended.value.code or 0, *capfd.readouterr())

    return run_it


def at(coordinator: LiveCoordinator) -> dict[str, str]:
    return {"SWARM_COORDINATOR_URL": coordinator.url, "SWARM_TOKEN": coordinator.token.get_secret_value()}


@pytest.mark.parametrize(
    ("arguments", "changes", "status", "words"),
    [
        ((), {}, 1, "no answer from http://127.0.0.1:1: Connection refused. Is it running"),
        (("run", "--once"), {}, 1, "Is it running, and is SWARM_COORDINATOR_URL right?"),
        ((), {"SWARM_TOKEN": ""}, 4, "there is no token: set SWARM_TOKEN_FILE"),
        ((), {"SWARM_TOKEN": "two words"}, 4, "SWARM_TOKEN) holds no token"),
        (("--token-file", "/nowhere/token"), {}, 4, "cannot read the token's file /nowhere/token"),
        ((), {"SWARM_DEVICE": "cpu", "SWARM_CORES": "4096"}, 1, "4096 CPU cores"),
        (("--gpu", "7"), {}, 1, "no NVIDIA driver answers|there is no GPU"),
        (("--gpu", "0,999"), {}, 1, "no NVIDIA driver answers|there is no GPU"),
        (("--gpu", "first"), {}, 2, "several (0,1), or all"),
        (("--gpu", "0", "--device", "cpu"), {}, 2, "either --gpu or --device"),
        (("--schedule", "22-7"), {}, 2, "'22-7' is not a span of hours: write 22:00-07:00"),
        (("--when-idle",), {}, 2, "--when-idle needs a GPU"),
        (("--device", "tpu"), {}, 2, "setting 'device' is wrong"),
        (("--data-dir", "/dev/null/x"), {}, 1, "cannot write to /dev/null/x: Not a directory. Choose another"),
        (("--sandbox", "bubblewrap"), {"PATH": "/nowhere"}, 1, "bubblewrap is not installed"),
        (("--agent", "scripted"), {}, 2, "--agent scripted and --script FILE come together"),
        (("--script", "/nowhere.toml"), {}, 2, "cannot read the script /nowhere.toml"),
        (("--nonsense",), {}, 2, "nonsense"),
        (("--cores", "many"), {}, 2, "'many' must be a whole number"),
        (("statsu",), {}, 2, "there is no command 'statsu'; did you mean status?"),
        (("--model", "m"), {}, 2, "add --agent openai"),
        (("--agent", "openai", "--agent-command", "cat"), {}, 2, "for a coding tool, which openai is not"),
    ],
)
def test_a_bad_situation_is_one_clear_line_and_a_status(
    run_here: RunHere,
    environment: dict[str, str],
    arguments: tuple[str, ...],
    changes: dict[str, str],
    status: int,
    words: str,
) -> None:
    done = run_here(environment | changes, *arguments)
    assert done.returncode == status, done.stderr
    last = " ".join(done.stderr.split())
    assert any(word in last for word in words.split("|")), done.stderr
    assert done.stdout == ""


def test_no_device_is_asked_for(run_here: RunHere, environment: dict[str, str]) -> None:
    del environment["SWARM_DEVICE"]
    done = run_here(environment)
    assert (done.returncode, "--gpu 0" in done.stderr) == (2, True)


def test_a_token_nobody_gave_out(run_here: RunHere, environment: dict[str, str], empty: LiveCoordinator) -> None:
    done = run_here(environment | {"SWARM_COORDINATOR_URL": empty.url})
    assert done.returncode == 4
    assert "does not accept this worker" in done.stderr


def test_an_unknown_project(run_here: RunHere, environment: dict[str, str], empty: LiveCoordinator) -> None:
    done = run_here(environment | at(empty), "--project", "nowhere")
    assert done.returncode == 1
    assert "nowhere" in done.stderr.splitlines()[-1]


def test_once_outside_the_hours_ends_and_does_not_wait_for_them(
    run_here: RunHere, environment: dict[str, str], empty: LiveCoordinator
) -> None:
    far = DAYS[(now().astimezone().weekday() + 3) % 7]
    done = run_here(environment | at(empty), "--once", "--schedule", far)
    assert done.returncode == 75, done.stderr
    assert f"Paused outside the hours {far}" in done.stderr


def test_nothing_to_do_once(run_here: RunHere, environment: dict[str, str], empty: LiveCoordinator) -> None:
    done = run_here(environment | at(empty) | {"SWARM_MAX_WATTS": "200"}, "--once")
    assert done.returncode == 75
    assert "This coordinator has no project yet." in done.stderr
    assert "'max_watts' is for a GPU" in done.stderr


def test_without_a_sandbox_it_warns_at_each_start(
    run_here: RunHere, environment: dict[str, str], empty: LiveCoordinator
) -> None:
    for _ in range(2):
        assert "NO SANDBOX" in run_here(environment | at(empty), "--once").stderr
    assert "NO SANDBOX" not in run_here(environment | at(empty), "--once", "--sandbox", "bubblewrap").stderr


def test_two_processes_never_share_an_outbox_and_sigterm_ends_an_idle_one(
    environment: dict[str, str], empty: LiveCoordinator
) -> None:
    environment |= at(empty)
    with subprocess.Popen([PROGRAM, "--plain"], env=environment, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        assert any("waiting" in line for line in iter(first.stderr.readline, ""))
        second = run(environment)
        assert second.returncode == 1
        assert "another process works as 'box-cpu'" in second.stderr and "--name" in second.stderr
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0


def test_real_workers_work_side_by_side_and_finish_when_their_parent_is_killed(
    environment: dict[str, str], empty: LiveCoordinator
) -> None:
    """The parent is a program of two lines, because a machine without GPUs has no two devices."""
    program = """
        import os, sys
        from worker.settings import RunOptions
        from worker.loop.stop import Stop
        from worker.multi_gpu import WorkerProcess, WorkerGroup, worker_command
        from worker.multi_gpu import PlainGroupView
        workers = [
            WorkerProcess(name, worker_command({"name": name, "cores": 1}, RunOptions()))
            for name in ("left", "right")
        ]
        WorkerGroup(workers, PlainGroupView(sys.stderr, sys.stdout), restarts=True).run(Stop())
    """
    command = [sys.executable, "-c", re.sub(r"(?m)^ {8}", "", program)]
    with subprocess.Popen(command, env=environment | at(empty), stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stderr is not None
        waiting: set[str] = set()
        while waiting != {"left", "right"}:
            line = parent.stderr.readline()
            assert line, "the parent ended"
            if "event=waiting" in line:
                waiting.add(line.removeprefix("worker=").split()[0])
        children = psutil.Process(parent.pid).children()
        assert len(children) == 2
        os.kill(parent.pid, signal.SIGKILL)
        gone, _ = psutil.wait_procs(children, timeout=60)
        assert len(gone) == 2


def test_the_sandbox_command_tells_which_one(run_here: RunHere, environment: dict[str, str]) -> None:
    done = run_here(environment, "sandbox", "--sandbox", "bubblewrap")
    assert (done.returncode, done.stdout, done.stderr) == (0, "bubblewrap\n", "")
    done = run_here(environment | {"PATH": "/nowhere"}, "sandbox", "--sandbox", "bubblewrap")
    assert (done.returncode, done.stdout) == (1, "")
    assert "install" in done.stderr


def test_an_install_without_the_workers_parts_says_what_to_install(environment: dict[str, str]) -> None:
    program = "import sys; sys.modules['tenacity'] = None; from worker.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program, "--once"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("tenacity is not installed: pip install 'research-swarm[worker]'")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help")])
def test_help_teaches_with_examples(run_here: RunHere, environment: dict[str, str], arguments: tuple[str, ...]) -> None:
    done = run_here(environment, *arguments)
    assert done.returncode == 0
    assert "  swarm-worker --gpu 0 --once           one job; exit status 75: there is none\n" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_version(run_here: RunHere, environment: dict[str, str]) -> None:
    assert run_here(environment, "--version").stdout.startswith("swarm-worker 0.")


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("worker.cli", {"torch", "optuna", "httpx", "pydantic_settings", "dulwich", "rich.live"}),
        ("worker.ui.status", {"torch", "httpx", "structlog", "shared.contract", "pydantic_settings"}),
        ("worker.loop.stop", {"pydantic_settings", "psutil"}),
        ("worker.settings", {"httpx", "rich"}),
        ("worker.start", {"torch", "optuna"}),
        ("worker.agents.search", {"torch"}),
    ],
)
def test_what_is_not_needed_is_not_imported(module: str, heavy: set[str]) -> None:
    program = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
