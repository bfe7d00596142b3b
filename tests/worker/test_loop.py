"""worker/loop.py and worker/job.py against a real coordinator, with a laboratory that measures by formula."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from coordinator.settings import Settings as CoordinatorSettings
from shared.leases import Phase
from shared.results import ResultUpload
from tests.support.messages import make_run
from tests.support.seeds import TRAIN
from tests.worker.agents.tasks import sha_of
from tests.worker.conftest import FormulaLaboratory, LiveCoordinator, serve
from worker.agents.base import Agent, Draft, Task
from worker.agents.constants import read_constants
from worker.agents.scripted import Script, ScriptedAgent
from worker.agents.search_agent import SearchAgent
from worker.client import CoordinatorClient, Rejected, Unauthorized, Unreachable
from worker.data import DataError
from worker.heartbeat import HeartbeatDied
from worker.job import Workplace, author_of
from worker.laboratory import Sample
from worker.loop import Ending, Loop
from worker.monitor import About, Receipt
from worker.outbox import Entry, Outbox
from worker.projects import Projects
from worker.repository import Repository
from worker.stopping import Stop
from worker.training import RunImpossible


@dataclass
class Witness:
    """Remembers what the loop tells people."""

    receipts: list[Receipt] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    on_wait: Callable[[], None] = lambda: None

    def start(self, about: About) -> None: ...
    def finish(self) -> None: ...
    def take(self, lease: Any) -> None: ...
    def propose(self, proposal: Any) -> None: ...
    def outbox(self, waiting: int) -> None: ...
    def stop(self, now: bool) -> None: ...

    def progress(self, progress: Any) -> None:
        self.phases.append(progress.phase)

    def receipt(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)

    def wait(self, reason: str, seconds: float) -> None:
        self.waits.append(reason)
        self.on_wait()

    def note(self, text: str) -> None:
        self.lines.append(text)

    warn = note


def make_script(*depths: int) -> ScriptedAgent:
    steps = [
        {
            "title": f"DEPTH {d}",
            "hypothesis": "Deeper.",
            "axis": "DEPTH",
            "files": {"train.py": TRAIN.replace("4", str(d))},
        }
        for d in depths
    ]
    return ScriptedAgent(Script.model_validate({"steps": steps}))


@dataclass
class Worker:
    """A worker in this process: its loop, and what one may want to look at."""

    place: Workplace
    loop: Loop
    witness: Witness
    folder: Path

    @property
    def outbox(self) -> Outbox:
        return self.place.outbox

    @property
    def stop(self) -> Stop:
        return self.place.stop


Hire = Callable[..., Worker]


@pytest.fixture
def hire(tmp_path: Path, laboratory: FormulaLaboratory, token: SecretStr) -> Iterator[Hire]:
    """Make workers; a worker waits no longer than the first time it has to, then it is told to stop."""
    places: list[Workplace] = []

    def make(
        url: str,
        agent: Agent | None = None,
        name: str = "w1",
        transport: httpx.BaseTransport | None = None,
        **changes: Any,
    ) -> Worker:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        stop, client, witness = Stop(), CoordinatorClient(url, changes.pop("token", token), transport), Witness()
        witness.on_wait = stop.request
        place = Workplace(
            client=client,
            agent=agent or SearchAgent(),
            laboratory=changes.pop("laboratory", laboratory),
            projects=Projects(client, folder / "projects", stop.draining),
            outbox=Outbox(folder / "outbox"),
            monitor=witness,
            stop=stop,
            author=author_of(name),
            patience_seconds=0.2,
        )
        places.append(place)
        return Worker(place, Loop(place, name, None, folder / "crash.log"), witness, folder)

    yield make
    for place in places:
        place.projects.close()
        place.client.close()


class Wire(httpx.BaseTransport):
    """The real network, with faults: the first pattern that matches `METHOD path` decides."""

    def __init__(self, faults: Mapping[str, Callable[[], httpx.Response]]) -> None:
        self.faults = dict(faults)
        self.seen: list[str] = []
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        line = f"{request.method} {request.url.path}"
        self.seen.append(line)
        for pattern, fault in self.faults.items():
            if re.search(pattern, line):
                return fault()
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


def cut() -> httpx.Response:
    raise httpx.ConnectError("the cable is cut")


def refuse(status: int, code: str) -> Callable[[], httpx.Response]:
    body = {"type": f"/problems/{code}", "title": "No", "status": status, "detail": "Because."}
    headers = {"Content-Type": "application/problem+json"}
    return lambda: httpx.Response(status, json=body, headers=headers)


def test_measures_the_root_then_experiments_that_the_coordinator_stores(
    live: LiveCoordinator, hire: Hire, laboratory: FormulaLaboratory
) -> None:
    laboratory.formula = lambda sample: (
        3.0 + abs(float(read_constants(sample.files["train.py"])["DEPTH"].value) - 6) / 10
    )
    worker = hire(live.url)
    assert worker.loop.run(max_jobs=4) is Ending.DONE
    first, *others = worker.witness.receipts
    assert first.title.startswith("replicate ")
    experiments = live.list("experiments")
    assert len(experiments) == 3
    assert {e["sha"] for e in experiments} == {r.report.commit_sha for r in others}
    for receipt in others:
        assert receipt.url is not None
        detail = live.get(f"experiments/{receipt.url.rpartition('/')[2]}")
        assert detail["title"] == receipt.title
        assert detail["runs"][0]["metric"] == pytest.approx(receipt.report.metric)
        assert receipt.title in detail["finding"]["claim"]
        assert detail["diff"].count("\n+") >= 1
    assert len(worker.outbox) == 0
    assert worker.witness.phases[:5] == [Phase.READY, Phase.TRAINING, Phase.TRAINING, Phase.SCORING, Phase.REPORTING]
    # The whole work tree is measured, protected files too, and the program is the project's own.
    assert set(laboratory.samples[-1].files) == {"train.py", "swarm.toml", "program.md"}


def test_two_workers_learn_from_each_other_and_do_not_repeat(live: LiveCoordinator, hire: Hire) -> None:
    for name in ("w1", "w2", "w1", "w2", "w1"):
        assert hire(live.url, name=name).loop.run(max_jobs=2) is Ending.DONE
    shas = [e["sha"] for e in live.list("experiments")]
    assert len(shas) == len(set(shas)) >= 6


def test_a_failed_run_is_a_result_with_a_finding(
    live: LiveCoordinator, hire: Hire, laboratory: FormulaLaboratory
) -> None:
    laboratory.formula = lambda sample: 3.3 if sample.files["train.py"] == TRAIN else None
    worker = hire(live.url, make_script(5))
    assert worker.loop.run() is Ending.DONE
    (experiment,) = live.list("experiments")
    assert experiment["outcome"] == "crashed"
    assert "heads must divide width" in live.get(f"experiments/{experiment['id']}")["finding"]["mechanism"]
    assert worker.witness.lines[-1] == "the script has no more steps"


def test_a_duplicate_is_drafted_again_at_most_three_times(live: LiveCoordinator, hire: Hire) -> None:
    assert hire(live.url, make_script(5)).loop.run(max_jobs=2) is Ending.DONE
    again = hire(live.url, make_script(5, 5, 6, 5, 5, 5), name="w2")
    again.loop.run()
    assert [r.title for r in again.witness.receipts if r.lease.kind.makes_experiment] == ["DEPTH 6"]
    assert any("no new idea in 3 drafts" in line for line in again.witness.lines)
    assert again.witness.waits  # and rests before it tries once more
    assert live.list("leases") == []


def test_without_a_coordinator_the_first_contact_says_so(hire: Hire) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
        hire("http://127.0.0.1:1").loop.run()


def test_a_wrong_token_says_so(live: LiveCoordinator, hire: Hire) -> None:
    with pytest.raises(Unauthorized):
        hire(live.url, token=SecretStr("wrong")).loop.run()


def test_a_coordinator_that_goes_away_gets_the_result_when_it_is_back(
    coordinator_settings: CoordinatorSettings, hire: Hire, laboratory: FormulaLaboratory
) -> None:
    with serve(coordinator_settings) as url:
        assert hire(url).loop.run(max_jobs=1) is Ending.DONE
        gone = Wire({"result$": cut})
        worker = hire(url, make_script(5, 6), transport=gone)
        laboratory.hook = lambda: gone.faults.update({"": cut})
        assert worker.loop.run() is Ending.DRAINED  # it waited, and the test's monitor then told it to stop
    assert [r.url for r in worker.witness.receipts] == [None]
    assert any("kept in the outbox" in line for line in worker.witness.lines)
    assert "the cable is cut" in worker.witness.waits[0]
    with serve(coordinator_settings) as url:
        live = LiveCoordinator(url, SecretStr(""))
        assert live.list("experiments") == []
        later = hire(url, make_script(6))
        assert len(later.outbox) == 1
        assert later.loop.run(max_jobs=1) is Ending.DONE
        assert [e["title"] for e in live.list("experiments")] == ["DEPTH 6", "DEPTH 5"]
        assert any("delivered an earlier result" in line for line in later.witness.lines)


def test_an_unreachable_novelty_check_does_not_cost_the_job(live: LiveCoordinator, hire: Hire) -> None:
    assert hire(live.url).loop.run(max_jobs=1) is Ending.DONE
    worker = hire(live.url, make_script(5), transport=Wire({"proposal$": refuse(503, "busy")}))
    assert worker.loop.run(max_jobs=1) is Ending.DONE
    assert any("going on without asking" in line for line in worker.witness.lines)
    assert [e["title"] for e in live.list("experiments")] == ["DEPTH 5"]


def test_a_lease_that_is_lost_during_the_run_does_not_lose_the_run(
    live: LiveCoordinator, hire: Hire, laboratory: FormulaLaboratory
) -> None:
    lost = threading.Event()

    def lose() -> httpx.Response:
        lost.set()
        return refuse(410, "lease-ended")()

    laboratory.hook = lambda: (lost.wait(10), None)[1]
    worker = hire(live.url, transport=Wire({"heartbeat$": lose}))
    assert worker.loop.run(max_jobs=1) is Ending.DONE
    assert worker.witness.receipts[0].url is not None
    assert len(live.list("runs")) == 1


def test_a_lease_that_is_lost_while_drafting_is_left_alone(live: LiveCoordinator, hire: Hire) -> None:
    assert hire(live.url).loop.run(max_jobs=1) is Ending.DONE
    wire = Wire({"proposal$": refuse(410, "lease-ended")})
    worker = hire(live.url, make_script(5), transport=wire)
    assert worker.loop.run() is Ending.DONE  # the script is over
    assert any("no longer ours" in line for line in worker.witness.lines)
    assert live.list("experiments") == []


def test_a_refused_result_is_kept_beside_and_told(live: LiveCoordinator, hire: Hire) -> None:
    worker = hire(live.url, transport=Wire({"result$": refuse(422, "wrong-commit")}))
    assert worker.loop.run(max_jobs=1) is Ending.DONE
    assert any("refuses a result" in line and "wrong-commit" in line for line in worker.witness.lines)
    assert len(list(worker.outbox.rejected.glob("*.json"))) == 1
    assert worker.witness.receipts[0].url is None


def test_a_result_for_a_lease_nobody_gave_is_refused(live: LiveCoordinator, hire: Hire) -> None:
    worker = hire(live.url)
    upload = ResultUpload(run=make_run(sha_of("x")))
    worker.outbox.put(Entry(project="tiny", lease_id=upload.run.id, upload=upload))
    assert worker.loop.run(max_jobs=1) is Ending.DONE
    assert any("lease-unknown" in line for line in worker.witness.lines)


@pytest.mark.parametrize("error", [DataError("the data's server is away"), OSError(28, "No space left on device")])
def test_a_job_that_fails_is_given_back_with_the_reason_and_the_worker_rests(
    live: LiveCoordinator, hire: Hire, laboratory: FormulaLaboratory, error: Exception
) -> None:
    def fail(sample: Sample) -> float:
        raise error

    wire = Wire({})
    laboratory.formula = fail
    worker = hire(live.url, transport=wire)
    assert worker.loop.run() is Ending.DRAINED
    assert any(f"the job failed: {error}" in line for line in worker.witness.lines)
    assert wire.seen[-1].endswith("/release")
    assert live.list("leases") == []
    assert not (worker.folder / "crash.log").exists()


def test_a_mistake_of_ours_is_written_down_and_the_worker_goes_on(
    live: LiveCoordinator, hire: Hire, laboratory: FormulaLaboratory
) -> None:
    def fail(sample: Sample) -> float:
        raise ZeroDivisionError("a bug")

    laboratory.formula = fail
    worker = hire(live.url)
    assert worker.loop.run() is Ending.DRAINED
    assert any("a mistake in the worker" in line for line in worker.witness.lines)
    assert "in fail" in (worker.folder / "crash.log").read_text()


def test_a_machine_that_cannot_run_the_harness_stops(
    live: LiveCoordinator, hire: Hire, laboratory: FormulaLaboratory
) -> None:
    def fail(sample: Sample) -> float:
        raise RunImpossible("torch is missing")

    laboratory.formula = fail
    with pytest.raises(RunImpossible):
        hire(live.url).loop.run()
    assert live.list("leases") == []


def test_a_heartbeat_that_dies_stops_the_worker(
    live: LiveCoordinator, hire: Hire, laboratory: FormulaLaboratory
) -> None:
    dying = threading.Event()

    def die() -> httpx.Response:
        dying.set()
        raise ZeroDivisionError("a bug")

    laboratory.hook = lambda: (dying.wait(10), None)[1]
    with pytest.raises(HeartbeatDied, match="a bug"):
        hire(live.url, transport=Wire({"heartbeat$": die})).loop.run()


def test_draining_finishes_the_run_and_reports_it(
    live: LiveCoordinator, hire: Hire, laboratory: FormulaLaboratory
) -> None:
    worker = hire(live.url)
    laboratory.hook = worker.stop.request
    assert worker.loop.run() is Ending.DRAINED
    assert len(live.list("runs")) == 1


def test_draining_before_the_run_has_begun_gives_the_job_back(live: LiveCoordinator, hire: Hire) -> None:
    assert hire(live.url).loop.run(max_jobs=1) is Ending.DONE

    class Slow(SearchAgent):
        def propose(self, task: Task) -> Draft:
            worker.stop.request()
            return super().propose(task)

    worker = hire(live.url, Slow())
    assert worker.loop.run() is Ending.DRAINED
    assert live.list("leases") == []
    assert live.list("experiments") == []


def test_stopping_now_gives_the_job_back(live: LiveCoordinator, hire: Hire, laboratory: FormulaLaboratory) -> None:
    worker = hire(live.url)
    laboratory.hook = lambda: (worker.stop.request(), worker.stop.request(), None)[2]
    assert worker.loop.run() is Ending.STOPPED
    assert live.list("leases") == []
    assert live.list("runs") == []


def test_once(live: LiveCoordinator, hire: Hire, laboratory: FormulaLaboratory) -> None:
    laboratory.formula = lambda sample: 3.3
    assert hire(live.url).loop.run(once=True) is Ending.DONE
    nothing = {"lease": None, "reason": "All is known.", "retry_after_seconds": 60}
    idle = hire(live.url, transport=Wire({"POST .*/leases$": lambda: httpx.Response(200, json=nothing)}))
    assert idle.loop.run(once=True) is Ending.NOTHING_TO_DO
    assert idle.witness.lines == ["All is known."]
    assert idle.witness.waits == []
    cut_off = hire(live.url, name="w2", transport=Wire({"result$": cut}))
    assert cut_off.loop.run(once=True) is Ending.FAILED
    assert len(cut_off.outbox) == 1


def test_nothing_to_do_is_waited_out_with_the_reason(live: LiveCoordinator, hire: Hire) -> None:
    nothing = {"lease": None, "reason": "All is known.", "retry_after_seconds": 60}
    idle = hire(live.url, transport=Wire({"POST .*/leases$": lambda: httpx.Response(200, json=nothing)}))
    assert idle.loop.run() is Ending.DRAINED
    assert idle.witness.waits == ["All is known."]


def test_a_claim_that_is_refused_at_first_contact_says_why(live: LiveCoordinator, hire: Hire) -> None:
    worker = hire(live.url)
    loop = Loop(worker.place, "w1", "no-such-project", worker.folder / "crash.log")
    with pytest.raises(Rejected, match="no-such-project"):
        loop.run()


def test_an_author_is_one_that_git_can_hold() -> None:
    assert author_of("box-cpu") == "box-cpu <box-cpu@worker.invalid>"
    assert author_of("<\n>") == "worker <worker@worker.invalid>"
    assert author_of("Ada's <box>") == "Ada's box <ada-s-box@worker.invalid>"


def test_commits_are_in_a_repository_that_git_reads(live: LiveCoordinator, hire: Hire, tmp_path: Path) -> None:
    worker = hire(live.url, make_script(5))
    assert worker.loop.run() is Ending.DONE
    sha = worker.witness.receipts[-1].report.commit_sha
    with closing(Repository(worker.folder / "projects" / "tiny.git")) as repository:
        assert repository.read_files(sha)["train.py"] == TRAIN.replace("4", "5")
