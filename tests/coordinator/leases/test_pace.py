"""Budgets normalised by the seed's throughput: the class's reference, paces, and what a false claim wins."""

from collections.abc import Callable
from statistics import fmean
from typing import Any
from uuid import uuid4

import pytest

from coordinator.db.database import Database
from coordinator.evidence import throughput
from coordinator.evidence.quarantine import set_anchor
from coordinator.evidence.throughput import MAX_MOVE, choose_pace, find_reference
from coordinator.leases import validation
from coordinator.selection import policy
from shared.contract import MAX_PACE, MIN_PACE
from shared.leases import GrantedLease, ResultReply, ResultUpload
from shared.runs import RunSeconds
from tests.support.clock import Clock
from tests.support.messages import make_result, make_run
from tests.support.swarm_data import end_epochs
from tests.support.volunteers import MiniWorker

MakeWorker = Callable[..., MiniWorker]


def measure(
    worker: MiniWorker, clock: Clock, speed: float | None, seconds: float = 20, **changes: Any
) -> tuple[GrantedLease, str]:
    """Measure the seed on a machine of this throughput; returns the lease and the run's outcome."""
    root = worker.get_json("/projects/tiny")["root_sha"]
    lease = worker.claim_job(seed_throughput=speed, probed_seed=root)
    clock.jump(seconds + 15)
    timed = RunSeconds(starting=4, training=seconds, scoring=5, total=seconds + 9)
    fields = {"seconds": timed, "tokens": round((speed or 20_000) * seconds)} | changes
    reply = worker.deliver(lease, ResultUpload(run=make_run(lease.base.sha, 3.3, **fields)))
    run = worker.get_json(f"/runs/{ResultReply.model_validate_json(reply.content).run_id}")
    assert (run["pace"], run["seed_throughput"]) == (lease.pace, speed)
    return lease, str(run["outcome"])


def test_the_seed_sees_as_many_tokens_on_each_machine(project: str, make_worker: MakeWorker, clock: Clock) -> None:
    """The first throughput is the reference; old workers, which name none, keep the contract's budget."""
    assert measure(make_worker("w", "first"), clock, 20_000)[0].pace == 1
    for name, speed, pace in (("slow", 10_000, 2.0), ("fast", 25_000, 0.8), ("old", None, 1.0)):
        lease, outcome = measure(make_worker("w", name), clock, speed, 20 * pace)
        assert (lease.pace, outcome) == (pytest.approx(pace), "ok")
    assert make_worker("w2", "other").claim_job(seed_throughput=1.0, probed_seed="0" * 40).pace == 1


@pytest.mark.parametrize(("speed", "seconds"), [(40_000, 80), (20_000, 80), (10_000, 120)])
def test_longer_trainings_than_the_pace_allows_count_for_nothing(
    project: str, make_worker: MakeWorker, clock: Clock, speed: float, seconds: float
) -> None:
    measure(make_worker("w", "first"), clock, 20_000)
    assert measure(make_worker("w", "long"), clock, speed, seconds)[1] == "invalid"


def test_a_pace_is_bounded() -> None:
    assert choose_pace(1e6, 1.0) == MAX_PACE and choose_pace(1.0, 1e6) == MIN_PACE
    assert choose_pace(None, 5.0) == choose_pace(5.0, None) == 1.0


def test_each_volunteer_has_one_vote_in_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = [(volunteer, 100.0 + volunteer) for volunteer in range(4)]
    crowd = [(9, 1e6)] * 50
    assert find_reference([*honest, *crowd], None) == 102.0
    assert find_reference([*honest, *crowd], 101.0) == 101.0, "it does not follow each small change"
    monkeypatch.setattr(throughput, "median", lambda values: fmean(values))
    found = find_reference([*honest, *crowd], None)
    assert found is not None and found > 1e5, "without the median a liar wins"


def test_a_reference_that_a_liar_set_is_put_right() -> None:
    """Also the first volunteer's, which nobody could outvote."""
    reference: float | None = find_reference([(1, 200.0)], None)
    for _ in range(12):
        before, reference = reference, find_reference([(1, 200.0), (2, 100.0), (3, 101.0)], reference)
        assert before is not None and reference is not None and before / reference <= MAX_MOVE + 1e-9
    assert reference == pytest.approx(101.0, rel=0.05)
    reference = find_reference([(1, 1e9)], None)
    for _ in range(4):
        reference = find_reference([(1, 1e9), (2, 100.0), (3, 101.0)], reference)
    assert reference == pytest.approx(101.0, rel=0.05), "also one that gave everybody the longest budget anyway"
    assert find_reference([], 7.0) == 7.0


def test_an_epoch_takes_the_median_of_what_volunteers_measured(
    project: str, make_worker: MakeWorker, clock: Clock, database: Database
) -> None:
    """Of what anchors measured, once there are any: however many others say something else, no budget follows it."""
    for name, speed in (("first", 20_000.0), ("ada", 22_000.0), ("bob", 23_000.0)):
        measure(make_worker("w", name), clock, speed, 20 * choose_pace(20_000, speed))
    end_epochs(database, always=True)
    assert measure(make_worker("w", "new"), clock, 11_000, 40)[0].pace == pytest.approx(2.0)
    assert measure(make_worker("w", "newer"), clock, 22_000, 20)[0].pace == pytest.approx(1.0)
    with database.write() as session:
        set_anchor(session, "first", "w", is_anchor=True, who="maintainer")
    end_epochs(database, always=True)
    assert measure(make_worker("w", "newest"), clock, 10_000, 40)[0].pace == pytest.approx(2.0)


def test_later_workers_of_a_class_probe_the_seed_before_their_first_job(
    project: str, make_worker: MakeWorker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seed's run is the first job of the first workers only; it needs no probe."""
    monkeypatch.setattr(policy, "SEED_WORKERS", 2)
    monkeypatch.setattr(policy, "SEED_VOLUNTEERS", 2)
    root = measure(make_worker("w", "first"), clock, 20_000)[0].root_sha
    assert make_worker("w", "second").claim_job().base.sha == root
    late = make_worker("w", "late")
    reply = late.claim()
    assert reply.lease is None and reply.probe is not None and reply.probe.root_sha == root
    lease = late.claim_job(seed_throughput=10_000.0, probed_seed=root)
    assert lease.kind.makes_experiment and lease.pace == 2.0
    assert make_worker("w", "unable").claim_job(probed_seed=root).pace == 1.0


@pytest.mark.parametrize("is_checked", [True, False])
def test_a_machine_that_is_slow_only_in_the_probe_wins_nothing(
    project: str, make_worker: MakeWorker, clock: Clock, monkeypatch: pytest.MonkeyPatch, is_checked: bool
) -> None:
    """It says that the seed is half as fast as it is, and gets twice the budget. Also where the seed is a bit faster
    than in its probe, on a busy machine, a run counts."""
    if not is_checked:
        monkeypatch.setattr(validation, "MOST_SPEED", float("inf"))
    measure(make_worker("w", "first"), clock, 20_000)
    lease, outcome = measure(make_worker("w", "liar"), clock, 10_000, 40, tokens=20_000 * 40)
    assert (lease.pace, outcome) == (2.0, "invalid" if is_checked else "ok")
    assert measure(make_worker("w", "busy"), clock, 12_000, 30, tokens=16_000 * 30)[1] == "ok"
    assert measure(make_worker("w", "slow"), clock, 12_000, 30)[1] == "ok"
    assert measure(make_worker("w", "fast"), clock, 25_000, 16, tokens=60_000 * 16)[1] == "ok", "it got less, not more"


@pytest.mark.parametrize(("speed", "outcome"), [(2_000, "ok"), (4_000, "invalid")])
def test_other_commits_are_held_to_what_others_saw_of_them(
    project: str, make_worker: MakeWorker, clock: Clock, speed: int, outcome: str
) -> None:
    """A commit that is slower than the seed, by a fifth of its tokens a second, on everybody's machine."""
    author = make_worker("w", "author")
    root = measure(author, clock, 20_000)[0].root_sha
    lease = author.claim_job(seed_throughput=20_000.0, probed_seed=root)
    files = {"train.py": "LEARNING_RATE = 0.004\nDEPTH = 4\n"}
    assert author.propose(lease, files).accepted
    clock.jump(60)
    upload = make_result(lease, author.files_of(lease), files, 3.0, tokens=4_000 * 20)
    assert author.deliver(lease, upload).status_code == 201
    checker = make_worker("w", "checker")
    measure(checker, clock, 10_000, 40)
    for later in range(16):  # its turn to measure comes once in eight jobs
        holding = [uuid4() for _ in range(later)]
        lease = checker.claim_job(seed_throughput=10_000.0, probed_seed=root, holding=holding)
        if not lease.kind.makes_experiment:
            break
        checker.release(lease)
    run = make_run(lease.base.sha, 3.0, tokens=speed * 20)
    clock.jump(60)
    assert not lease.kind.makes_experiment and lease.base.sha != root
    reply = checker.deliver(lease, ResultUpload(run=run))
    assert checker.get_json(f"/runs/{reply.json()['run_id']}")["outcome"] == outcome
