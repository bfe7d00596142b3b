"""Maintainers change branches: each change is in the log, steers the jobs, and is undone. On both engines."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from click.testing import Result
from fastapi.testclient import TestClient
from sqlalchemy import update
from typer.testing import CliRunner

from coordinator.cli import app as command_line
from coordinator.db.database import Database
from coordinator.models import Branch, Lease, Project
from shared.workers import Role
from tests.support.accounts import code_of, make_person
from tests.support.databases import await_another
from tests.support.swarm_data import History
from tests.support.volunteers import MiniWorker

PATH = "/projects/tiny/branches"
WHY = {"reason": "to see what it does"}


class Case:
    """A project with the branches baseline and side, a maintainer, and a worker that measured the seed."""

    def __init__(self, database: Database, http: TestClient, worker: MiniWorker) -> None:
        self.worker, self.http = worker, http
        self.boss = make_person(database, http, "boss", Role.MAINTAINER)
        self.new = make_person(database, http, "newcomer")
        worker.measure_root(3.3)
        assert self.boss.post(PATH, {"name": "side", "theme": "A way beside."}).json()["state"] == "active"

    def change(self, branch: str, what: str, **more: object) -> httpx.Response:
        return self.boss.post(f"{PATH}/{branch}/{what}", WHY | more)

    def undo(self, done: httpx.Response) -> httpx.Response:
        return self.boss.post(f"/audit/{done.json()['id']}/undo", WHY)

    def branches(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.http.get(f"/api/v1{PATH}").json()["items"]}

    def log(self, branch: str) -> list[str]:
        return [row["kind"] for row in self.http.get(f"/api/v1{PATH}/{branch}/log").json()["items"]]

    def find_commit(self) -> str:
        """A commit other than the root."""
        self.worker.experiment("LR = 0.5\n", 3.5)
        return str(self.worker.get_json("/experiments?project=tiny")["items"][0]["sha"])

    def drawn(self, jobs: int = 8) -> set[str]:
        """The branches of the worker's next jobs."""
        found = set()
        for _ in range(jobs):
            lease = self.worker.claim_job()
            found.add(lease.branch)
            self.worker.release(lease)
        return found


@pytest.fixture
def case(database: Database, http: TestClient, worker: MiniWorker) -> Case:
    return Case(database, http, worker)


@pytest.fixture
def run(database: Database) -> Callable[..., Result]:
    """Runs a command of `swarm-coordinator branch` on the database."""
    url = database.url.render_as_string(hide_password=False)
    return lambda *given: CliRunner().invoke(command_line, ["branch", *given], env={"SWARM_DATABASE_URL": url})


def test_a_paused_branch_gets_no_jobs_until_a_maintainer_resumes_it(case: Case) -> None:
    done = case.change("side", "pause")
    assert done.json()["after"] == {"state": "paused", "is_locked": True}
    assert case.drawn() == {"baseline"}
    told = case.worker.claim(branch="side")
    assert told.lease is None and "The branch side was paused by a maintainer." in told.reason, "whoever chooses it"
    assert code_of(case.change("side", "pause")) == (409, "nothing-changes")
    assert case.change("side", "resumption").status_code == 200
    assert case.worker.claim_job(branch="side").branch == "side"
    assert case.log("side") == ["born", "paused", "resumed"]
    assert case.undo(done).status_code == 409, "it was resumed since"
    assert case.undo(case.change("side", "pause")).status_code == 201
    assert case.branches()["side"]["state"] == "active" and not case.branches()["side"]["is_locked"]


def test_with_every_branch_paused_nobody_gets_an_experiment_and_is_told_why(case: Case) -> None:
    assert {case.change(name, "pause").status_code for name in ("baseline", "side")} == {200}
    told = case.worker.claim()
    assert told.lease is None and "A maintainer paused every branch" in told.reason


def test_a_newcomers_branch_waits_for_approval(case: Case) -> None:
    made = case.new.post(PATH, {"name": "theirs", "theme": "Mine."}).json()
    assert made["state"] == "proposed" and case.log("theirs") == ["proposed"]
    assert "theirs" not in case.drawn()
    told = case.worker.claim(branch="theirs")
    assert told.lease is None and "waits for a maintainer's approval" in told.reason
    for wrong in ("pause", "resumption"):
        assert code_of(case.change("theirs", wrong)) == (409, "branch-state")
    done = case.change("theirs", "approval")
    assert done.status_code == 200 and case.worker.claim_job(branch="theirs").branch == "theirs"
    assert case.undo(done).status_code == 201 and case.branches()["theirs"]["state"] == "proposed"
    assert case.log("theirs") == ["proposed", "approved", "proposed"]


def test_names_shares_and_heads_change_and_change_back(case: Case) -> None:
    sha = case.find_commit()
    before = case.branches()["side"]
    named = case.change("side", "name", name="optimizers")
    assert code_of(case.change("optimizers", "name", name="baseline")) == (409, "branch-exists")
    shared = case.change("optimizers", "share", share=0.5)
    assert code_of(case.change("baseline", "share", share=0.45)) == (409, "shares-exceeded")
    moved = case.change("optimizers", "head", head_sha=sha)
    assert code_of(case.change("optimizers", "head", head_sha="0" * 40))[0] == 404
    now = case.branches()["optimizers"]
    assert (now["share"], now["head_sha"], now["id"]) == (0.5, sha, before["id"])
    assert case.log("optimizers") == ["born", "renamed", "shared", "moved"]
    assert {case.undo(done).status_code for done in (named, shared, moved)} == {201}
    assert case.branches()["side"] == before
    entries = case.boss.get("/audit?subject=branch").json()["items"]
    assert len(entries) == 6 and {entry["key"] for entry in entries} == {f"tiny/{before['id']}"}


def test_only_an_empty_branch_is_deleted_and_comes_back(case: Case) -> None:
    assert code_of(case.change("baseline", "deletion")) == (409, "branch-not-empty")
    lease = case.worker.claim_job(branch="side")
    assert code_of(case.change("side", "deletion")) == (409, "branch-not-empty"), "a job is under way"
    case.worker.release(lease)
    before = case.branches()
    done = case.change("side", "deletion")
    assert done.status_code == 200 and set(case.branches()) == {"baseline"}
    refs = case.http.get("/git/tiny.git/info/refs?service=git-upload-pack").text
    assert "refs/heads/baseline" in refs and "refs/heads/side" not in refs and "~" not in refs
    again = case.boss.post(PATH, {"name": "side", "theme": "Another one."})
    assert again.status_code == 201, "its name is free"
    assert code_of(case.undo(done)) == (409, "branch-exists")
    assert case.change("side", "deletion").status_code == 200
    assert case.undo(done).status_code == 201 and case.branches() == before


def test_a_branch_comes_into_a_project_only_where_there_is_room(case: Case, database: Database) -> None:
    case.new.post(PATH, {"name": "theirs", "theme": "Mine."})
    for number in range(6):
        person = make_person(database, case.http, f"p{number}", Role.RESEARCHER)
        assert person.post(PATH, {"name": f"b{number}", "theme": "Theirs."}).json()["state"] == "active"
    assert code_of(case.change("theirs", "approval")) == (409, "too-many-branches")
    assert case.branches()["theirs"]["state"] == "proposed"
    assert case.change("side", "pause").status_code == 200
    assert case.change("theirs", "approval").status_code == 200
    assert code_of(case.change("side", "resumption")) == (409, "too-many-branches")


def test_branches_on_the_command_line(case: Case, run: Callable[..., Result]) -> None:
    why = ("--reason", "a test of it")
    case.new.post(PATH, {"name": "theirs", "theme": "Mine."})
    sha = case.find_commit()
    for command in (
        ("approve", "tiny", "theirs"), ("pause", "tiny", "side"), ("resume", "tiny", "side"),
        ("share", "tiny", "side", "0.2"), ("move", "tiny", "side", sha), ("rename", "tiny", "side", "other"),
        ("delete", "tiny", "theirs"),
    ):  # fmt: skip
        done = run(*command, *why)
        assert done.exit_code == 0 and done.stdout.rstrip().endswith("because: a test of it"), done.stderr
    listed = run("list", "tiny").stdout
    assert "other  active" in listed and "at least 20% of the jobs" in listed and "theirs" not in listed
    wrong = run("rename", "tiny", "other", "Not A Name", *why)
    assert wrong.exit_code == 1 and "lower-case letters" in wrong.stderr
    assert code_of(case.new.post(f"{PATH}/other/pause", WHY)) == (403, "not-allowed")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_branch_is_renamed_and_deleted_while_jobs_and_results_come_to_it(case: Case, database: Database) -> None:
    """Neither waits for the other in a circle, and no branch with a job is deleted."""
    with database.write() as session:
        history = History(session, session.query(Project).one())
        lease_id = history.add_running_lease(history.add_worker("w1", "ada"), history.project.root_sha, "Beside").id
        side = session.query(Branch.id).filter_by(name="side").scalar()
    of_side = update(Branch).where(Branch.id == side).values(experiments=Branch.experiments + 1)
    with ThreadPoolExecutor() as threads:
        with database.write() as session:
            session.execute(update(Lease).where(Lease.id == lease_id).values(branch_id=side))
            renamed = threads.submit(case.change, "side", "name", name="aside")
            await_another(session)
            session.execute(of_side)
        assert renamed.result().status_code == 200
        with database.write() as session:
            first = session.query(Branch.id).filter_by(name="baseline").scalar()
            session.execute(update(Lease).where(Lease.id == lease_id).values(branch_id=first))
        with database.write() as session:
            session.execute(update(Lease).where(Lease.id == lease_id).values(branch_id=side))
            deleted = threads.submit(case.change, "aside", "deletion")
            await_another(session)
        assert code_of(deleted.result()) == (409, "branch-not-empty")
