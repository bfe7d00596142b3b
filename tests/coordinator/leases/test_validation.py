"""A result is held to its lease: what does not fit counts for nothing; what honest workers send is kept as it is."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from coordinator.db.database import Database
from coordinator.leases import results
from coordinator.leases.validation import LeaseTerms, ResultRefused, hold_to_lease
from shared.contract import BudgetClock, Contract, parse_contract
from shared.experiments import JobKind
from shared.leases import GrantedLease, OfflineLease, Phase, ResultUpload
from shared.protocol import API_PREFIX, now
from shared.runs import RunOutcome, RunReport, RunSeconds
from tests.support.databases import count_rows
from tests.support.messages import HARDWARE, make_proposal, make_result, make_run
from tests.support.seeds import CONTRACT
from tests.support.volunteers import MiniWorker

PATIENT = parse_contract(CONTRACT.format(name="tiny"))  # 20 s of training, a floor of 1.0
BY_CPU = PATIENT.model_copy(update={"budget": PATIENT.budget.model_copy(update={"clock": BudgetClock.CPU})})
ENDS_EARLY = PATIENT.model_copy(update={"budget": PATIENT.budget.model_copy(update={"may_end_early": True})})
CLAIMED = datetime.fromisoformat("2026-05-01T12:00:00Z")
OTHER = HARDWARE.model_copy(update={"cores": 64})
BETTER = "LEARNING_RATE = 0.004\nDEPTH = 4\n"

FALSE_RUNS: dict[str, tuple[dict[str, Any], str]] = {
    "another seed": ({"seed": 5}, "seed 5"),
    "long before the claim": ({"started_at": now() - timedelta(days=9)}, "before its lease"),
    "in the future": ({"finished_at": now() + timedelta(days=9)}, "in the future"),
    "longer than since the claim": (
        {"seconds": RunSeconds(starting=300, training=20, scoring=5, total=325)}, "longer than",
    ),
    "parts without a whole": ({"seconds": RunSeconds(starting=0, training=20, scoring=0, total=0)}, "parts"),
    "more than its budget": ({"seconds": RunSeconds(starting=0, training=52, scoring=1, total=53)}, "budget"),
    "more CPU time than there is": (
        {"seconds": RunSeconds(starting=1, training=2, scoring=1, total=4, budget=20)}, "on 2 cores",
    ),
    "no training at all": ({"seconds": RunSeconds(starting=1, training=0.5, scoring=1, total=2.5)}, "only 0.5 s"),
    "an impossible metric": ({"metric": -5.0}, "plausible floor"),
}  # fmt: skip


def accept_all(_terms: LeaseTerms, _contract: Contract, run: RunReport, _received_at: datetime) -> RunReport:
    return run


@pytest.fixture(params=["held to its lease", "not held to anything"])
def is_held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether results are validated. Without it each attack must succeed, or it shows nothing."""
    if request.param == "held to its lease":
        return True
    monkeypatch.setattr(results, "hold_to_lease", accept_all)
    return False


@pytest.mark.parametrize("name", FALSE_RUNS)
def test_a_false_measurement_of_the_seed_becomes_no_baseline(worker: MiniWorker, is_held: bool, name: str) -> None:
    changes, why = FALSE_RUNS[name]
    lease = worker.claim_job()
    run = make_run(lease.base.sha, **({"metric": 3.3, "seed": lease.seed} | changes))
    if name == "longer than since the claim":
        run = run.model_copy(update={"started_at": run.started_at - timedelta(seconds=200)})
    reply = worker.deliver(lease, ResultUpload(run=run), keeps_seed=True)
    assert reply.status_code == 201, reply.text
    shown = worker.get_json(f"/runs/{reply.json()['run_id']}")
    assert (reply.json()["posterior"] is None, shown["outcome"]) == (is_held, "invalid" if is_held else "ok")
    assert not is_held or (why in shown["reason"] and shown["metric"] is None), shown["reason"]


def test_a_result_without_an_accepted_proposal_counts_for_nothing(worker: MiniWorker, is_held: bool) -> None:
    worker.measure_root()
    lease = worker.claim_job()
    upload = make_result(lease, worker.files_of(lease), {"train.py": BETTER}, 2.9)
    reply = worker.deliver(lease, upload)
    assert reply.status_code == 201 and (reply.json()["posterior"] is None) == is_held


def test_a_refused_proposal_is_not_run_all_the_same(worker: MiniWorker, is_held: bool) -> None:
    worker.measure_root()
    worker.experiment(BETTER, 3.2)
    lease = worker.claim_job()
    copy = "LEARNING_RATE = 0.004  # mine\nDEPTH = 4\n"
    files = worker.get_json(f"/projects/tiny/commits/{lease.root_sha}/files")["files"]
    assert not worker.propose(lease, {"train.py": copy}).accepted
    reply = worker.deliver(lease, make_result(lease, files | lease.base.files, {"train.py": copy}, 2.9))
    assert reply.status_code == 201 and (reply.json()["posterior"] is None) == is_held


@pytest.mark.parametrize("copy", [BETTER, "LEARNING_RATE = 0.004  # mine\nDEPTH = 4\n"])
def test_refused_code_does_not_slip_in_behind_an_accepted_proposal(
    worker: MiniWorker, is_held: bool, copy: str
) -> None:
    worker.measure_root()
    worker.experiment(BETTER, 3.2)
    lease = worker.claim_job()
    files = worker.files_of(lease)
    assert not worker.propose(lease, {"train.py": copy}).accepted
    new = make_proposal("Something else").model_copy(update={"insists": "It is new."})
    assert worker.propose(lease, {"train.py": "LEARNING_RATE = 0.0077\nDEPTH = 4\n"}, proposal=new).accepted
    reply = worker.deliver(lease, make_result(lease, files, {"train.py": copy}, 2.9))
    assert reply.status_code == 201 and (reply.json()["posterior"] is None) == is_held
    assert not is_held or "not the code" in worker.get_json(f"/runs/{reply.json()['run_id']}")["reason"]


def test_another_hardware_class_is_refused_and_named(worker: MiniWorker, database: Database, is_held: bool) -> None:
    lease = worker.claim_job()
    before = count_rows(database)
    reply = worker.deliver(lease, ResultUpload(run=make_run(lease.base.sha, 3.3, hardware=OTHER)))
    assert reply.status_code == (422 if is_held else 201)
    if is_held:
        assert reply.json()["type"] == "/problems/result-unfit"
        assert reply.json()["errors"][0]["where"] == "body.run.hardware"
        assert count_rows(database) == before
        assert worker.deliver(lease, ResultUpload(run=make_run(lease.base.sha, 3.3))).status_code == 201


# What honest workers send.


def terms(kind: JobKind = JobKind.REPLICATE, **changes: Any) -> LeaseTerms:
    fields = {
        "kind": kind, "phase": Phase.REPORTING, "seed": 7, "hardware_class": HARDWARE.hardware_class,
        "issued_at": CLAIMED, "has_proposal": kind.makes_experiment,
    }  # fmt: skip
    return LeaseTerms(**(fields | changes))


def run_after(
    begun: float = 60, training: float = 20, clock_error: float = 0, used: float | None = None, **changes: Any
) -> RunReport:
    """A run that began so many seconds after the claim, on a machine whose clock is ahead by `clock_error`."""
    started = CLAIMED + timedelta(seconds=begun + clock_error)
    seconds = RunSeconds(starting=4, training=training, scoring=5, total=9 + training, budget=used)
    finished = started + timedelta(seconds=seconds.total)
    return make_run("a" * 40, **{"started_at": started, "finished_at": finished, "seconds": seconds} | changes)


HONEST: dict[str, tuple[LeaseTerms, Contract, RunReport, float]] = {
    "in time": (terms(), PATIENT, run_after(), 100),
    "at once": (terms(), PATIENT, run_after(begun=0), 29),
    "days late": (terms(), PATIENT, run_after(), 9 * 86_400),
    "a clock that is 4 minutes ahead": (terms(), PATIENT, run_after(clock_error=240), 100),
    "a clock that is 4 minutes behind": (terms(), PATIENT, run_after(begun=0, clock_error=-240), 40),
    "a coordinator whose clock went back": (terms(), PATIENT, run_after(), -60),
    "a slow machine that trained one step": (terms(), PATIENT, run_after(training=5.0), 100),
    "a compressor that was done early": (terms(), ENDS_EARLY, run_after(training=0.1), 100),
    "two cores on a budget of CPU time": (terms(), BY_CPU, run_after(training=10, used=19.9), 100),
    "a busy machine on a budget of CPU time": (terms(), BY_CPU, run_after(training=60, used=3.0), 200),
    "a busy machine that was late": (terms(), PATIENT, run_after(training=22), 100),
    "an experiment": (terms(JobKind.IMPROVE), PATIENT, run_after(), 100),
    "an experiment too good to believe": (terms(JobKind.IMPROVE), PATIENT, run_after(metric=0.4), 100),
    "at the floor": (terms(), PATIENT, run_after(metric=1.0), 100),
    "a job of one's own": (terms(JobKind.IMPROVE, has_proposal=False), PATIENT, run_after(), 5),
    "a crash at the start": (
        terms(), PATIENT,
        run_after(metric=None, seconds=RunSeconds(starting=1, training=0, scoring=0, total=1)), 100,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_run_is_stored_as_it_was_reported(name: str) -> None:
    lease, contract, run, received = HONEST[name]
    assert hold_to_lease(lease, contract, run, CLAIMED + timedelta(seconds=received)) == run


def test_only_a_job_of_ones_own_does_without_a_proposal() -> None:
    for phase in Phase:
        lease = terms(JobKind.IMPROVE, phase=phase, has_proposal=False)
        held = hold_to_lease(lease, PATIENT, run_after(), CLAIMED + timedelta(seconds=100))
        assert (held.outcome is RunOutcome.OK) == (phase is Phase.REPORTING)


def test_the_reason_keeps_what_the_worker_said() -> None:
    run = run_after(metric=None, seed=8, reason="out of memory " * 70)
    held = hold_to_lease(terms(), PATIENT, run, CLAIMED + timedelta(seconds=100))
    assert held.outcome is RunOutcome.INVALID and "Reported as crashed: out of memory" in held.reason
    assert RunReport.model_validate(held.model_dump()) == held


def test_no_class_but_the_leases_own() -> None:
    with pytest.raises(ResultRefused) as caught:
        hold_to_lease(terms(), PATIENT, run_after(hardware=OTHER), CLAIMED + timedelta(seconds=100))
    assert caught.value.field == "run.hardware"


def test_a_repaired_experiment_is_the_proposed_one(worker: MiniWorker) -> None:
    """After a crash the agent mends the file; the proposal stays."""
    worker.measure_root()
    lease = worker.claim_job()
    assert worker.propose(lease, {"train.py": "LEARNING_RATE = 0.004\nDEPTH = x\n"}).accepted
    reply = worker.deliver(lease, make_result(lease, worker.files_of(lease), {"train.py": BETTER}, 3.2))
    assert reply.json()["posterior"] is not None


def test_a_job_done_while_the_coordinator_was_away_counts(worker: MiniWorker) -> None:
    worker.measure_root()
    lease = worker.claim_job()
    files = worker.files_of(lease)
    worker.release(lease)
    own_id = uuid4()
    own = OfflineLease(
        token="made-by-the-worker", worker=worker.name, agent="search", hardware=HARDWARE, project="tiny",
        base_sha=lease.base.sha, seed=5, issued_at=now() - timedelta(hours=20),
    )  # fmt: skip
    begun = own.issued_at + timedelta(minutes=1)
    times = {"started_at": begun, "finished_at": begun + timedelta(seconds=29)}
    told = worker.http.put(f"{API_PREFIX}/leases/{own_id}", json=own.model_dump(mode="json"), headers=worker._headers)
    assert told.status_code == 200
    granted: GrantedLease = lease.model_copy(update={"id": own_id, "seed": own.seed})
    reply = worker.deliver(granted, make_result(lease, files, {"train.py": BETTER}, 3.2, **times))
    assert reply.json()["posterior"] is not None, reply.text
