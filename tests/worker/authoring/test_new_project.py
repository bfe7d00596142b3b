"""worker/authoring/new_project.py: what it writes is a project."""

from pathlib import Path

from coordinator.projects.service import read_seed
from shared.seeds import CHANNEL_FILE
from worker.authoring.new_project import write_project


def test_names_the_project_after_its_folder(tmp_path: Path) -> None:
    write_project(tmp_path / "Fast Words!")
    contract, files = read_seed(tmp_path / "Fast Words!")
    assert contract.project.name == "fast-words"
    assert "solution.py" in files and "harness/scorer.py" in files


def test_copies_the_channel_of_all_projects(tmp_path: Path) -> None:
    files = write_project(tmp_path / "mine")
    assert tmp_path / "mine" / "harness" / "channel.py" in files
    assert (tmp_path / "mine" / "harness" / "channel.py").read_text() == CHANNEL_FILE.read_text()
