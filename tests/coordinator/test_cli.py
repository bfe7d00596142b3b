"""`swarm-coordinator`: what it says when something is wrong, and as a process that it serves and stops."""

import errno
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree

import httpx
import pytest
from typer.testing import CliRunner

from coordinator.cli import app, listen
from coordinator.db.database import Database
from shared import seeds
from shared.seeds import SEEDS_FOLDER
from tests.support.seeds import write_seed
from tests.support.sessions import BRANCH, HARDWARE, write_small_session

COMMAND = str(Path(sys.executable).with_name("swarm-coordinator"))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that does its work and ends: in this process, for a new one takes seconds to begin."""
    done = CliRunner().invoke(app, arguments, env=environment, catch_exceptions=False)
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A server that cannot start."""
    return subprocess.run(
        [COMMAND, "serve", *arguments], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/swarm/coordinator.db"


def assert_one_clear_line(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_modules_that_a_command_does_not_need_are_not_loaded(database_url: str) -> None:
    """Help loads neither a database nor a web framework, and a database that is up to date needs no Alembic."""
    run("migrate", SWARM_DATABASE_URL=database_url)
    program = (
        "import sys; import coordinator.cli; "
        "print(sorted({'sqlalchemy', 'fastapi', 'numpy', 'dulwich', 'uvicorn', 'structlog'} & set(sys.modules)));"
        "from coordinator.db.database import Database; database = Database(sys.argv[1]); database.migrate(); "
        "print(database.is_current(), sorted({'alembic', 'mako', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, database_url], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True []"]


def test_projects_and_tokens(database_url: str, tmp_path: Path) -> None:
    seed = str(write_seed(tmp_path / "seed"))
    assert run("create-project", seed, SWARM_DATABASE_URL=database_url).stdout.startswith("Created project tiny")
    again = run("create-project", seed, SWARM_DATABASE_URL=database_url)
    assert again.returncode == 0 and again.stdout.startswith("Already there")
    (tmp_path / "seed" / "train.py").write_text("DEPTH = 9\n")
    assert_one_clear_line(run("create-project", seed, SWARM_DATABASE_URL=database_url), "another name")
    token = run("create-token", "ada", SWARM_DATABASE_URL=database_url).stdout.strip()
    assert token.startswith("swt_")
    assert token.encode() not in (tmp_path / "swarm" / "coordinator.db").read_bytes(), "only its hash is stored"
    assert_one_clear_line(run("create-token", "Ada Lovelace", SWARM_DATABASE_URL=database_url), "lower-case")


def test_a_project_keeps_its_files_when_an_update_brings_its_seed_with_others(
    database_url: str, tmp_path: Path
) -> None:
    older = tmp_path / "gpt-cpu"
    copytree(SEEDS_FOLDER / "gpt-cpu", older)
    copytree(SEEDS_FOLDER / "harness", tmp_path / "harness")
    (tmp_path / "harness" / "channel.py").write_text("# of an older version\n")
    created = run("create-project", str(older), SWARM_DATABASE_URL=database_url)
    assert created.stdout.startswith("Created project gpt-cpu")
    again = run("create-project", "gpt-cpu", SWARM_DATABASE_URL=database_url)
    assert again.returncode == 0 and "keeps" in again.stderr
    assert again.stdout == created.stdout.replace("Created", "Already there:")
    (older / "train.py").write_text("# a person's own change\n")
    assert_one_clear_line(run("create-project", str(older), SWARM_DATABASE_URL=database_url), "another name")


def test_a_folder_stays_the_same_project_when_an_update_brings_another_channel(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = write_seed(tmp_path / "seed")
    (seed / "harness").mkdir()
    (seed / "harness" / "trainer.py").write_text("from harness.channel import run\n")
    (seed / "swarm.toml").write_text((seed / "swarm.toml").read_text() + '[commands]\ntrainer = "harness.trainer"\n')
    created = run("create-project", str(seed), SWARM_DATABASE_URL=database_url)
    (tmp_path / "channel.py").write_text("# of a newer version\n")
    monkeypatch.setattr(seeds, "CHANNEL_FILE", tmp_path / "channel.py")
    again = run("create-project", str(seed), SWARM_DATABASE_URL=database_url)
    assert again.stdout == created.stdout.replace("Created", "Already there:")
    (seed / "harness" / "trainer.py").write_text("from harness.channel import run  # a person's own change\n")
    assert_one_clear_line(run("create-project", str(seed), SWARM_DATABASE_URL=database_url), "another name")


def test_seeds_that_cannot_become_projects(database_url: str, tmp_path: Path) -> None:
    assert_one_clear_line(run("create-project", str(tmp_path), SWARM_DATABASE_URL=database_url), "no swarm.toml")
    seed = write_seed(tmp_path / "seed")
    (seed / "swarm.toml").write_text((seed / "swarm.toml").read_text().replace("noise_sd = 0.005", "noise_sd = -1"))
    assert_one_clear_line(run("create-project", str(seed), SWARM_DATABASE_URL=database_url), "evidence.noise_sd")
    (seed / "swarm.toml").write_text("not toml [")
    assert_one_clear_line(run("create-project", str(seed), SWARM_DATABASE_URL=database_url), "not valid TOML")
    write_seed(seed)
    (seed / "train.py").unlink()
    assert_one_clear_line(run("create-project", str(seed), SWARM_DATABASE_URL=database_url), "train.py")


def test_port_in_use(database_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = serve("--port", port, SWARM_DATABASE_URL=database_url)
    assert_one_clear_line(done, f"port {port} on 127.0.0.1 is in use")
    assert "--port" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="its kernel counts the time")
def test_who_takes_nothing_of_an_answer_holds_no_connection() -> None:
    """An answer that nobody reads would otherwise be kept for ever, with its files."""
    with listen("127.0.0.1", 0, 0.2) as listener, socket.create_connection(listener.getsockname()):
        answering, _ = listener.accept()
        with answering, pytest.raises(OSError, match="timed out") as ended:
            while True:
                answering.sendall(b"a" * 2**20)
    assert ended.value.errno == errno.ETIMEDOUT


def test_an_address_that_cannot_be_listened_on() -> None:
    assert_one_clear_line(run("serve", "--host", "a..b"), "there is no host 'a..b'")
    assert_one_clear_line(run("serve", SWARM_PORT="65536"), "SWARM_PORT: must be at most 65535")
    assert "--port" in (done := run("serve", "--port", "65536")).stderr and done.returncode == 2


def test_newer_database(database_url: str) -> None:
    run("migrate", SWARM_DATABASE_URL=database_url)
    database = Database(database_url)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    database.close()
    assert_one_clear_line(serve("--port", "0", SWARM_DATABASE_URL=database_url), "newer version")


def test_no_write_permission(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = serve("--port", "0", SWARM_DATABASE_URL=f"sqlite:///{tmp_path}/file/coordinator.db")
    assert_one_clear_line(done, "cannot create the folder")


def test_settings_that_make_no_sense() -> None:
    assert_one_clear_line(run("serve", SWARM_PORT="many"), "SWARM_PORT")


def test_serves_and_stops(database_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [COMMAND, "serve", "--port", "0"], env={**os.environ, "SWARM_DATABASE_URL": database_url},
            stdout=output, stderr=subprocess.STDOUT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4_000)),
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"Coordinator at (\S+)", log.read_text())):
            assert time.monotonic() < deadline and process.poll() is None, log.read_text()
            time.sleep(0.05)
        url = found.group(1)
        allowed = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        assert allowed == (4_000, 4_000), "it may open as many files as the system lets it"
        with httpx.Client(base_url=url, timeout=60) as http:
            assert http.get("/api/v1/projects").json() == {"items": [], "next_cursor": None}
            assert "/api/v1/leases" in http.get("/openapi.json").json()["paths"]
            with http.stream("GET", "/api/v1/events") as stream:
                assert stream.status_code == 200
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == 130, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()


def test_imports_a_session(database_url: str, tmp_path: Path) -> None:
    session = write_small_session(tmp_path / "autoresearch")
    session.note("", "many", "discard", "not a number")
    arguments = ["import-autoresearch", str(session.folder), "--branch", BRANCH, "--hardware", HARDWARE]
    assert_one_clear_line(run(*arguments, SWARM_DATABASE_URL=database_url), "--results")
    done = run(*arguments, "--results", str(session.results), SWARM_DATABASE_URL=database_url)
    assert done.returncode == 0 and "Created project autoresearch-autoresearch-mar5: 6 of 6 rows" in done.stdout
    assert "Line 8 is not read: its val_bpb is not a number: 'many'." in done.stdout
    again = run(*arguments, "--results", str(session.results), SWARM_DATABASE_URL=database_url)
    assert "Added to project autoresearch-autoresearch-mar5: 0 of 6 rows" in again.stdout
