"""Statistics of runs: thinned curves, pace against the parent's runs, and the time that early stops save."""

from collections.abc import Callable

import pytest
from sqlalchemy import func, select, update

from coordinator.db.database import Database
from coordinator.evidence.run_stats import CURVE_POINTS, Work, compare_pace, thin
from coordinator.models import CommitPosterior, Run
from shared.leases import ResultUpload
from shared.runs import EarlyStops, ModelUsage, RunOutcome, RunSeconds
from tests.support.messages import make_run
from tests.support.volunteers import MiniWorker


def view(worker: MiniWorker) -> EarlyStops:
    return EarlyStops.model_validate(worker.get_json("/projects/tiny/early-stops"))


def test_a_thinned_curve_keeps_the_first_point_and_averages_the_rest() -> None:
    points = thin([[n, n / 10, float(n)] for n in range(491)])
    assert len(points) == CURVE_POINTS
    assert (points[0].step, points[0].loss) == (0, 0.0)
    assert (points[1].step, points[1].seconds, points[1].loss) == (10, pytest.approx(0.55), 5.5)
    assert points[-1].step == 490
    assert thin([]) == [] and len(thin([[1, 0.1, 5.0]])) == 1


def test_a_lease_brings_the_parents_curve_and_a_measurement_none(
    worker: MiniWorker, make_worker: Callable[..., MiniWorker]
) -> None:
    lease = worker.claim_job()
    assert lease.kind == "replicate" and lease.base.curve == []
    run = make_run(lease.base.sha)
    assert worker.deliver(lease, ResultUpload(run=run)).status_code == 201
    lease = worker.claim_job()
    assert [point.loss for point in lease.base.curve] == [point.loss for point in run.curve]
    other = make_worker("w2", "bo")
    assert other.claim_job().kind == "replicate", "who has measured nothing has nothing to compare with"


def test_a_sample_is_run_to_the_end(worker: MiniWorker) -> None:
    worker.measure_root()
    leases = [worker.claim_job() for _ in range(120)]
    assert 5 < sum(lease.run_to_end for lease in leases) < 60


def test_what_stopping_saves_and_how_often_it_is_wrong(worker: MiniWorker, database: Database) -> None:
    """The contract grants 20 s of training; each run took 29 s in all. One counts CPU time, of two cores."""
    worker.measure_root(3.3)
    assert view(worker).stopped == 0 and view(worker).saved_share == 0
    by_cpu = RunSeconds(starting=4, training=10, scoring=15, total=29, budget=20)
    for number, (share, changes) in enumerate([(0.4, {}), (0.9, {"seconds": by_cpu})]):
        stopped = {"outcome": "stopped_early", "hopeless_at": share, "reason": "hopeless"}
        worker.experiment(f"A = {number}\n", None, **stopped, **changes)
    worker.experiment("B = 1\n", 3.6, hopeless_at=0.5)
    worker.experiment("B = 2\n", 3.1, hopeless_at=0.5)
    worker.experiment("C = 1\n", 3.2)
    stops = view(worker)
    assert (stops.runs, stops.stopped, stops.sampled, stops.wrong) == (6, 2, 2, 1)
    assert stops.saved_seconds == pytest.approx(20 * (0.6 + 0.1 / 2))
    assert stops.spent_seconds == pytest.approx(6 * 29)
    page = worker.http.get("/projects/tiny").text
    assert "Stopped early" in page and "7.0 %" in page
    with database.read() as session:
        measured = session.scalar(select(func.count()).select_from(CommitPosterior))
    assert measured == 4, "a run that was stopped measures nothing"


def test_stopped_runs_do_not_speak_against_a_worker(worker: MiniWorker, database: Database) -> None:
    worker.measure_root()
    for number in range(6):
        worker.experiment(f"A = {number}\n", None, outcome="stopped_early", hopeless_at=0.5, reason="hopeless")
    assert worker.claim().lease is not None
    with database.write() as session:
        session.execute(update(Run).values(outcome=RunOutcome.CRASHED))
    assert view(worker).stopped == 0


def test_who_was_stopped_early_says_where(worker: MiniWorker) -> None:
    worker.measure_root()
    lease = worker.claim_job()
    upload = {"run": make_run("a" * 40).model_dump(mode="json") | {"outcome": "stopped_early", "metric": None}}
    response = worker.post(f"/leases/{lease.id}/result", upload, **{"Idempotency-Key": upload["run"]["id"]})
    assert response.status_code == 422 and "hopeless_at" in response.text


def test_what_a_model_was_asked_is_kept_with_the_run(worker: MiniWorker) -> None:
    worker.measure_root()
    usage = ModelUsage(requests=3, input_tokens=5120, output_tokens=800, cost=0.02)
    _, reply = worker.experiment("A = 1\n", 3.2, usage=usage)
    (run, root) = worker.get_json("/runs?project=tiny")["items"]
    assert ModelUsage.model_validate(run["usage"]) == usage and root["usage"] is None
    page = worker.http.get(f"/experiments/{reply.experiment_id}").text
    assert "5,120" in page and "tokens read" in page


def work(tokens: int, worker_id: int = 1, steps: int = 100, seconds: float = 10.0) -> Work:
    return Work(worker_id, tokens, steps, seconds)


@pytest.mark.parametrize(
    ("own", "parents", "pace"),
    [
        (work(700), [work(1000)], 0.7),
        (work(700, seconds=5), [work(1000)], 1.4),
        (work(700), [work(1000), work(990), work(20)], 700 / 990),
        (work(700), [work(1400, 2), work(1400, 3), work(1000, 1)], 0.7),
        (work(700, 9), [work(1400, 2), work(1000, 1)], 700 / 1200),
        (work(0, steps=80), [work(0)], 0.8),
        (work(700), [work(0)], None),
        (work(700), [], None),
        (work(700), [work(1000, seconds=0)], None),
        (work(700, seconds=0), [work(1000)], None),
        (work(0, steps=0), [work(0)], None),
    ],
    ids=[
        "fewer tokens", "less time", "the median", "its own worker's", "all others'", "steps", "tokens on one side",
        "not measured", "no time", "no own time", "nothing counted",
    ],
)  # fmt: skip
def test_a_pace_is_work_in_a_second_over_the_parents(own: Work, parents: list[Work], pace: float | None) -> None:
    assert compare_pace(own, parents) == (None if pace is None else pytest.approx(pace))
