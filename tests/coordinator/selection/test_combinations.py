"""Jobs to combine: what they change, and why. Over HTTP on both engines, and the pure rules."""

from collections.abc import Callable
from random import Random
from unittest.mock import Mock
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.models import Run, table_of
from coordinator.selection import step_queries
from coordinator.selection.additive_model import AdditiveModel, Prior, Row
from coordinator.selection.combinations import (
    FIT_SHARE,
    MAX_AGE_SECONDS,
    MIN_RUNS,
    MOST_CONSTANTS,
    MOST_STEPS,
    Known,
    LastFit,
    describe_commits,
    find_reference,
    limit_axes,
)
from coordinator.selection.step_queries import MODELLED_RUNS, MeasuredExperiment
from shared.experiments import AxisDirection, JobKind, Proposal, Setting, Step, StepFate, StepReport
from shared.findings import Paper
from shared.leases import GrantedLease, ResultUpload
from tests.support.messages import make_result, make_run
from tests.support.volunteers import MiniWorker

ROOT = "0" * 40
SEED: dict[str, Setting] = {"LEARNING_RATE": 0.003, "DEPTH": 4}


def make_experiment(number: int, parent: int = 0, kind: JobKind = JobKind.IMPROVE, axis: str = "DEPTH",
                    done: tuple[int, ...] = (), **settings: Setting) -> MeasuredExperiment:  # fmt: skip
    step = Step(experiment_id=number, title=f"idea {number}", sha=f"{number:040x}", parent_sha=f"{parent:040x}")
    return MeasuredExperiment(step, kind, axis, SEED | settings, frozenset(done))


def test_commits_are_described_by_what_differs_from_the_root() -> None:
    tried = [
        make_experiment(1, DEPTH=6),
        make_experiment(2, axis="the attention"),
        make_experiment(3, LEARNING_RATE=0.004),
        make_experiment(4, parent=2, axis="LEARNING_RATE", LEARNING_RATE=0.01),
        make_experiment(5, parent=1, kind=JobKind.ADOPT, axis="steps of other lines", done=(2,), DEPTH=6),
        make_experiment(6, parent=5, kind=JobKind.ABLATE, axis="steps of this line", done=(2,), DEPTH=6),
    ]
    reference = find_reference(tried, ROOT)
    assert reference == SEED
    described = describe_commits(tried, ROOT, reference)
    assert described == {
        ROOT: {},
        f"{1:040x}": {"DEPTH": 6},
        f"{2:040x}": {"#2": True},
        f"{3:040x}": {"LEARNING_RATE": 0.004},
        f"{4:040x}": {"#2": True, "LEARNING_RATE": 0.01},
        f"{5:040x}": {"#2": True, "DEPTH": 6},
        f"{6:040x}": {"DEPTH": 6},
    }


def test_a_constant_cannot_pass_for_a_step() -> None:
    tried = [make_experiment(1, DEPTH=6), make_experiment(2, **{"#1": True})]
    assert "#1" not in describe_commits(tried, ROOT, SEED | {"#1": False})[f"{2:040x}"]


def test_what_is_named_does_not_decide_what_a_fit_costs() -> None:
    """Someone names hundreds of constants and long texts; what many commits changed is kept."""
    commits: dict[str, dict[str, Setting]] = {f"{n:040x}": {"DEPTH": 6, f"#{n}": True} for n in range(1, 400)}
    commits["a" * 40] = {f"MADE_UP_{n}": n for n in range(1000)} | {"DEPTH": 8}
    commits["b" * 40] = {"NAME": "x" * 2000, "DEPTH": 2}
    kept = limit_axes(commits)
    axes = {axis for settings in kept.values() for axis in settings}
    assert kept.keys() == commits.keys() and kept["b" * 40] == {"DEPTH": 2}
    assert len([axis for axis in axes if axis.startswith("#")]) == MOST_STEPS
    assert "DEPTH" in axes and len(axes) == MOST_CONSTANTS + MOST_STEPS


@pytest.mark.parametrize(
    ("new", "age", "is_due"),
    [
        (0, 10 * MAX_AGE_SECONDS, False),
        (1, 5.0, False),
        (2, 5.0, True),  # a sixteenth of 32
        (1, MAX_AGE_SECONDS + 1, True),
        (2, 0.5 / FIT_SHARE, False),  # the last fit took a second
        (2, 2 / FIT_SHARE, True),
    ],
)
def test_a_model_is_fitted_again_when_it_can_have_grown_and_fits_take_little_of_the_time(
    new: int, age: float, is_due: bool
) -> None:
    known = Known(AdditiveModel([Row({}, 1, "cpu", 3.3)], {}, Prior(0.01, 0.01, 0.01)), {}, {}, {})
    seconds = 1.0 if age in (0.5 / FIT_SHARE, 2 / FIT_SHARE) else 0.01
    fit = LastFit(known, 32, through_id=7, ended_at=100.0, seconds=seconds)
    assert fit.is_due(7 + new, 100.0 + age) is is_due


def test_where_most_runs_failed_it_is_not_asked_with_each_claim_whether_the_others_suffice() -> None:
    fit = LastFit(None, 3, through_id=3_200, ended_at=100.0, seconds=0.01)
    assert not fit.is_due(3_201, 101.0) and fit.is_due(3_400, 101.0) and fit.is_due(3_201, 101.0 + MAX_AGE_SECONDS)


def measure(settings: dict[str, Setting]) -> float:
    """Each of two changes lowers the metric."""
    return 3.3 - 0.1 * (settings["DEPTH"] == 6) - 0.1 * (settings["LEARNING_RATE"] == 0.004)


def write_code(settings: dict[str, Setting]) -> str:
    return "".join(f"{name} = {value!r}\n" for name, value in settings.items())


def deliver(worker: MiniWorker, lease: GrantedLease, settings: dict[str, Setting], axis: str) -> int:
    """Propose and measure a configuration; returns the experiment's number."""
    files = {"train.py": write_code(settings)}
    told = [StepReport(experiment_id=step.experiment_id, fate=StepFate.DONE) for step in lease.assignment.steps]
    proposal = Proposal(
        title=f"{axis} {settings}"[:200], hypothesis="", axis=axis, direction=AxisDirection.CHANGE, settings=settings,
        steps=told, insists="a test",
    )  # fmt: skip
    reply = worker.propose(lease, files, proposal=proposal)
    assert reply.accepted, reply
    result = make_result(lease, worker.files_of(lease), files, measure(settings))
    answer = worker.deliver(lease, result.model_copy(update={"proposal": proposal}))
    assert answer.status_code == 201, answer.text
    return int(answer.json()["experiment_id"])


def make_measurement(lease: GrantedLease) -> ResultUpload:
    return ResultUpload(run=make_run(lease.base.sha, measure(read_settings(lease))))


def read_settings(lease: GrantedLease) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    exec(lease.base.files["train.py"], {}, settings)
    return settings


def claim(worker: MiniWorker, kind: JobKind) -> GrantedLease:
    """The worker's next experiment; what it is asked to measure before that is measured."""
    lease = worker.claim_job(kinds=[kind])
    while not lease.kind.makes_experiment:
        worker.deliver(lease, make_measurement(lease))
        lease = worker.claim_job(kinds=[kind])
    return lease


@pytest.fixture
def author(project: str, make_worker: Callable[..., MiniWorker]) -> MiniWorker:
    worker = make_worker()
    worker.measure_root()
    return worker


def test_that_too_little_was_measured_is_found_once(author: MiniWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    list_runs = Mock(wraps=step_queries.list_runs)
    monkeypatch.setattr(step_queries, "list_runs", list_runs)
    for _ in range(3):
        author.release(author.claim_job(kinds=[JobKind.IMPROVE]))
    assert list_runs.call_count == 1


def test_a_model_learns_from_experiments_while_many_newcomers_measure_the_seed(
    database: Database, author: MiniWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(author, claim(author, JobKind.IMPROVE), SEED | {"DEPTH": 6}, "DEPTH")
    runs = table_of(Run)
    with database.write() as session:
        of_seed = dict(session.execute(select(runs).where(runs.c.experiment_id.is_(None)).limit(1)).one()._mapping)
        rows = [of_seed | {"id": 10_000 + n, "uuid": uuid4()} for n in range(MODELLED_RUNS)]
        session.execute(runs.insert(), rows)
        read = step_queries.list_runs(session, of_seed["project_id"])
        monkeypatch.setattr(step_queries, "_NEWEST_MODELLED", step_queries._NEWEST_MODELLED.limit(0))
        (tried,) = step_queries.list_measured(session, of_seed["project_id"], [run.sha for run in read])
    assert tried.settings == SEED | {"DEPTH": 6}, "the experiment of a run is read, however many came since"
    assert sum(run.sha != of_seed["commit_sha"] for run in read) == 1 < len(read) < MODELLED_RUNS


@pytest.mark.usefixtures("stays_whole")
def test_what_is_drawn_as_gains_is_asked_for_together(http: TestClient, database: Database, author: MiniWorker) -> None:
    first = author.claim_job(kinds=[JobKind.COMBINE])
    assert first.kind is JobKind.IMPROVE and "Too little was measured" in first.why
    author.release(first)
    draw = Random(1)
    tried = [SEED | {"DEPTH": depth, "LEARNING_RATE": rate} for depth in (2, 4, 6, 8) for rate in (0.002, 0.003, 0.004)]
    tried = [one for one in tried if one not in (SEED, SEED | {"DEPTH": 6, "LEARNING_RATE": 0.004})]
    draw.shuffle(tried)
    assert len(tried) >= MIN_RUNS
    for settings in tried:
        deliver(author, claim(author, JobKind.IMPROVE), settings, "DEPTH and LEARNING_RATE")
    best = SEED | {"DEPTH": 6, "LEARNING_RATE": 0.004}
    leases = (claim(author, JobKind.COMBINE) for _ in range(40))  # a draw each, of which most take both
    lease = next(lease for lease in leases if read_settings(lease) | lease.assignment.settings == best)
    asked, base = lease.assignment, read_settings(lease)
    assert lease.kind is JobKind.COMBINE and (base["DEPTH"] == 6) is not (base["LEARNING_RATE"] == 0.004)
    assert asked.predicted_effect is not None and asked.predicted_effect < -0.01 and asked.new_values > 0
    assert "linear model" in lease.why and "Only its measurement counts" in lease.why
    number = deliver(author, lease, base | asked.settings, "several constants")
    experiment = http.get(f"/api/v1/experiments/{number}").json()
    paper = Paper.model_validate(http.get(f"/api/v1/findings/{experiment['finding']['id']}").json())
    (part,) = paper.parts
    assert part in ("DEPTH = 6", "LEARNING_RATE = 0.004") and paper.predicted_sum == asked.predicted_effect
    assert paper.interaction_mean == pytest.approx(
        experiment["posterior"]["effect_mean"] - paper.predicted_sum, abs=1e-9
    )
    page = http.get(f"/findings/{experiment['finding']['id']}").text
    assert "expected to add up to" in page and "Interaction" in page
