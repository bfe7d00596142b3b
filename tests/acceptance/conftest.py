"""A coordinator's process with a project, and volunteers' worker processes."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from coordinator.db.database import Database
from coordinator.projects.service import create_project
from shared.records import ExperimentDetail
from swarm import Client
from tests.support.coordinator_process import Coordinator
from tests.support.databases import SqliteFolder
from tests.support.forks import ForkedProgram
from tests.support.sealed_project import write_sealed_seed
from tests.support.tiny_project import pack_text, serve_text, write_codec_seed
from tests.support.tokens import create_token

BIN = Path(sys.executable).parent
TIMEOUT_SECONDS = 240
MOST_IDLE = 0.03
"""Share of the time that a device may be idle where runs are as long as agents need."""
ALSO_LONG = pytest.mark.parametrize("levels", [0, pytest.param(8, marks=pytest.mark.large)], indirect=True)
"""Runs of a moment, and of 8 s. `pytest -m large tests/acceptance/test_tools.py` takes minutes for the latter."""


@dataclass
class Volunteer:
    """A volunteer with a token and a machine with one core. `url` is the address of the coordinator or of its proxy."""

    url: str
    token: str
    folder: Path
    environment: dict[str, str]
    last: list[str] = field(default_factory=list)

    def work(
        self, *arguments: str, jobs: int, seconds: int = TIMEOUT_SECONDS, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a worker until it has reported this many jobs."""
        arguments = (
            "--device", "cpu", "--cores", "1", "--plain", "--max-jobs", str(jobs), "--coordinator", self.url,
            "--data-dir", str(self.folder / "workers"), *arguments,
        )  # fmt: skip
        environment = {**self.environment, "SWARM_TOKEN": self.token, **more}
        with tempfile.TemporaryDirectory() as folder:
            stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
            process = ForkedProgram("worker.cli", arguments, environment, stdout, stderr)
            try:
                status = process.wait(seconds)
            finally:
                process.kill()
            done = subprocess.CompletedProcess(arguments, status, stdout.read_text(), stderr.read_text())
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert self.token not in done.stdout + done.stderr
        return done

    def list_experiments(self) -> list[ExperimentDetail]:
        """All experiments, oldest first."""
        with Client(self.url) as client:
            (project,) = client.list_projects()
            return [client.get_experiment(row.id) for row in client.list_experiments(project.name)][::-1]


@contextmanager
def open_swarm(seed: Path, database_url: str, folder: Path) -> Iterator[Volunteer]:
    """A coordinator's process with the seed's project, and a new volunteer."""
    database = Database(database_url)
    with database.write() as session:
        create_project(session, seed)
        token = create_token(session, "ada", "test")
    database.close()
    coordinator = Coordinator(database_url, folder)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SWARM_", "OPENAI_"))}
    environment = {**kept, "XDG_CONFIG_HOME": str(folder / "config"), "NO_COLOR": "1"}
    host, port = coordinator.address
    try:
        yield Volunteer(f"http://{host}:{port}", token, folder, environment)
    finally:
        coordinator.kill()


@pytest.fixture
def text_server(tmp_path: Path) -> Iterator[str]:
    """Serves the projects' text; its address."""
    (tmp_path / "web").mkdir()
    with serve_text(tmp_path / "web") as address:
        yield address


@pytest.fixture
def database(sqlite_folder: SqliteFolder, tmp_path: Path) -> Iterator[Database]:
    """An empty SQLite database, opened by the test beside the coordinator."""
    database = Database(sqlite_folder.create_migrated(tmp_path))
    yield database
    database.close()


@pytest.fixture
def codec(text_server: str, sqlite_folder: SqliteFolder, tmp_path: Path) -> Iterator[Volunteer]:
    """A volunteer on seed/codec, with a small text, without jobs to combine: the agent's own are what is tested."""
    seed = write_codec_seed(tmp_path / "seed", text_server, pack_text())
    contract = (seed / "swarm.toml").read_text()
    assert contract.count("[jobs]\n") == 1
    (seed / "swarm.toml").write_text(contract.replace("[jobs]\n", "[jobs]\ncombine = 0\n"))
    with open_swarm(seed, sqlite_folder.create_migrated(tmp_path), tmp_path) as volunteer:
        yield volunteer


@pytest.fixture
def levels(request: pytest.FixtureRequest, sqlite_folder: SqliteFolder, tmp_path: Path) -> Iterator[Volunteer]:
    """A volunteer on the project of levels, whose jobs are all to improve. A parameter is how many seconds a training
    takes longer."""
    seed = write_sealed_seed(tmp_path / "seed")
    contract = (seed / "swarm.toml").read_text()
    (seed / "swarm.toml").write_text(contract.replace("replicate = 4", "replicate = 0"))
    if seconds := getattr(request, "param", 0):
        trainer = seed / "harness/trainer.py"
        expect = '    channel.expect("started")'
        slow = trainer.read_text().replace(expect, f"{expect}; time.sleep({seconds})")
        trainer.write_text(f"import time\n{slow}")
    with open_swarm(seed, sqlite_folder.create_migrated(tmp_path), tmp_path) as volunteer:
        yield volunteer
