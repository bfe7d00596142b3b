"""worker/loop/offline.py: going on while the coordinator is away, from the best commit that is known here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.settings import CoordinatorSettings
from shared.experiments import ProposalSubmission
from shared.leases import BaseCommit, GrantedLease
from tests.support.messages import HARDWARE, make_proposal, make_run
from tests.support.tiny_project import tiny_contract
from tests.worker.agents.tasks import sha_of
from tests.worker.conftest import FormulaRunner, LiveCoordinator, serve
from tests.worker.loop.test_heartbeat import make_lease
from tests.worker.workers import Wire, WorkerFactory, cut, make_script
from worker.loop.loop import Ending
from worker.loop.offline import FILE, MAX_SCORES, OfflineMode, expected_metric

CONTRACT = tiny_contract("http://nowhere", b"")
NOISE, EFFECT = CONTRACT.evidence.noise_sd, CONTRACT.evidence.effect_sd


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def make_offline(folder: Path, clock: Clock | None = None, **changes: Any) -> OfflineMode:
    return OfflineMode(folder, "w1", "search", HARDWARE, clock=clock or Clock(), **changes)


def lease_on(name: str) -> GrantedLease:
    base = BaseCommit(sha=sha_of(name), files={"train.py": name}, posterior=None)
    return make_lease().model_copy(update={"base": base})


def test_it_waits_a_while_and_only_goes_on_with_what_it_knows(tmp_path: Path) -> None:
    clock = Clock()
    offline = make_offline(tmp_path, clock)
    offline.record_no_answer()
    clock.now = 1000.0
    assert offline.coordinator_is_away and not offline.may_claim  # it never had a job
    offline.record_lease(lease_on("a"))
    assert offline.may_claim
    offline.record_answer()
    assert not offline.coordinator_is_away and not offline.may_claim
    offline.record_no_answer()
    assert not offline.may_claim  # a restart is no absence
    clock.now += 60.0
    assert offline.may_claim


def test_it_goes_on_from_the_commit_that_did_best_here_and_after_a_restart_too(tmp_path: Path) -> None:
    offline = make_offline(tmp_path)
    offline.record_lease(lease_on("a"))
    assert offline.make_lease().base.sha == sha_of("a")  # nothing was measured yet
    for name, metric in (("a", 3.3), ("b", 3.1), ("c", 3.2)):
        offline.record_run(lease_on("a"), CONTRACT, make_run(sha_of(name), metric), {"train.py": name})
    offline.record_run(lease_on("a"), CONTRACT, make_run(sha_of("d"), None), {"train.py": "d"})
    offline.record_lease(lease_on("z"))
    for known in (offline, make_offline(tmp_path)):
        lease = known.make_lease()
        assert (lease.base.sha, lease.base.files) == (sha_of("b"), {"train.py": "b"})
        assert lease.kind.makes_experiment and "by itself" in lease.why
        own = known.find_offline(lease.id)
        assert own is not None and (own.base_sha, own.token, own.seed) == (lease.base.sha, lease.token, lease.seed)
    assert offline.find_offline(lease_on("a").id) is None


def test_another_project_begins_anew(tmp_path: Path) -> None:
    offline = make_offline(tmp_path)
    offline.record_lease(lease_on("a"))
    offline.record_run(lease_on("a"), CONTRACT, make_run(sha_of("b"), 3.1), {})
    offline.record_lease(lease_on("q").model_copy(update={"project": "other"}))
    assert offline.make_lease().base.sha == sha_of("q")
    offline.record_run(lease_on("a"), CONTRACT, make_run(sha_of("c"), 1.0), {})
    assert offline.make_lease().base.sha == sha_of("q")


def test_the_same_code_is_tried_once(tmp_path: Path) -> None:
    offline = make_offline(tmp_path)
    offline.record_lease(lease_on("a"))
    lease = offline.make_lease()
    submission = ProposalSubmission(token=lease.token, proposal=make_proposal(), files={"train.py": "x"})
    assert offline.propose(lease.id, submission).accepted
    again = offline.propose(lease.id, submission)
    assert not again.accepted and "has tried this" in again.reason


def test_a_file_that_cannot_be_read_is_as_none(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    assert not make_offline(tmp_path).has_project


def test_one_lucky_run_is_not_taken_at_its_word() -> None:
    assert expected_metric(3.0, {}, None, CONTRACT) == 3.0
    shrunk = expected_metric(3.0, {sha_of("p"): 3.2}, sha_of("p"), CONTRACT)
    assert shrunk == pytest.approx(3.2 - 0.2 * EFFECT**2 / (EFFECT**2 + NOISE**2))


@given(st.floats(1, 5), st.floats(1, 5))
def test_what_is_expected_lies_between_the_run_and_its_parent(value: float, parent: float) -> None:
    low, high = sorted((value, parent))
    assert low - 1e-9 <= expected_metric(value, {sha_of("p"): parent}, sha_of("p"), CONTRACT) <= high + 1e-9


def test_what_is_known_is_bounded(tmp_path: Path) -> None:
    offline = make_offline(tmp_path)
    offline.record_lease(lease_on("a"))
    assert offline._state is not None
    full = {f"{n:040x}": 3.0 for n in range(MAX_SCORES)}
    offline._state = offline._state.model_copy(update={"scores": full})
    offline.record_run(lease_on("a"), CONTRACT, make_run(sha_of("b"), 1.0), {})
    assert len(offline._state.scores) == MAX_SCORES


def test_a_worker_goes_on_alone_and_delivers_when_the_coordinator_is_back(
    coordinator_settings: CoordinatorSettings, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    metrics: dict[str, float] = {}  # each commit is better than the one before
    runner.formula = lambda request: metrics.setdefault(request.sha, 3.3 - 0.05 * len(metrics))
    with serve(coordinator_settings) as url:
        assert make_worker(url, alone_after=0.0).loop.run(max_jobs=1) is Ending.DONE
    gone = Wire({"": cut})
    worker = make_worker("http://127.0.0.1:1", make_script(5, 6, 7), transport=gone, alone_after=0.0)
    assert worker.loop.run(max_jobs=3) is Ending.DONE
    assert [receipt.place for receipt in worker.witness.summaries] == ["in the outbox"] * 3
    assert len(worker.outbox) == 3
    assert any("working offline" in line for line in worker.witness.lines)
    assert len(gone.seen) <= 4, "it is asked at the times of the backoff, and not after each run"
    with serve(coordinator_settings) as url:
        live = LiveCoordinator(url, worker.parts.client._token)
        later = make_worker(url, make_script(8))
        assert later.loop.run(max_jobs=1) is Ending.DONE
        assert len(later.outbox) == 0
        rows = live.list("experiments")
        assert [row["title"] for row in rows] == ["DEPTH 8", "DEPTH 7", "DEPTH 6", "DEPTH 5"]
        shas = [row["sha"] for row in rows]
        root = rows[-1]["parent_sha"]
        assert all(row["parent_sha"] in (*shas[index + 1 :], root) for index, row in enumerate(rows))
        assert live.list("leases") == []
