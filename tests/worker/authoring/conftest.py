"""The commands as a person starts them, in this process, on the project that `new-project` writes."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from coordinator.db.database import Database
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from tests.worker.conftest import LiveCoordinator, serve
from worker.authoring.new_project import write_project
from worker.cli import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project(tmp_path / "fast-words")
    return tmp_path / "fast-words"


@pytest.fixture
def live(coordinator_settings: CoordinatorSettings, project: Path) -> Iterator[LiveCoordinator]:
    """A coordinator that has the same project."""
    database = Database(coordinator_settings.database_url)
    with database.write() as session:
        create_project(session, project)
    database.close()
    with serve(coordinator_settings) as url:
        yield LiveCoordinator(url, SecretStr("nobody's"))


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run `swarm-worker` with a data folder of the test's own."""
    monkeypatch.setenv("SWARM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SWARM_CORES", "1")

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["swarm-worker", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert "worker/workshop" not in err  # no traceback of ours; one of the edited file may be shown
        assert isinstance(ended.value.code, int | None)
        return Done(ended.value.code or 0, out, err)

    return run


def edit(project: Path, file: str, old: str, new: str) -> None:
    """Change a file of the project."""
    text = (project / file).read_text()
    assert old in text, old
    (project / file).write_text(text.replace(old, new))
