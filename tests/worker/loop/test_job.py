"""worker/loop/job.py against a real coordinator, with a runner that measures by formula."""

import threading
from email.utils import format_datetime

import httpx
import pytest

from shared.leases import Phase
from shared.protocol import now
from tests.support.seeds import TRAIN
from tests.worker.conftest import AHEAD, FormulaRunner, LiveCoordinator, ShiftedRunner
from tests.worker.workers import Wire, WorkerFactory, make_script, refuse
from worker.agents.base import Draft, Task
from worker.agents.search import SearchAgent
from worker.agents.search_space import read_constants
from worker.loop.heartbeat import HeartbeatDied
from worker.loop.loop import Ending


def test_measures_the_root_then_experiments_that_the_coordinator_stores(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    runner.formula = lambda request: 3.0 + abs(float(read_constants(request.files["train.py"])["DEPTH"].value) - 6) / 10
    worker = make_worker(live.url)
    assert worker.loop.run(max_jobs=4) is Ending.DONE
    first, *others = worker.witness.summaries
    assert first.title.startswith("replicate ")
    experiments = live.list("experiments")
    assert len(experiments) == 3
    assert {e["sha"] for e in experiments} == {r.report.commit_sha for r in others}
    for receipt in others:
        detail = live.get(f"experiments/{receipt.place.rpartition('/')[2]}")
        assert detail["title"] == receipt.title
        assert detail["runs"][0]["metric"] == pytest.approx(receipt.report.metric)
        assert receipt.title in detail["finding"]["claim"]
        assert detail["diff"].count("\n+") >= 1
    assert len(worker.outbox) == 0
    assert worker.witness.phases[:5] == [Phase.READY, Phase.TRAINING, Phase.TRAINING, Phase.SCORING, Phase.REPORTING]
    # The whole work tree is measured, protected files too, and the program is the project's own.
    assert set(runner.requests[-1].files) == {"train.py", "swarm.toml", "program.md"}


def test_two_workers_learn_from_each_other_and_do_not_repeat(live: LiveCoordinator, make_worker: WorkerFactory) -> None:
    for name in ("w1", "w2", "w1", "w2", "w1"):
        assert make_worker(live.url, name=name).loop.run(max_jobs=2) is Ending.DONE
    shas = [e["sha"] for e in live.list("experiments")]
    assert len(shas) == len(set(shas)) >= 4  # of ten jobs some are drawn to measure


def test_a_failed_run_is_a_result_with_a_finding(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    runner.formula = lambda request: 3.3 if request.files["train.py"] == TRAIN else None
    worker = make_worker(live.url, make_script(5))
    assert worker.loop.run() is Ending.DONE
    (experiment,) = live.list("experiments")
    assert experiment["outcome"] == "crashed"
    assert "heads must divide width" in live.get(f"experiments/{experiment['id']}")["finding"]["mechanism"]
    assert worker.witness.lines[-1] == "the script has no more steps"


class DateMovingTransport(httpx.HTTPTransport):
    """Answers are dated by a clock that is two hours behind the worker's."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        response.headers["Date"] = format_datetime(now() - AHEAD, usegmt=True)
        return response


@pytest.mark.parametrize("knows_its_error", [True, False])
def test_a_machine_with_a_wrong_clock_dates_results_by_the_coordinators(
    live: LiveCoordinator, make_worker: WorkerFactory, *, knows_its_error: bool
) -> None:
    transport = DateMovingTransport() if knows_its_error else None
    worker = make_worker(live.url, runner=ShiftedRunner(), transport=transport)
    assert worker.loop.run(max_jobs=1) is Ending.DONE
    (run,) = live.list("runs")
    assert run["outcome"] == ("ok" if knows_its_error else "invalid"), run["reason"]


def test_a_lease_that_is_lost_during_the_run_does_not_lose_the_run(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    lost = threading.Event()

    def lose() -> httpx.Response:
        lost.set()
        return refuse(410, "lease-ended")()

    runner.hook = lambda: (lost.wait(60), None)[1]
    worker = make_worker(live.url, transport=Wire({"heartbeat$": lose}))
    assert worker.loop.run(max_jobs=1) is Ending.DONE
    assert worker.witness.summaries[0].place.startswith(live.url)
    assert len(live.list("runs")) == 1


def test_a_heartbeat_that_dies_stops_the_worker(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    dying = threading.Event()

    def die() -> httpx.Response:
        dying.set()
        raise ZeroDivisionError("a bug")

    runner.hook = lambda: (dying.wait(60), None)[1]
    with pytest.raises(HeartbeatDied, match="a bug"):
        make_worker(live.url, transport=Wire({"heartbeat$": die})).loop.run()
    assert live.list("leases") == []


def test_draining_before_the_run_has_begun_gives_the_job_back(
    live: LiveCoordinator, make_worker: WorkerFactory
) -> None:
    assert make_worker(live.url).loop.run(max_jobs=1) is Ending.DONE

    class Slow(SearchAgent):
        def propose(self, task: Task) -> Draft:
            worker.stop.request()
            return super().propose(task)

    worker = make_worker(live.url, Slow())
    assert worker.loop.run() is Ending.DRAINED
    assert live.list("leases") == []
    assert live.list("experiments") == []
