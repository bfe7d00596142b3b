"""A result is held to its lease: what does not fit counts for nothing; what honest workers send is kept as it is."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from coordinator.db.database import Database
from coordinator.leases import results
from coordinator.leases.validation import LeaseTerms, ResultRefused, WorkerTime, hold_to_lease
from shared.contract import BudgetClock, Contract, Rung, parse_contract
from shared.experiments import JobKind
from shared.leases import GrantedLease, OfflineLease, Phase, ResultUpload
from shared.protocol import API_PREFIX, now
from shared.runs import RunOutcome, RunReport, RunSeconds
from tests.support.clock import Clock
from tests.support.databases import ON_ONE_ENGINE, count_rows
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
@ON_ONE_ENGINE
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


@ON_ONE_ENGINE
def test_a_result_without_an_accepted_proposal_counts_for_nothing(worker: MiniWorker, is_held: bool) -> None:
    worker.measure_root()
    lease = worker.claim_job()
    upload = make_result(lease, worker.files_of(lease), {"train.py": BETTER}, 2.9)
    reply = worker.deliver(lease, upload)
    assert reply.status_code == 201 and (reply.json()["posterior"] is None) == is_held


@ON_ONE_ENGINE
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
@ON_ONE_ENGINE
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


@ON_ONE_ENGINE
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
    "a job of one's own, on a clock that is ahead": (
        terms(JobKind.IMPROVE, has_proposal=False, worker_time=WorkerTime(CLAIMED - timedelta(hours=1), 3000, False)),
        PATIENT, run_after(), 5,
    ),
    "a job of one's own before this coordinator's clock went back": (
        terms(JobKind.IMPROVE, has_proposal=False, worker_time=WorkerTime(CLAIMED, 3000, False)), PATIENT,
        run_after(begun=0), -60,
    ),
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


@ON_ONE_ENGINE
def test_a_repaired_experiment_is_the_proposed_one(worker: MiniWorker) -> None:
    """After a crash the agent mends the file; the proposal stays."""
    worker.measure_root()
    lease = worker.claim_job()
    assert worker.propose(lease, {"train.py": "LEARNING_RATE = 0.004\nDEPTH = x\n"}).accepted
    reply = worker.deliver(lease, make_result(lease, worker.files_of(lease), {"train.py": BETTER}, 3.2))
    assert reply.json()["posterior"] is not None


class Absence:
    """A volunteer's worker that gave itself jobs from the seed on while the coordinator was away."""

    def __init__(self, worker: MiniWorker) -> None:
        worker.measure_root()
        self.worker, self.lease = worker, worker.claim_job()
        self.files = worker.files_of(self.lease)
        worker.release(self.lease)

    def report(self, begun: datetime, **changes: Any) -> tuple[GrantedLease, ResultUpload]:
        """The result of a job of 29 s, of which it trained for 20; each has other code."""
        lease_id = uuid4()
        files = {"train.py": f"LEARNING_RATE = {lease_id.int % 10**9}\nDEPTH = 4\n"}
        times = {"started_at": begun, "finished_at": begun + timedelta(seconds=29), "seed": 5}
        granted = self.lease.model_copy(update={"id": lease_id, "seed": 5})
        return granted, make_result(granted, self.files, files, 3.2, **(times | changes))

    def deliver(self, granted: GrantedLease, upload: ResultUpload) -> tuple[str, str]:
        """Register the job and deliver its result; returns the stored outcome and reason."""
        own = OfflineLease(
            token="made-by-the-worker", worker=self.worker.name, agent="search", hardware=HARDWARE, project="tiny",
            base_sha=granted.base.sha, seed=5, issued_at=upload.run.started_at,
        )  # fmt: skip
        address = f"{API_PREFIX}/leases/{granted.id}"
        told = self.worker.http.put(address, json=own.model_dump(mode="json"), headers=self.worker._headers)
        assert told.status_code == 200, told.text
        reply = self.worker.deliver(granted, upload)
        assert reply.status_code in (200, 201), reply.text
        shown = self.worker.get_json(f"/runs/{reply.json()['run_id']}")
        assert (shown["metric"] is None) == (shown["outcome"] == "invalid")
        return shown["outcome"], shown["reason"]


NIGHT = 12 * 3600.0
UNTIMELY: dict[str, tuple[float, list[float], str]] = {
    # seconds since the worker was known; when its jobs began, in seconds after that; why all but the first do not count
    "all at the same time": (NIGHT, [3600.0] * 6, "Another run of its worker was under way"),
    "each a second after the other": (NIGHT, [3600.0 + at for at in range(6)], "Another run of its worker"),
    "one after the other in no time": (0, [30.0 * at - 270 for at in range(6)], "since it was known"),
    "before the worker was known": (NIGHT, [3600.0] + [-3600.0 - 30 * at for at in range(5)], "was known"),
}


@pytest.mark.parametrize("name", UNTIMELY)
@ON_ONE_ENGINE
def test_jobs_of_ones_own_take_their_time(worker: MiniWorker, clock: Clock, is_held: bool, name: str) -> None:
    known_for, begun, why = UNTIMELY[name]
    absence, since = Absence(worker), now()
    clock.jump(known_for)
    found = [absence.deliver(*absence.report(since + timedelta(seconds=at))) for at in begun]
    if is_held:
        assert all(outcome == "invalid" and why in reason for outcome, reason in found[1:]), found
    else:
        assert all(outcome == "ok" for outcome, _ in found)


@ON_ONE_ENGINE
def test_a_job_of_ones_own_ends_when_its_time_is_over(worker: MiniWorker, clock: Clock, is_held: bool) -> None:
    """Else a run without a duration would be in no other's way."""
    absence, begun = Absence(worker), now()
    clock.jump(NIGHT)
    outcome, _ = absence.deliver(*absence.report(begun, finished_at=begun))
    assert (outcome == "invalid") == is_held


def test_a_night_of_jobs_of_ones_own_counts(worker: MiniWorker, clock: Clock) -> None:
    """They come in any order, and one twice. Its clock is corrected by 9 s on the way; a scoring overlaps a start."""
    absence, since = Absence(worker), now() + timedelta(seconds=60)
    clock.jump(NIGHT)
    starts = [0, 29, 58, 84, 113, 142 - 9, 171 - 9, NIGHT - 120]
    done = [absence.report(since + timedelta(seconds=at)) for at in starts]
    late_first = done[::2] + done[1::2][::-1] + done[:1]
    assert [absence.deliver(*result) for result in late_first] == [("ok", "")] * (len(done) + 1)


@ON_ONE_ENGINE
def test_two_devices_are_two_workers(make_worker: Callable[..., MiniWorker], project: str, clock: Clock) -> None:
    first, second = Absence(make_worker()), Absence(make_worker("w2"))
    clock.jump(NIGHT)
    begun = now() - timedelta(hours=2)
    assert [absence.deliver(*absence.report(begun)) for absence in (first, second)] == [("ok", "")] * 2
    assert first.deliver(*first.report(begun))[0] == "invalid"


@ON_ONE_ENGINE
def test_a_name_is_no_device(make_worker: Callable[..., MiniWorker], project: str, clock: Clock, is_held: bool) -> None:
    """One machine with four names did one given job under each, in turn; overnight all names worked at once."""
    names = []
    for name in ("w1", "w2", "w3", "w4"):
        names.append(Absence(make_worker(name)))
        clock.jump(60)
    clock.jump(NIGHT)
    begun = now() - timedelta(hours=2)
    found = [absence.deliver(*absence.report(begun)) for absence in names]
    counted = [outcome for outcome, _ in found].count("ok")
    assert counted == (1 if is_held else 4), found
    if is_held:
        assert "1 trained at once at most" in found[1][1]


def test_a_fleet_delivers_its_night(make_worker: Callable[..., MiniWorker], project: str, clock: Clock) -> None:
    """Eight devices, of which one was away in the first night; what each did comes after what others did."""
    fleet = [Absence(make_worker(f"w{number}")) for number in range(7)]
    clock.jump(NIGHT)
    fleet.append(Absence(make_worker("w7")))
    fleet[0].worker.experiment("A = 1\n")
    for _ in range(2):
        clock.jump(NIGHT)
        begun = now() - timedelta(hours=2)
        jobs = [[absence.report(begun + timedelta(seconds=29 * job)) for job in range(3)] for absence in fleet[:7]]
        for absence, night in zip(fleet, jobs, strict=False):
            assert [absence.deliver(*result) for result in night] == [("ok", "")] * 3
    alone = now() - timedelta(hours=4)
    assert fleet[7].deliver(*fleet[7].report(alone)) == ("ok", "")


@ON_ONE_ENGINE
def test_an_invalid_job_of_ones_own_takes_no_time(worker: MiniWorker, clock: Clock) -> None:
    absence = Absence(worker)
    clock.jump(NIGHT)
    begun = now() - timedelta(hours=2)
    broken = absence.report(begun, seconds=RunSeconds(starting=1, training=0.5, scoring=1, total=2.5))
    assert absence.deliver(*broken)[0] == "invalid"
    assert absence.deliver(*absence.report(begun)) == ("ok", "")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_jobs_of_ones_own_that_come_at_once_are_judged_in_turn(worker: MiniWorker, clock: Clock) -> None:
    absence = Absence(worker)
    clock.jump(NIGHT)
    begun = now() - timedelta(hours=2)
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda _: absence.deliver(*absence.report(begun)), range(6)))
    assert sorted(outcome for outcome, _ in found) == ["invalid"] * 5 + ["ok"]


@pytest.mark.parametrize("kind", [kind for kind in JobKind if kind is not JobKind.CONFIRM])
def test_only_a_job_that_confirms_has_sealed_windows(kind: JobKind) -> None:
    run = run_after(holdout_metric=1.0)
    assert hold_to_lease(terms(kind), PATIENT, run, run.finished_at).holdout_metric is None
    asked = hold_to_lease(terms(JobKind.CONFIRM), PATIENT, run, run.finished_at)
    assert (asked.outcome, asked.holdout_metric) == (RunOutcome.OK, 1.0)


LONG = PATIENT.model_copy(
    update={"rungs": [Rung(name="long", training_seconds=80), Rung(name="longer", training_seconds=320)]}
)


@pytest.mark.parametrize(
    ("rung", "training", "outcome"),
    [
        ("long", 79.5, "ok"),
        ("long", 21.0, "ok"),  # after a long hand-over
        ("long", 19.5, "invalid"),  # an ordinary run
        ("long", 130.0, "invalid"),
        ("longer", 79.0, "invalid"),  # less than a quarter
        (None, 79.5, "invalid"),
    ],
)
def test_a_run_on_a_rung_is_held_to_the_rungs_budget(rung: str | None, training: float, outcome: str) -> None:
    run = run_after(training=training)
    stored = hold_to_lease(terms(JobKind.PROMOTE, rung=rung), LONG, run, run.finished_at)
    assert stored.outcome == outcome, stored.reason


def test_a_rung_may_have_a_floor_of_its_own() -> None:
    run = run_after(training=79.5, metric=0.9)
    for floor, outcome in ((None, "invalid"), (0.5, "ok"), (0.95, "invalid")):
        rung = Rung(name="long", training_seconds=80, plausible_floor=floor)
        contract = PATIENT.model_copy(update={"rungs": [rung]})
        assert hold_to_lease(terms(JobKind.PROMOTE, rung="long"), contract, run, run.finished_at).outcome == outcome


def test_a_run_on_a_rung_that_is_hardly_longer_may_end_before_its_last_step() -> None:
    contract = PATIENT.model_copy(update={"rungs": [Rung(name="long", training_seconds=21)]})
    run = run_after(training=18.5)
    assert hold_to_lease(terms(JobKind.PROMOTE, rung="long"), contract, run, run.finished_at).outcome == "ok"
