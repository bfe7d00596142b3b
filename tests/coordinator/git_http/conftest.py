"""A project on a real web server, with methods that add commits and branches."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from coordinator.db.database import Database
from coordinator.lineage import service as lineage
from coordinator.lineage.branches import create_branch, list_branches, move_head
from coordinator.lineage.commits import get_commit
from coordinator.projects.service import create_project
from shared.commits import CommitWords
from tests.support.messages import AUTHOR
from tests.support.seeds import TRAIN, write_seed
from tests.support.servers import serve


class Upstream:
    """A project and its remote."""

    def __init__(self, database: Database, base_url: str, folder: Path, name: str = "tiny") -> None:
        self.database, self._base_url, self._folder = database, base_url, folder
        with database.write() as session:
            project, _ = create_project(session, write_seed(folder / name, name))
            self.project_id, self.root_sha = project.id, project.root_sha
        self.address = f"{base_url}/git/{name}"
        self.url = f"{self.address}.git"
        self._commits = 0

    def add_project(self, name: str) -> "Upstream":
        """Another project on the same coordinator."""
        return Upstream(self.database, self._base_url, self._folder, name)

    def commit(self, parent_sha: str, count: int = 1, path: str = "train.py", text: str = TRAIN) -> list[str]:
        """Add `count` commits, one upon the other; each appends a line to a file of the text."""
        shas = [parent_sha]
        with self.database.write() as session:
            for _ in range(count):
                self._commits += 1
                files = {path: f"{text}# experiment {self._commits}\n"}
                words = CommitWords(AUTHOR, 1_790_000_000 + self._commits, f"Experiment {self._commits}")
                built = lineage.build_child(session, get_commit(session, shas[-1]), files, words)
                lineage.store_commit(session, self.project_id, built)
                shas.append(built.sha)
        return shas[1:]

    def branch(self, **heads: str) -> None:
        """Make branches, or move their heads."""
        with self.database.write() as session:
            branches = {branch.name: branch for branch in list_branches(session, self.project_id)}
            for name, sha in heads.items():
                if name in branches:
                    move_head(session, branches[name], sha, "ada", "It is better.")
                else:
                    create_branch(session, self.project_id, name, "A direction.", sha, "ada", "To be fetched.")


@pytest.fixture
def base_url(app: FastAPI) -> Iterator[str]:
    with serve(app) as server:
        yield server.url


@pytest.fixture
def upstream(app: FastAPI, base_url: str, tmp_path: Path) -> Upstream:
    """A project with its root commit on the branch `baseline`."""
    return Upstream(app.state.database, base_url, tmp_path / "seeds")
