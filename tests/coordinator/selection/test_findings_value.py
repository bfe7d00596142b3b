"""The worth of findings: some jobs, drawn at random, get a pack without findings, and the two arms are compared."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.projects.service import create_project
from coordinator.selection.findings_value import estimate_mean, estimate_share, weigh_votes
from coordinator.web import project_page
from shared.experiments import JobKind
from shared.leases import GrantedLease, LeaseContext
from shared.projects import FindingsValue
from tests.support.messages import make_result
from tests.support.seeds import write_seed
from tests.support.volunteers import MiniWorker


@pytest.fixture
def worker(database: Database, tmp_path: Path, make_worker: Callable[..., MiniWorker]) -> MiniWorker:
    """A worker of a project in which half of the jobs go without findings."""
    contract = write_seed(tmp_path / "seed") / "swarm.toml"
    contract.write_text(contract.read_text().replace("without_findings = 0 ", "without_findings = 0.5 "))
    with database.write() as session:
        create_project(session, contract.parent)
    worker = make_worker()
    worker.measure_root()
    return worker


def has_findings(lease: GrantedLease) -> bool:
    return "## Findings of others" in lease.context


def claim_arm(worker: MiniWorker, *, with_findings: bool) -> GrantedLease:
    """Claim until an experiment of one arm comes whose agent reads; others are given back."""
    for _ in range(60):
        lease = worker.claim_job()
        if lease.kind in (JobKind.IMPROVE, JobKind.DRAFT) and has_findings(lease) is with_findings:
            return lease
        worker.release(lease)
    raise AssertionError("sixty jobs in a row were of the other arm")


def run(worker: MiniWorker, lease: GrantedLease, text: str, metric: float | None) -> None:
    files = {"train.py": text}
    assert worker.propose(lease, files).accepted
    assert worker.deliver(lease, make_result(lease, worker.files_of(lease), files, metric)).status_code == 201


def read(worker: MiniWorker) -> FindingsValue:
    return FindingsValue.model_validate(worker.get_json("/projects/tiny/findings-value"))


def test_a_pack_without_findings_has_numbers_and_nobodys_words(worker: MiniWorker, http: TestClient) -> None:
    run(worker, claim_arm(worker, with_findings=True), "A = 1\n", 3.2)
    words = "Its author says"
    for with_findings in (True, False):
        lease = claim_arm(worker, with_findings=with_findings)
        assert "## The steps that led to this parent" in lease.context and "## Running now elsewhere" in lease.context
        stored = LeaseContext.model_validate_json(http.get(f"/api/v1/leases/{lease.id}/context").content)
        assert stored.text == lease.context
        if not with_findings:
            assert words not in lease.context and stored.findings == []
        worker.release(lease)


def test_arms_count_duplicates_failures_and_effects(
    worker: MiniWorker, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project_page, "VALUE_SECONDS", 0.0)
    assert "What findings are worth" not in http.get("/projects/tiny").text, "nothing was proposed yet"
    run(worker, claim_arm(worker, with_findings=True), "A = 1\n", 3.2)
    run(worker, claim_arm(worker, with_findings=True), "A = 2\n", 3.1)
    blind = claim_arm(worker, with_findings=False)
    assert worker.propose(blind, {"train.py": "A = 1\n"}).accepted is False
    run(worker, blind, "A = 3\n", None)
    value = read(worker)
    seeing, unseeing = value.arms
    assert (seeing.with_findings, unseeing.with_findings, value.share_without) == (True, False, 0.5)
    assert (seeing.proposed, seeing.runs, seeing.measured) == (2, 2, 2)
    assert seeing.duplicates is not None and seeing.duplicates.value == 0 and seeing.duplicates.high > 0.5
    assert seeing.effect is None, "two are too few"
    assert (unseeing.proposed, unseeing.runs, unseeing.measured, unseeing.effect) == (1, 1, 0, None)
    assert unseeing.duplicates is not None and unseeing.duplicates.value == 1
    assert unseeing.failed is not None and unseeing.failed.value == 1
    given_back = claim_arm(worker, with_findings=False)
    worker.release(given_back)
    after = read(worker).arms[1]
    assert (after.proposed, after.duplicates) == (1, unseeing.duplicates) and after.jobs > unseeing.jobs >= 1
    page = http.get("/projects/tiny").text
    assert f"1 of {after.jobs}" in page
    assert "What findings are worth" in page and "Agents of 50 % of the jobs" in page


def test_intervals_are_those_of_the_books() -> None:
    """Wilson's interval for 1 of 10 by hand, and the mean of 24 numbers."""
    share = estimate_share(1, 10)
    assert share is not None
    assert (share.low, share.high) == (pytest.approx(0.0179, abs=5e-4), pytest.approx(0.4042, abs=5e-4))
    assert estimate_share(0, 0) is None and estimate_mean(19, 19.0, 19.0) is None
    mean = estimate_mean(24, 60.0, 180.0)  # six times 1, 2, 3, 4: sd 1.142
    assert mean is not None and mean.value == 2.5
    assert mean.high - mean.value == pytest.approx(1.96 * 1.142 / 24**0.5, abs=1e-3)


def test_each_volunteer_has_one_vote_on_how_often_runs_fail() -> None:
    """Nine volunteers' runs fail in one of ten cases, and the tenth's in all of a thousand."""
    honest = [(20.0, 2.0, 0.0)] * 9
    broken = (1000.0, 1000.0, 0.0)
    counted, failed, _ = weigh_votes([*honest, broken])
    assert failed / counted == pytest.approx(0.19)
    assert (180 * 0.1 + 1000) / 1180 > 0.8, "where each run counts alike it decides"
    assert weigh_votes([(200.0, 20.0, 4.0)]) == (200.0, 20.0, 4.0), "alone a volunteer's runs are all that there is"
    assert weigh_votes([]) == weigh_votes([(0.0, 0.0, 0.0)]) == (0.0, 0.0, 0.0)
