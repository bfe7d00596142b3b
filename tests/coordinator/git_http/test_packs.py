"""A project's complete history as a pack and as a bundle."""

from pathlib import Path

import httpx
import pytest

from coordinator.git_http import packs
from coordinator.models import Project
from tests.coordinator.git_http.conftest import Upstream
from tests.support.git import Git
from tests.support.messages import make_proposal
from tests.support.swarm_data import History, crash


@pytest.fixture
def experiments(upstream: Upstream) -> dict[str, str]:
    """Twelve experiments on two lines, every third crashed: tag -> sha."""
    tags: dict[str, str] = {}
    with upstream.database.write() as session:
        project = session.get(Project, upstream.project_id)
        assert project is not None
        past = History(session, project)
        worker = past.add_worker()
        heads = [project.root_sha, project.root_sha]
        for number in range(12):
            failed = number % 3 == 2
            experiment = past.add_experiment(
                worker, heads[number % 2], None if failed else 3.2, make_proposal(), **(crash() if failed else {})
            )
            tags[f"experiments/{experiment.id}"] = experiment.commit_sha
            heads[number % 2] = heads[number % 2] if failed else experiment.commit_sha
    upstream.branch(baseline=heads[0])
    return tags


def download(address: str, file: Path) -> Path:
    file.write_bytes(httpx.get(address, timeout=30).raise_for_status().content)
    return file


def test_clone_the_bundle(upstream: Upstream, experiments: dict[str, str], tmp_path: Path) -> None:
    bundle = download(f"{upstream.address}.bundle", tmp_path / "tiny.bundle")
    git = Git.clone(str(bundle), tmp_path / "clone")
    git("gc", "--quiet", "--prune=now")
    git.check()
    assert set(git.list_commits()) == {upstream.root_sha, *experiments.values()}
    assert {tag: git("rev-parse", tag).strip() for tag in experiments} == experiments
    assert git("symbolic-ref", "HEAD").strip() == "refs/heads/baseline"
    assert "# " in git("diff", *list(experiments)[:2])


def test_a_clone_of_the_bundle_follows_the_remote(
    upstream: Upstream, experiments: dict[str, str], tmp_path: Path
) -> None:
    bundle = download(f"{upstream.address}.bundle", tmp_path / "tiny.bundle")
    git = Git.clone(str(bundle), tmp_path / "clone", "--config", "fetch.unpackLimit=10000")
    git("remote", "set-url", "origin", upstream.url)
    before = git.count_loose()
    upstream.branch(baseline=upstream.commit(experiments["experiments/12"])[0])
    git("fetch", "--force")
    assert git.count_loose() - before == 3


def test_the_pack_holds_everything(upstream: Upstream, experiments: dict[str, str], tmp_path: Path) -> None:
    git = Git.init(tmp_path / "empty")
    git("index-pack", "--stdin", "--strict", stdin=httpx.get(f"{upstream.address}.pack", timeout=60).content)
    kinds = [line.split()[:2] for line in git("cat-file", "--batch-check", "--batch-all-objects").splitlines()]
    assert {sha for sha, kind in kinds if kind == "commit"} == {upstream.root_sha, *experiments.values()}
    assert len(kinds) == len({sha for sha, _ in kinds}) == 5 + 3 * 12


def test_a_slow_reader_holds_no_connection(upstream: Upstream, experiments: dict[str, str]) -> None:
    with upstream.database.read() as session:
        objects = packs.list_history(session, upstream.project_id)
    pack = packs.stream_pack(upstream.database, objects)
    assert next(pack).startswith(b"PACK")
    assert len(next(pack)) > 1000
    assert upstream.database.count_held() == 0
    pack.close()
    with pytest.raises(Exception, match="closed"):
        len(objects)
