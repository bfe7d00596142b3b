"""Jobs that need no language model, end to end: a real coordinator, and the agent that a volunteer gets."""

from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.models import AssembledStep, KindShare, Project
from coordinator.models import Event as EventRow
from coordinator.settings import CoordinatorSettings
from shared.events import EventKind
from shared.experiments import AxisDirection, JobKind, Proposal
from shared.leases import GrantedLease
from shared.protocol import now
from tests.support.messages import make_result
from tests.support.seeds import TRAIN
from tests.support.volunteers import MiniWorker
from tests.worker.conftest import FormulaRunner, LiveCoordinator
from tests.worker.workers import WorkerFactory
from worker.agents.base import Agent
from worker.agents.composite import make_agent
from worker.agents.search_space import read_settings
from worker.loop.loop import Ending
from worker.loop.stop import Stop
from worker.runs.runner import RunRequest
from worker.settings import load_settings

DEEPER = TRAIN.replace("DEPTH = 4", "DEPTH = 6")
FASTER = TRAIN.replace("0.003", "0.004")
BOTH = DEEPER.replace("0.003", "0.004")


def measure(request: RunRequest) -> float:
    """Each of the two changes lowers the metric by 0.1, and they add up."""
    settings = read_settings({"train.py": request.files["train.py"]})
    return 3.3 - 0.1 * (settings["DEPTH"] == 6) - 0.1 * (settings["LEARNING_RATE"] == 0.004)


@pytest.fixture
def agent() -> Agent:
    """The agent of `swarm-worker` without settings."""
    return make_agent(load_settings({"device": "cpu"}), lambda line: None, Stop())


@pytest.fixture
def database(coordinator_settings: CoordinatorSettings) -> Iterator[Database]:
    with closing(Database(coordinator_settings.database_url)) as database:
        yield database


@pytest.fixture
def two_lines(live: LiveCoordinator) -> Iterator[MiniWorker]:
    """Two workers that began at the same time, each of which found one of the changes."""
    with httpx.Client(base_url=live.url, timeout=60) as http:
        crew = [MiniWorker(http, live.token.get_secret_value(), name) for name in ("m1", "m2")]
        for worker in crew:
            worker.measure_root()
        leases = [worker.claim_job() for worker in crew]
        for worker, lease, axis, text in zip(crew, leases, ("DEPTH", "LEARNING_RATE"), (DEEPER, FASTER), strict=True):
            upload = make_result(lease, worker.files_of(lease), {"train.py": text}, 3.2)
            proposal = Proposal(
                title=f"another {axis}", hypothesis="", axis=axis, direction=AxisDirection.UP,
                settings=read_settings({"train.py": text}),
            )  # fmt: skip
            assert worker.propose(lease, {"train.py": text}, proposal=proposal).accepted
            assert worker.deliver(lease, upload.model_copy(update={"proposal": proposal})).status_code == 201
        yield crew[0]


def share_all_work(database: Database, kind: JobKind) -> None:
    with database.write() as session:
        project_id = session.scalars(select(Project.id)).one()
        rest = {"gain": 0.0, "gpu_seconds": 0.0, "experiments": 0, "through_run_id": 0, "updated_at": now()}
        session.add(KindShare(project_id=project_id, kind=kind, share=1.0, **rest))


def work(make_worker: WorkerFactory, live: LiveCoordinator, agent: Agent, name: str) -> GrantedLease:
    """Let a new worker measure the seed and do one experiment; returns that one's lease."""
    worker = make_worker(live.url, agent, name=name)
    assert worker.loop.run(max_jobs=2) is Ending.DONE, worker.witness.lines
    if not worker.witness.summaries[-1].lease.kind.makes_experiment:  # it was its turn to measure something
        assert worker.loop.run(max_jobs=1) is Ending.DONE, worker.witness.lines
    lease = worker.witness.summaries[-1].lease
    assert isinstance(lease, GrantedLease) and lease.kind.makes_experiment
    return lease


def test_gains_of_two_lines_are_put_together(
    live: LiveCoordinator, two_lines: MiniWorker, make_worker: WorkerFactory, agent: Agent, runner: FormulaRunner,
    database: Database,
) -> None:  # fmt: skip
    runner.formula = measure
    lease = work(make_worker, live, agent, "w1")
    assert lease.kind is JobKind.ADOPT and len(lease.assignment.steps) == 1
    other = lease.assignment.steps[0].experiment_id
    assert f"The changes of #{other} look like gains" in lease.why
    newest = live.get(f"experiments/{live.list('experiments')[0]['id']}")
    assert newest["kind"] == "adopt" and newest["steps"] == [{"experiment_id": other, "fate": "done"}]
    assert newest["parent_sha"] == lease.base.sha and newest["why"] == lease.why
    assert runner.requests[-1].files["train.py"] == BOTH
    assert newest["posterior"]["verdict"] == "improved"
    assert newest["finding"]["agent"] == "assembly" and "better by 0." in newest["finding"]["claim"]
    assert newest["predicted_effect"] == pytest.approx(-0.1, abs=0.01)
    assert live.get("projects/tiny/branches")["items"][0]["head_sha"] == newest["sha"]
    with database.read() as session:
        assert session.scalars(select(AssembledStep.step_id)).all() == [other]
        told = session.scalars(select(EventRow).where(EventRow.kind == EventKind.STEPS_ADOPTED)).one()
        assert (told.data["steps"], told.data["by"], told.data["why"]) == ([other], "ada", lease.why)


def test_a_step_is_taken_out_of_a_stack(
    live: LiveCoordinator, two_lines: MiniWorker, make_worker: WorkerFactory, agent: Agent, runner: FormulaRunner,
    database: Database,
) -> None:  # fmt: skip
    runner.formula = measure
    work(make_worker, live, agent, "w1")
    two_lines.experiment(BOTH + "WIDTH = 8\n", metric=3.0)
    share_all_work(database, JobKind.ABLATE)
    lease = work(make_worker, live, agent, "w2")
    assert lease.kind is JobKind.ABLATE
    (step,) = lease.assignment.steps
    newest = live.get(f"experiments/{live.list('experiments')[0]['id']}")
    assert newest["title"].startswith(f"Without #{step.experiment_id} ")
    assert newest["steps"] == [{"experiment_id": step.experiment_id, "fate": "done"}]
    assert newest["posterior"]["verdict"] == "worse"
    assert runner.requests[-1].files["train.py"] in (DEEPER + "WIDTH = 8\n", FASTER + "WIDTH = 8\n")


def test_the_constant_that_mattered_is_tuned(
    live: LiveCoordinator, two_lines: MiniWorker, make_worker: WorkerFactory, agent: Agent, runner: FormulaRunner,
    database: Database,
) -> None:  # fmt: skip
    runner.formula = measure
    work(make_worker, live, agent, "w1")
    share_all_work(database, JobKind.TUNE)
    lease = work(make_worker, live, agent, "w2")
    assert lease.kind is JobKind.TUNE and lease.assignment.axis in ("DEPTH", "LEARNING_RATE") and lease.trials
    newest = live.list("experiments")[0]
    assert (newest["kind"], newest["axis"]) == ("tune", lease.assignment.axis)


def test_who_can_only_improve_is_asked_for_nothing_else(
    live: LiveCoordinator, two_lines: MiniWorker, database: Database
) -> None:
    share_all_work(database, JobKind.ABLATE)
    assert {two_lines.claim_job().kind for _ in range(5)} == {JobKind.IMPROVE}
