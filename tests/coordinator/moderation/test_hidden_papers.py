"""A quarantine hides an author's papers everywhere, says why, and gives all back in one step. On both engines."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.experiments.service import list_trials
from coordinator.findings import service
from coordinator.findings.service import follow_quarantines, is_indexed
from coordinator.models import Project, Volunteer
from coordinator.records.progress import find_differences, follow_runs
from coordinator.selection import running_jobs
from coordinator.selection.context_pack import PackRequest, compose_pack
from coordinator.selection.running_jobs import list_running_jobs
from shared.findings import FindingDraft
from shared.workers import Role
from tests.support.accounts import Person, code_of, make_person
from tests.support.databases import await_another
from tests.support.messages import HARDWARE, make_proposal
from tests.support.swarm_data import History, end_epochs

CLASS = HARDWARE.hardware_class
LIE, TRUTH = "zebrafish batches", "ordinary warm-up"
WHY = {"reason": "its numbers do not repeat"}


class Case:
    """A project with two papers by mallory, one by ada that builds on them, and a job of mallory's under way."""

    def __init__(self, database: Database, http: TestClient) -> None:
        self.database, self.http = database, http
        with database.write() as session:
            history = History(session, session.query(Project).one())
            self.root = root = history.project.root_sha
            mallory, ada = history.add_worker("m1", "mallory"), history.add_worker("w1", "ada")
            for worker in (ada, mallory):
                history.measure(worker, root, 3.3)
            lie = FindingDraft(claim=f"{LIE} help a lot", agent="search")
            self.lie = history.add_experiment(mallory, root, 3.29, make_proposal(f"Use {LIE}"), lie).commit_sha
            history.add_experiment(mallory, root, 3.31, make_proposal(f"More {LIE}"), lie)
            told = FindingDraft(claim=f"{TRUTH} helps", agent="search")
            history.add_experiment(ada, self.lie, 3.28, make_proposal(f"An {TRUTH}"), told)
            history.add_running_lease(mallory, root, f"Now {LIE}").proposed_tree_sha = "0" * 40
        end_epochs(database, always=True)
        self.boss = make_person(database, http, "boss", Role.MAINTAINER)

    def read(self, path: str) -> Any:
        answer = self.http.get(f"/api/v1{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pack(self, session: Session, base_sha: str) -> str:
        project = session.query(Project).one()
        running = list_running_jobs(session, project.id)
        return compose_pack(session, PackRequest(project, base_sha, CLASS, "lr", running)).text

    def everywhere(self) -> dict[str, str]:
        """The texts of lists, searches, packs, trials, topics and exports."""
        with self.database.read() as session:
            project = session.query(Project).one()
            packs = "".join(self.pack(session, sha) for sha in (self.root, self.lie))
            trials = list_trials(session, project.id, CLASS, 20)
        return {
            "list": str(self.read("/findings?project=tiny")),
            "with retracted": str(self.read("/findings?with_retracted=true")),
            "search": str(self.read("/findings/search?q=zebrafish+warm-up")),
            "packs": packs,
            "trials": str(trials),
            "topic": str(self.read("/topics/tiny/learning-rate")),
            "export": self.http.get("/api/v1/projects/tiny/export/findings.jsonl").text,
        }

    def hide(self) -> int:
        done = self.boss.post("/accounts/mallory/quarantine", WHY)
        assert done.status_code == 200, done.text
        return int(done.json()["id"])

    def undo(self, entry: int) -> None:
        assert self.boss.post(f"/audit/{entry}/undo", {"reason": "it was the clock"}).status_code == 201


@pytest.fixture
def case(database: Database, http: TestClient, project: str, monkeypatch: pytest.MonkeyPatch) -> Case:
    assert project == "tiny"
    monkeypatch.setattr(running_jobs, "KEPT_SECONDS", 0.0)
    return Case(database, http)


def test_papers_are_hidden_everywhere_and_come_back_as_they_were(case: Case) -> None:
    before = case.everywhere()
    assert {name for name, text in before.items() if "zebrafish" in text} == set(before)
    entry = case.hide()
    hidden = case.everywhere()
    assert {name for name, text in hidden.items() if "zebrafish" in text} == set()
    assert {name for name, text in hidden.items() if TRUTH in text} == set(before), "others' papers stay"
    assert "(its author is in quarantine)" in hidden["packs"], "the step stays in the line"
    with case.database.read() as session:
        assert is_indexed(session), "hidden papers are not missing from the index"
    case.undo(entry)
    after = case.everywhere()
    assert after.keys() == {name for name in after if "zebrafish" in after[name] and TRUTH in after[name]}
    assert (after["list"], after["export"], after["topic"][:200]) == (
        before["list"], before["export"], before["topic"][:200],
    )  # fmt: skip


def test_what_a_decision_on_many_papers_leaves_to_be_done_follows_in_the_background(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WORDS_AT_ONCE", 1)
    monkeypatch.setattr(service, "TOPICS_AT_ONCE", 0)
    follow_runs(case.database)
    entry = case.hide()
    assert "zebrafish" not in str(case.read("/findings/search?q=zebrafish")), "hidden ones are hidden at once"
    for is_undone in (False, True):
        if is_undone:
            case.undo(entry)
        with case.database.read() as session:
            assert is_indexed(session) is not is_undone and list(find_differences(session)) != []
        follow_quarantines(case.database)
        with case.database.read() as session:
            assert is_indexed(session) and list(find_differences(session)) == []
    assert len(case.read("/findings/search?q=zebrafish")["items"]) == 2


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_decision_and_the_background_index_the_same_papers_at_once(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(service, "WORDS_AT_ONCE", 1)
        case.undo(case.hide())
    with case.database.read() as session:
        ada = session.query(Volunteer).filter_by(name="ada").one().id

    def decide() -> None:
        with case.database.write() as other:
            service.hide_quarantined(other, ada)

    with ThreadPoolExecutor() as threads:
        with case.database.write() as session:
            assert service.index_missing(session) == 1
            decision = threads.submit(decide)
            await_another(session)
        decision.result()
    assert len(case.read("/findings/search?q=zebrafish")["items"]) == 2


def test_counts_of_topics_leave_hidden_experiments_out(case: Case) -> None:
    """Of those that are counted, and of those that came since; a topic of hidden ones alone is none."""

    def count() -> dict[str, int]:
        return {one["slug"]: one["experiments"] for one in case.read("/topics?project=tiny")["items"]}

    before = count()
    follow_runs(case.database)
    assert count() == before == {"learning-rate": 3}
    with case.database.write() as session:
        history = History(session, session.query(Project).one())
        proposal = make_proposal("Brag").model_copy(update={"axis": "BRAGGING"})
        history.add_experiment(history.add_worker("m1", "mallory"), case.root, 3.2, proposal)
    assert count() == before | {"bragging": 1}
    entry = case.hide()
    assert count() == {"learning-rate": 1}
    follow_runs(case.database)
    assert count() == {"learning-rate": 1}
    case.undo(entry)
    assert count() == before | {"bragging": 1}
    with case.database.read() as session:
        assert list(find_differences(session)) == []


def test_readers_are_told_why(case: Case) -> None:
    case.hide()
    for path in ("/findings/1", "/findings/1/versions/1", "/findings/1/bibtex", "/findings?volunteer=mallory",
                 "/findings/search?q=zebrafish&volunteer=mallory"):  # fmt: skip
        answer = case.http.get(f"/api/v1{path}")
        assert code_of(answer) == (410, "finding-hidden"), path
        assert "mallory" in (told := answer.json()["detail"]) and WHY["reason"] in told
    page = case.http.get("/findings/1", headers={"Accept": "text/html"})
    assert page.status_code == 410 and "its numbers do not repeat" in page.text and "zebrafish" not in page.text
    experiment = case.read("/experiments/1")
    assert (experiment["finding"], experiment["quarantine"]) == (None, WHY["reason"])
    assert case.boss.get("/findings/1").json()["summary"]["state"] == "hidden", "maintainers look at it"
    assert "Its author is in quarantine" in case.http.get("/experiments/1").text
    marks = [one["quarantine"] for one in case.read("/experiments?project=tiny")["items"]]
    assert marks == [None, WHY["reason"], WHY["reason"]], "marked where it is linked"


def test_the_end_of_a_quarantine_gives_each_paper_the_state_that_it_had(case: Case) -> None:
    mallory: Person = make_person(case.database, case.http, "mallory")
    assert mallory.post("/findings/2/retraction", {"text": "Oh."}).status_code == 201
    entry = case.hide()
    assert case.boss.post("/findings/1/retraction", {"text": "It does not repeat."}).status_code == 201
    assert "zebrafish" not in case.everywhere()["with retracted"]
    case.undo(entry)
    states = {one["id"]: one["state"] for one in case.read("/findings?with_retracted=true")["items"]}
    assert states == {1: "retracted", 2: "retracted", 3: "published"}


def test_of_one_worker_only_its_papers_are_hidden(case: Case) -> None:
    with case.database.write() as session:
        history = History(session, session.query(Project).one())
        other = FindingDraft(claim="giraffe optimizers help", agent="search")
        history.add_experiment(history.add_worker("m2", "mallory"), case.root, 3.3, make_proposal("Giraffe"), other)
    assert case.boss.post("/accounts/mallory/quarantine", WHY | {"worker": "m1"}).status_code == 200
    assert [one["id"] for one in case.read("/findings?volunteer=mallory")["items"]] == [4]
    told = case.http.get("/api/v1/findings/1").json()["detail"]
    assert "mallory/m1 in quarantine: its numbers do not repeat" in told


def test_all_papers_of_an_account_are_retracted_at_once_and_restored_at_once(case: Case) -> None:
    mallory = make_person(case.database, case.http, "mallory")
    assert mallory.post("/findings/2/retraction", {"text": "Oh."}).status_code == 201
    done = case.boss.post("/accounts/mallory/papers/retraction", WHY)
    assert done.json()["after"] == {"1": "retracted"}, "the other one was, already"
    assert [one["id"] for one in case.read("/findings?project=tiny")["items"]] == [3]
    assert [note["text"] for note in case.read("/findings/1")["notes"]] == [WHY["reason"]]
    assert code_of(case.boss.post("/accounts/mallory/papers/retraction", WHY)) == (409, "nothing-changes")
    case.undo(done.json()["id"])
    assert [one["id"] for one in case.read("/findings?project=tiny")["items"]] == [3, 1]
