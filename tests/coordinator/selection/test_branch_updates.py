"""Branches over the API: they are born, chosen, stall, are paused and resumed."""

from collections.abc import Callable

import pytest
from sqlalchemy import select, update

from coordinator.db.database import Database
from coordinator.evidence.quarantine import set_anchor
from coordinator.models import Branch, Calibration, Event, Volunteer
from shared.events import EventKind
from shared.experiments import JobKind, ProposalSubmission, StepFate, StepReport
from shared.leases import ResultUpload
from shared.projects import BranchRequest, BranchState
from shared.workers import Role
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import claim_request, make_proposal, make_result, make_run
from tests.support.volunteers import MiniWorker

DRAFTS = ["draft"]


@pytest.fixture
def known(worker: MiniWorker, database: Database) -> MiniWorker:
    """A worker that has measured the seed, at 3.3. Its account is no newcomer."""
    worker.measure_root(3.3)
    make_known(database)
    return worker


def make_known(database: Database) -> None:
    """Make researchers of all accounts, whose branches need no approval."""
    with database.write() as session:
        session.execute(update(Volunteer).values(role=Role.RESEARCHER))


def read_branches(worker: MiniWorker) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in worker.get_json("/projects/tiny/branches")["items"]}


def read_log(worker: MiniWorker, branch: str) -> list[tuple[str, str]]:
    return [(row["kind"], row["by"]) for row in worker.get_json(f"/projects/tiny/branches/{branch}/log")["items"]]


def read_events(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(Event.kind).order_by(Event.id)))


def run(worker: MiniWorker, text: str, metric: float | None, **claim: object) -> str:
    """An experiment; returns the branch of its lease. `new_branch` among the arguments names one."""
    new_branch = claim.pop("new_branch", None)
    lease = worker.claim_job(**claim)
    files = {"train.py": text}
    upload = make_result(lease, worker.files_of(lease), files, metric)
    assert upload.proposal is not None
    proposal = upload.proposal.model_copy(update={"new_branch": new_branch})
    assert worker.propose(lease, files).accepted
    assert worker.deliver(lease, upload.model_copy(update={"proposal": proposal})).status_code == 201
    return lease.branch


def test_a_draft_that_holds_its_ground_begins_a_branch(known: MiniWorker, database: Database) -> None:
    run(known, "DEPTH = 9\n", 3.4, kinds=DRAFTS)
    assert set(read_branches(known)) == {"baseline"}, "it lost ground"
    run(known, "DEPTH = 10\n", 3.3, kinds=DRAFTS)
    (name,) = set(read_branches(known)) - {"baseline"}
    assert name == "draft-2" and read_log(known, name) == [("born", "ada")]
    assert run(known, "DEPTH = 11\n", 3.29, branch=name) == name
    assert read_branches(known)[name]["experiments"] == 2
    assert EventKind.BRANCH_BORN in read_events(database)[-10:]


@ON_ONE_ENGINE
def test_an_agent_names_a_direction(known: MiniWorker) -> None:
    run(known, "DEPTH = 9\n", None, new_branch="no-norms")
    assert set(read_branches(known)) == {"baseline"}, "a crash begins nothing"
    run(known, "DEPTH = 10\n", 3.5, new_branch="no-norms")
    run(known, "DEPTH = 11\n", 3.5, new_branch="no-norms")
    assert set(read_branches(known)) == {"baseline", "no-norms", "no-norms-3"}


@ON_ONE_ENGINE
def test_what_a_newcomers_agent_names_waits_and_its_experiment_stays(worker: MiniWorker) -> None:
    worker.measure_root(3.3)
    run(worker, "DEPTH = 10\n", 3.5, new_branch="no-norms")
    branches = read_branches(worker)
    assert branches["no-norms"]["state"] == "proposed" and branches["no-norms"]["experiments"] == 0
    assert branches["baseline"]["experiments"] == 1
    for number in range(3):
        run(worker, f"DEPTH = {11 + number}\n", 3.5, new_branch=f"more-{number}")
    assert set(read_branches(worker)) == {"baseline", "no-norms", "more-0"}, "an account names two at a time"


def test_a_person_names_a_direction_and_volunteers_choose_it(
    known: MiniWorker, make_worker: Callable[..., MiniWorker], database: Database
) -> None:
    request = BranchRequest(name="optimizers", theme="What if it is the optimizer?")
    created = known.post("/projects/tiny/branches", request)
    assert created.status_code == 201 and created.json()["state"] == "active"
    lease = known.claim_job(branch="optimizers")
    assert (lease.branch, lease.base.sha) == ("optimizers", lease.root_sha) and "its volunteer chose" in lease.why
    again = known.post("/projects/tiny/branches", request)
    assert (again.status_code, again.json()["type"]) == (409, "/problems/branch-exists")
    nowhere = request.model_copy(update={"name": "other", "from_sha": "0" * 40})
    assert known.post("/projects/tiny/branches", nowhere).status_code == 404
    unknown = known.post("/leases", claim_request(branch="nope"))
    assert unknown.status_code == 404 and "baseline, optimizers" in unknown.json()["detail"]
    for number in range(6):  # each by another account, which names two at most
        other = make_worker("w1", f"other-{number}")
        make_known(database)
        assert other.post("/projects/tiny/branches", request.model_copy(update={"name": f"d{number}"})).is_success
    full = known.post("/projects/tiny/branches", request.model_copy(update={"name": "one-more"}))
    assert (full.status_code, full.json()["type"]) == (409, "/problems/too-many-branches")


def test_a_stalled_branch_is_paused_and_resumed_when_chosen(known: MiniWorker, database: Database) -> None:
    known.post("/projects/tiny/branches", BranchRequest(name="side", theme="A way beside"))
    run(known, "DEPTH = 9\n", 3.1, branch="baseline")
    with database.write() as session:
        session.execute(update(Branch).where(Branch.name == "side").values(experiments_without_gain=80))
    run(known, "DEPTH = 10\n", 3.4, branch="side")
    assert read_branches(known)["side"]["experiments_without_gain"] == 81
    assert read_branches(known)["side"]["state"] == BranchState.PAUSED
    assert read_log(known, "side") == [("born", "ada"), ("paused", "research-swarm")]
    assert {known.claim_job().branch for _ in range(12)} == {"baseline"}
    assert known.claim_job(branch="side").branch == "side"
    assert read_branches(known)["side"]["state"] == BranchState.ACTIVE
    assert read_log(known, "side")[-1] == ("resumed", "ada")
    assert [kind for kind in read_events(database) if kind.startswith("branch_")][-2:] == [
        EventKind.BRANCH_PAUSED,
        EventKind.BRANCH_RESUMED,
    ]


@ON_ONE_ENGINE
def test_the_leading_branch_is_not_paused(known: MiniWorker, database: Database) -> None:
    known.post("/projects/tiny/branches", BranchRequest(name="side", theme="A way beside"))
    run(known, "DEPTH = 9\n", 3.1, branch="side")
    with database.write() as session:
        session.execute(update(Branch).where(Branch.name == "side").values(experiments_without_gain=100))
    run(known, "DEPTH = 10\n", 3.4, branch="side")
    assert read_branches(known)["side"]["state"] == BranchState.ACTIVE


@ON_ONE_ENGINE
def test_a_late_gain_resumes_a_paused_branch(known: MiniWorker, database: Database) -> None:
    with database.write() as session:
        session.execute(update(Branch).values(state=BranchState.PAUSED))
    run(known, "DEPTH = 9\n", 3.1)
    assert read_branches(known)["baseline"]["state"] == BranchState.ACTIVE
    assert [kind for kind, _ in read_log(known, "baseline")] == ["born", "moved", "resumed"]


@ON_ONE_ENGINE
def test_a_stalled_branch_asks_for_another_axis(known: MiniWorker, database: Database) -> None:
    """Once it has gained nothing for long, the axis that was tried most is left; it is told in the lease."""
    for number, axis in enumerate(["DEPTH", "DEPTH", "DEPTH", "WIDTH"]):
        lease = known.claim_job()
        assert lease.assignment.avoid_axes == []
        files = {"train.py": f"DEPTH = {10 + number}\n"}
        upload = make_result(lease, known.files_of(lease), files, 3.4)
        assert upload.proposal is not None
        proposal = upload.proposal.model_copy(update={"axis": axis})
        assert known.deliver(lease, upload.model_copy(update={"proposal": proposal})).status_code == 201
    with database.write() as session:
        session.execute(update(Branch).values(experiments_without_gain=60))
    lease = known.claim_job()
    assert lease.assignment.avoid_axes == ["DEPTH"] and "another axis than DEPTH" in lease.why


@ON_ONE_ENGINE
def test_a_worker_stays_with_its_parent(known: MiniWorker, database: Database) -> None:
    lease = known.claim_job()
    with database.read() as session:
        assert session.scalar(select(Calibration.parent_sha)) == lease.base.sha == lease.root_sha
    assert "the same as in this worker's last experiment" in known.claim_job().why


@ON_ONE_ENGINE
def test_steps_are_told_as_they_were_asked_for(known: MiniWorker) -> None:
    lease = known.claim_job()
    assert lease.kind is JobKind.IMPROVE
    proposal = make_proposal().model_copy(update={"steps": [StepReport(experiment_id=1, fate=StepFate.DONE)]})
    submission = ProposalSubmission(token=lease.token, proposal=proposal, files={"train.py": "DEPTH = 5\n"})
    refused = known.post(f"/leases/{lease.id}/proposal", submission)
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/steps-not-told")


@ON_ONE_ENGINE
def test_one_volunteer_does_not_hold_the_fleet(
    known: MiniWorker, make_worker: Callable[..., MiniWorker], database: Database
) -> None:
    """From sixteen jobs of four volunteers on, one that holds half of them waits; others do not."""
    for volunteer in ("bob", "cyd", "dan"):
        for number in range(2):
            make_worker(f"{volunteer}-{number}", volunteer).claim_job()
    mine = [make_worker(f"mine-{number}") for number in range(12)]
    replies = [worker.claim() for worker in mine]
    refused = [reply for reply in replies if reply.lease is None]
    assert refused and "no volunteer more than 50%" in refused[0].reason
    assert all(reply.lease is None for reply in replies[len(replies) - len(refused) :])
    assert make_worker("bob-2", "bob").claim().lease is not None


def test_a_head_moves_only_for_a_gain_that_surely_matters(known: MiniWorker) -> None:
    """The smallest effect that matters is 0.002 and the noise of a run 0.005: 0.013 is surely a gain, not surely one
    that matters."""
    before = read_branches(known)["baseline"]["head_sha"]
    _, reply = known.experiment("DEPTH = 5\n", 3.3 - 0.013)
    assert reply.posterior is not None and reply.posterior.verdict == "improved"
    assert read_branches(known)["baseline"]["head_sha"] == before
    known.experiment("DEPTH = 6\n", 3.2)
    assert read_branches(known)["baseline"]["head_sha"] != before


@ON_ONE_ENGINE
def test_a_head_moves_when_further_runs_make_its_gain_sure(
    known: MiniWorker, make_worker: Callable[..., MiniWorker], database: Database
) -> None:
    """Until then it stays, it moves once, and no number moves it that a maintainer has to look at."""
    _, reply = known.experiment("DEPTH = 5\n", 3.3 - 0.013)
    assert reply.posterior is not None
    for name in ("bo", "cy", "dan"):
        checker = make_worker("w1", name)
        checker.measure_root()
        with database.write() as session:
            set_anchor(session, name, "w1", is_anchor=True, who="ops")  # who measures whenever there is something
        if name == "bo":
            checker.measure_root()  # as an anchor, the first of them
        lease = checker.claim_job()
        assert checker.deliver(lease, ResultUpload(run=make_run(lease.base.sha, 3.3 - 0.013))).status_code == 201
    after = read_branches(known)["baseline"]
    assert after["head_sha"] == lease.base.sha != lease.root_sha and after["experiments"] == 1
    assert [kind for kind, _ in read_log(known, "baseline")].count("moved") == 1
    _, held = known.experiment("DEPTH = 6\n", 1.2)
    assert held.posterior is not None and held.posterior.standing == "held"
    assert read_branches(known)["baseline"]["head_sha"] == after["head_sha"]
