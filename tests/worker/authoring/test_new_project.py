"""worker/authoring/new_project.py: what it writes is a project."""

from pathlib import Path

from coordinator.projects.seeds import read_seed
from tests.support.tiny_project import SEED
from worker.authoring.new_project import SKELETON, write_project


def test_names_the_project_after_its_folder(tmp_path: Path) -> None:
    write_project(tmp_path / "Fast Words!")
    contract, files = read_seed(tmp_path / "Fast Words!")
    assert contract.project.name == "fast-words"
    assert "solution.py" in files and "harness/scorer.py" in files


def test_speaks_as_our_own_seeds_do() -> None:
    """Each harness is a copy of its own; what is said to the worker must not drift apart."""
    assert (SKELETON / "harness" / "channel.py").read_text() == (SEED / "harness" / "channel.py").read_text()
