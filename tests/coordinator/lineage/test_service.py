"""Commits in SQL are real git commits."""

import subprocess
from pathlib import Path

from dulwich.repo import Repo

from coordinator.db.database import Database
from coordinator.lineage import objects
from coordinator.models import StoredObject
from tests.support.messages import AUTHOR
from tests.support.volunteers import MiniWorker


def run_git(repository: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(repository), *arguments], check=True, capture_output=True, text=True).stdout


def export_loose(database: Database, folder: Path, head: str) -> Path:
    """All stored objects as a bare repository that the real git reads."""
    repo = Repo.init_bare(str(folder), mkdir=True)
    with database.read() as session:
        for row in session.query(StoredObject):
            stored = objects.read_versions(session, [row.sha])[row.sha].object
            written = subprocess.run(
                ["git", "-C", str(folder), "hash-object", "-w", "--stdin", "-t", stored.kind],
                input=stored.data, check=True, capture_output=True,
            )  # fmt: skip
            assert written.stdout.decode().strip() == row.sha
    repo.close()
    run_git(folder, "update-ref", "refs/heads/main", head)
    return folder


def test_git_reads_what_we_stored(worker: MiniWorker, database: Database, tmp_path: Path) -> None:
    worker.measure_root()
    _, reply = worker.experiment("DEPTH = 5\n", metric=3.1)
    detail = worker.get_json(f"/experiments/{reply.experiment_id}")
    repository = export_loose(database, tmp_path / "out.git", detail["sha"])
    assert "missing" not in run_git(repository, "fsck", "--full", "--strict")
    assert run_git(repository, "log", "--format=%H %an <%ae> %P", "-1", "main").split() == [
        detail["sha"], *AUTHOR.split(), detail["parent_sha"],
    ]  # fmt: skip
    assert run_git(repository, "show", "main:train.py") == "DEPTH = 5\n"
    assert run_git(repository, "diff", "--stat", "main~1", "main").count("|") == 1
    assert sorted(run_git(repository, "ls-tree", "-r", "--name-only", "main").split()) == [
        "program.md", "swarm.toml", "train.py",
    ]  # fmt: skip


def test_same_content_is_stored_once(worker: MiniWorker, database: Database) -> None:
    worker.measure_root()
    with database.read() as session:
        before = session.query(StoredObject).count()
    worker.experiment("DEPTH = 5\n")
    with database.read() as session:
        assert session.query(StoredObject).count() == before + 3, "one blob, one tree, one commit"
