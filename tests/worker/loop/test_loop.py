"""worker/loop/loop.py against a real coordinator, with a runner that measures by formula."""

import httpx
import pytest
from pydantic import SecretStr

from coordinator.selection import policy
from coordinator.settings import CoordinatorSettings
from shared.leases import ResultUpload
from tests.support.messages import HARDWARE, make_run
from tests.worker.agents.tasks import sha_of
from tests.worker.conftest import FormulaRunner, LiveCoordinator, serve
from tests.worker.workers import Wire, WorkerFactory, cut, make_script, refuse
from worker.api.client import Outdated, Rejected, Unauthorized, Unreachable
from worker.data.download import DataError
from worker.loop.loop import Ending, Loop
from worker.loop.outbox import Entry
from worker.runs.runner import RunRequest
from worker.runs.spec import MachineFault, RunImpossible
from worker.runs.throughput import PROBE_AGAIN_SECONDS, SeedThroughputs


def test_without_a_coordinator_the_first_contact_says_so(make_worker: WorkerFactory) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
        make_worker("http://127.0.0.1:1").loop.run()


def test_a_wrong_token_says_so(live: LiveCoordinator, make_worker: WorkerFactory) -> None:
    with pytest.raises(Unauthorized):
        make_worker(live.url, token=SecretStr("wrong")).loop.run()


def test_a_worker_that_has_become_too_old_reports_what_it_runs_and_ends(
    coordinator_settings: CoordinatorSettings, token: SecretStr, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    """While its experiment is measured the coordinator is updated, and wants newer workers from then on."""
    with serve(coordinator_settings) as url:
        assert make_worker(url).loop.run(max_jobs=1) is Ending.DONE
        older = serve(coordinator_settings.model_copy(update={"oldest_worker": "99.1"}))
        with older as newer_url:
            switch = Wire({})
            worker = make_worker(url, make_script(5, 6, 7), transport=switch)
            runner.hook = lambda: switch.lead_to(newer_url)
            with pytest.raises(Outdated, match=r"version 99\.1, or newer\. Update it: pip install --upgrade"):
                worker.loop.run()
        assert [e["title"] for e in LiveCoordinator(url, token).list("experiments")][-1] == "DEPTH 5"
    assert len(worker.outbox) == 0
    assert all(receipt.place.startswith("http") for receipt in worker.witness.summaries)


def test_a_coordinator_that_goes_away_gets_the_result_when_it_is_back(
    coordinator_settings: CoordinatorSettings, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    with serve(coordinator_settings) as url:
        assert make_worker(url).loop.run(max_jobs=1) is Ending.DONE
        gone = Wire({"result$": cut})
        worker = make_worker(url, make_script(5, 6), transport=gone)
        runner.hook = lambda: gone.faults.update({"": cut})
        assert worker.loop.run() is Ending.DRAINED  # it waited, and the test's view then told it to stop
    assert [r.place for r in worker.witness.summaries] == ["in the outbox"]
    assert any("kept in the outbox" in line for line in worker.witness.lines)
    assert "the cable is cut" in worker.witness.waits[0]
    with serve(coordinator_settings) as url:
        live = LiveCoordinator(url, SecretStr(""))
        assert live.list("experiments") == []
        later = make_worker(url, make_script(6))
        assert len(later.outbox) == 1
        assert later.loop.run(max_jobs=1) is Ending.DONE
        assert [e["title"] for e in live.list("experiments")] == ["DEPTH 6", "DEPTH 5"]
        assert any("delivered an earlier result" in line for line in later.witness.lines)


def test_a_refused_result_is_kept_beside_and_told(live: LiveCoordinator, make_worker: WorkerFactory) -> None:
    worker = make_worker(live.url, transport=Wire({"result$": refuse(422, "wrong-commit")}))
    assert worker.loop.run(max_jobs=1) is Ending.DONE
    assert any("rejected a result" in line and "wrong-commit" in line for line in worker.witness.lines)
    assert len(list(worker.outbox.rejected.glob("*.json"))) == 1
    assert worker.witness.summaries[0].place.startswith("rejected")


def test_a_result_for_a_lease_nobody_gave_is_refused(live: LiveCoordinator, make_worker: WorkerFactory) -> None:
    worker = make_worker(live.url)
    upload = ResultUpload(run=make_run(sha_of("x")))
    worker.outbox.put(Entry(project="tiny", lease_id=upload.run.id, upload=upload))
    assert worker.loop.run(max_jobs=1) is Ending.DONE
    assert any("lease-unknown" in line for line in worker.witness.lines)


@pytest.mark.parametrize("error", [DataError("the data's server is away"), OSError(28, "No space left on device")])
def test_a_job_that_fails_is_given_back_with_the_reason_and_the_worker_rests(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner, error: Exception
) -> None:
    def fail(request: RunRequest) -> float:
        raise error

    wire = Wire({})
    runner.formula = fail
    worker = make_worker(live.url, transport=wire)
    assert worker.loop.run() is Ending.DRAINED
    assert any(f"the job failed: {error}" in line for line in worker.witness.lines)
    assert wire.seen[-1].endswith("/release")
    assert live.list("leases") == []
    assert not (worker.folder / "crash.log").exists()


def test_a_mistake_of_ours_is_written_down_and_the_worker_goes_on(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    def fail(request: RunRequest) -> float:
        raise ZeroDivisionError("a bug")

    runner.formula = fail
    worker = make_worker(live.url)
    assert worker.loop.run() is Ending.DRAINED
    assert any("an error in the worker" in line for line in worker.witness.lines)
    assert "in fail" in (worker.folder / "crash.log").read_text()


def test_a_machine_that_cannot_run_the_harness_stops(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    def fail(request: RunRequest) -> float:
        raise RunImpossible("torch is missing")

    runner.formula = fail
    with pytest.raises(RunImpossible):
        make_worker(live.url).loop.run()
    assert live.list("leases") == []


def test_a_machine_that_could_run_a_harness_before_tries_again_later(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    def fail_second(request: RunRequest) -> float:
        if len(runner.requests) > 1:
            raise RunImpossible("its harness is broken")
        return 3.3

    runner.formula = fail_second
    worker = make_worker(live.url)
    assert worker.loop.run() is Ending.DRAINED
    assert any("its harness is broken" in line for line in worker.witness.lines)
    assert live.list("leases") == []


def test_a_machine_that_breaks_stops_with_the_reason_whatever_it_could_run_before(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    """No agent is asked to repair anything, and the job is given back."""

    def fail_second(request: RunRequest) -> float:
        if len(runner.requests) > 1:
            raise MachineFault("the project's own code fails on this machine: CUDA error: GPU is lost")
        return 3.3

    runner.formula = fail_second
    worker = make_worker(live.url)
    with pytest.raises(MachineFault, match="GPU is lost"):
        worker.loop.run()
    assert live.list("leases") == [] and len(live.list("runs")) == 1


def test_draining_finishes_the_run_and_reports_it(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    worker = make_worker(live.url)
    runner.hook = worker.stop.request
    assert worker.loop.run() is Ending.DRAINED
    assert len(live.list("runs")) == 1


def test_stopping_now_gives_the_job_back(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    worker = make_worker(live.url)
    runner.hook = lambda: (worker.stop.request(), worker.stop.request(), None)[2]
    assert worker.loop.run() is Ending.STOPPED
    assert live.list("leases") == []
    assert live.list("runs") == []


def test_once(live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner) -> None:
    runner.formula = lambda request: 3.3
    assert make_worker(live.url).loop.run(once=True) is Ending.DONE
    nothing = {"lease": None, "reason": "All is known.", "retry_after_seconds": 60}
    idle = make_worker(live.url, transport=Wire({"POST .*/leases$": lambda: httpx.Response(200, json=nothing)}))
    assert idle.loop.run(once=True) is Ending.NOTHING_TO_DO
    assert idle.witness.lines == ["All is known."]
    assert idle.witness.waits == []
    cut_off = make_worker(live.url, name="w2", transport=Wire({"result$": cut}))
    assert cut_off.loop.run(once=True) is Ending.FAILED
    assert len(cut_off.outbox) == 1


def test_nothing_to_do_is_waited_out_with_the_reason(live: LiveCoordinator, make_worker: WorkerFactory) -> None:
    nothing = {"lease": None, "reason": "All is known.", "retry_after_seconds": 60}
    idle = make_worker(live.url, transport=Wire({"POST .*/leases$": lambda: httpx.Response(200, json=nothing)}))
    assert idle.loop.run() is Ending.DRAINED
    assert idle.witness.waits == ["All is known."]


def test_a_claim_that_is_refused_at_first_contact_says_why(live: LiveCoordinator, make_worker: WorkerFactory) -> None:
    worker = make_worker(live.url)
    loop = Loop(worker.parts, "no-such-project", worker.folder / "crash.log")
    with pytest.raises(Rejected, match="no-such-project"):
        loop.run()


@pytest.fixture
def one_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first worker of a class measures the seed."""
    monkeypatch.setattr(policy, "SEED_WORKERS", 1)


@pytest.mark.usefixtures("one_baseline")
def test_a_new_worker_of_a_known_class_probes_the_seed_first(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    """The first of a class measures the seed anyway; whoever comes later is told to, and has a pace from the start."""
    first = make_worker(live.url, make_script(5, 6), throughputs=SeedThroughputs(None, HARDWARE))
    assert first.loop.run(max_jobs=3) is Ending.DONE
    assert runner.probed == [] and {request.pace for request in runner.requests} == {1.0}
    runner.throughput = 16_000.0
    throughputs = SeedThroughputs(None, HARDWARE)
    throughputs.add("e" * 40, 3.0)  # of another project
    late = make_worker(live.url, make_script(7), "late", throughputs=throughputs)
    assert late.loop.run(max_jobs=1) is Ending.DONE
    assert [request.sha for request in runner.probed] == [first.witness.claimed[0].root_sha]
    assert runner.requests[-1].pace == late.witness.claimed[0].pace == pytest.approx(1.25)
    assert late.witness.waits == []


@pytest.mark.usefixtures("one_baseline")
@pytest.mark.parametrize("fault", [None, DataError("no such file")])
def test_a_seed_that_cannot_be_probed_costs_no_job(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner, fault: Exception | None
) -> None:
    runner.probe_fault, runner.throughput = fault, None
    for name in ("w1", "w2"):
        worker = make_worker(live.url, make_script(5, 6), name, throughputs=SeedThroughputs(None, HARDWARE))
        assert worker.loop.run(max_jobs=3 if name == "w1" else 1) is Ending.DONE
    assert len(runner.probed) == 1 and runner.requests[-1].pace == 1.0


@pytest.mark.usefixtures("one_baseline")
def test_a_reading_that_is_old_is_taken_again(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    moment = [1e9]
    throughputs = SeedThroughputs(None, HARDWARE, lambda: moment[0])
    worker = make_worker(live.url, make_script(5, 6), throughputs=throughputs)
    assert worker.loop.run(max_jobs=2) is Ending.DONE and runner.probed == []
    moment[0] += PROBE_AGAIN_SECONDS
    assert worker.loop.run(max_jobs=1) is Ending.DONE and len(runner.probed) == 1
