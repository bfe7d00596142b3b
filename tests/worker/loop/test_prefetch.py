"""worker/loop/prefetch.py: the next job is made ready while one is measured, and both end as they should."""

from dataclasses import replace
from threading import Event, Thread

import pytest

from shared.experiments import JobKind
from shared.findings import FindingDraft
from shared.runs import RunReport
from tests.worker.conftest import FormulaRunner, LiveCoordinator
from tests.worker.workers import Wire, Worker, WorkerFactory, make_script, refuse, wait_until
from worker.agents.base import Agent, AgentError, Draft, Task
from worker.agents.composite import AgentByKind, FallbackAgent
from worker.agents.scripted import Script, ScriptedAgent
from worker.agents.search import SearchAgent
from worker.loop.loop import Ending
from worker.loop.stop import Stop

PATIENCE_SECONDS = 60


def phases(live: LiveCoordinator) -> list[str]:
    """Of the live leases, the older first."""
    return [lease["phase"] for lease in live.list("leases")]


@pytest.fixture
def worker(live: LiveCoordinator, make_worker: WorkerFactory) -> Worker:
    """One that has measured the seed and has three ideas."""
    assert make_worker(live.url).loop.run(max_jobs=1) is Ending.DONE
    return make_worker(live.url, make_script(5, 6, 7))


def test_the_next_job_is_ready_before_the_run_is_over(
    worker: Worker, live: LiveCoordinator, runner: FormulaRunner
) -> None:
    expected = [["DEPTH 5", "DEPTH 6"], ["DEPTH 6", "DEPTH 7"]]

    def look() -> None:
        runner.waits_for_next = bool(expected)  # the coordinator knows of it a moment earlier
        if expected:  # heartbeats may be late, and a job's end
            both = list(zip(expected.pop(0), ["training", "ready"], strict=True))
            wait_until(lambda: [(lease["title"], lease["phase"]) for lease in live.list("leases")] == both)

    runner.hook = look
    assert worker.loop.run() is Ending.DONE
    assert expected == []
    assert [receipt.title for receipt in worker.witness.summaries] == ["DEPTH 5", "DEPTH 6", "DEPTH 7"]
    assert [receipt.posterior is not None for receipt in worker.witness.summaries] == [True] * 3
    assert runner.foretold == [None, *runner.requests[2:], None], "the runner knew what follows"
    assert worker.witness.waits == [], "the device never waited for the coordinator"
    assert live.list("leases") == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_more_is_drafted_than_will_be_run(
    worker: Worker, live: LiveCoordinator, runner: FormulaRunner, jobs: int
) -> None:
    assert worker.loop.run(max_jobs=jobs) is Ending.DONE
    assert len(worker.witness.claimed) == len(runner.requests) - 1 == jobs  # one was the seed's


def test_draining_finishes_what_runs_and_gives_back_what_is_ready(
    worker: Worker, live: LiveCoordinator, runner: FormulaRunner
) -> None:
    def drain() -> None:
        wait_until(lambda: phases(live) == ["training", "ready"])
        worker.stop.request()

    runner.hook = drain
    assert worker.loop.run() is Ending.DRAINED
    assert [receipt.title for receipt in worker.witness.summaries] == ["DEPTH 5"]
    assert live.list("leases") == []


def test_a_pause_gives_both_back_and_goes_on_afterwards(
    worker: Worker, live: LiveCoordinator, runner: FormulaRunner
) -> None:
    def pause() -> None:
        runner.hook = lambda: None
        wait_until(lambda: phases(live) == ["training", "ready"])
        worker.stop.set_pause("Paused.")

    def resume() -> None:
        wait_until(lambda: live.list("leases") == [])
        worker.stop.set_pause(None)

    runner.hook = pause
    worker.witness.on_wait = lambda: Thread(target=resume).start()
    assert worker.loop.run() is Ending.DONE
    assert worker.witness.waits == ["Paused."]
    assert [receipt.title for receipt in worker.witness.summaries] == ["DEPTH 7"]


def test_a_pause_ends_what_is_being_thought_of_and_is_told(live: LiveCoordinator, make_worker: WorkerFactory) -> None:
    assert make_worker(live.url).loop.run(max_jobs=1) is Ending.DONE
    stop = Stop()
    worker = make_worker(live.url, make_script(5, thinking_seconds=600, stop=stop), stop=stop)

    def pause() -> None:
        wait_until(lambda: phases(live) == ["drafting"])
        stop.set_pause("Paused.")

    thread = Thread(target=pause)
    thread.start()
    assert worker.loop.run() is Ending.DRAINED
    thread.join()
    assert worker.witness.waits == ["Paused."]
    assert live.list("leases") == []


def test_a_ready_job_whose_lease_is_lost_is_not_run(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    assert make_worker(live.url).loop.run(max_jobs=1) is Ending.DONE
    wire = Wire({})
    worker = make_worker(live.url, make_script(5, 6, 7), transport=wire)

    def lose() -> None:
        runner.hook = lambda: None
        wait_until(lambda: phases(live) == ["training", "ready"])
        lost = live.list("leases")[1]["id"]
        wire.faults[f"{lost}/heartbeat"] = refuse(410, "lease-ended")
        wait_until(lambda: any("no longer ours" in line for line in worker.witness.lines))

    runner.hook = lose
    assert worker.loop.run() is Ending.DONE
    assert [receipt.title for receipt in worker.witness.summaries] == ["DEPTH 5", "DEPTH 7"]


class Mender(ScriptedAgent):
    """Replays a script; mends a crash once it is let."""

    def __init__(self, script: ScriptedAgent) -> None:
        super().__init__(Script(steps=script._steps))
        self.may_mend = Event()
        self.repairs = 0

    def repair(self, task: Task, draft: Draft, report: RunReport) -> Draft | None:
        assert self.may_mend.wait(PATIENCE_SECONDS)
        self.repairs += 1
        files = {"train.py": draft.files["train.py"] + f"# {self.repairs}\n"}
        return replace(draft, files=files)


def test_a_crash_is_mended_while_another_job_runs(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    assert make_worker(live.url).loop.run(max_jobs=1) is Ending.DONE
    agent = Mender(make_script(5, 6))
    worker = make_worker(live.url, agent)

    def wait_for_the_next() -> None:
        if len(runner.requests) == 2:  # the seed was the first
            wait_until(lambda: phases(live) == ["training", "ready"])
        else:
            agent.may_mend.set()

    runner.hook = wait_for_the_next
    runner.formula = lambda request: None if request.files["train.py"].endswith("= 5\n") else 3.2
    assert worker.loop.run() is Ending.DONE
    assert agent.repairs == 1
    assert sorted(receipt.title for receipt in worker.witness.summaries) == ["DEPTH 5", "DEPTH 6"]
    assert {run["outcome"] for run in live.list("runs")} == {"ok"}


def test_after_three_repairs_a_crash_is_the_result(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    assert make_worker(live.url).loop.run(max_jobs=1) is Ending.DONE
    agent = Mender(make_script(5))
    agent.may_mend.set()
    runner.formula = lambda request: None
    assert make_worker(live.url, agent).loop.run() is Ending.DONE
    assert agent.repairs == 3 and len(runner.requests) == 1 + 4
    (run,) = (run for run in live.list("runs") if run["experiment_id"] is not None)
    assert run["outcome"] == "crashed"


class Thoughtful(ScriptedAgent):
    """Never comes to an end with its second idea."""

    def __init__(self, script: ScriptedAgent) -> None:
        super().__init__(Script(steps=script._steps))
        self.thinking = Event()
        self.over = Event()

    def propose(self, task: Task) -> Draft:
        if len(self._steps) == 1:
            self.thinking.set()
            self.over.wait(PATIENCE_SECONDS)
        return super().propose(task)


def test_stopping_now_waits_for_no_idea(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    assert make_worker(live.url).loop.run(max_jobs=1) is Ending.DONE
    agent = Thoughtful(make_script(5, 6))
    worker = make_worker(live.url, agent)

    def stop() -> None:
        assert agent.thinking.wait(PATIENCE_SECONDS)
        worker.stop.request()
        worker.stop.request()

    runner.hook = stop
    assert worker.loop.run() is Ending.STOPPED
    assert not agent.over.is_set()
    assert live.list("leases") == [] and worker.witness.summaries == []
    agent.over.set()


class SlowModel(Agent):
    """Answers only when it is let; each draft names the parent that it was made for."""

    name = "model"
    kinds = frozenset({JobKind.IMPROVE, JobKind.DRAFT})

    def __init__(self) -> None:
        self.may_answer, self.fails = Event(), False
        self.asked: list[Task] = []

    def propose(self, task: Task) -> Draft:
        self.asked.append(task)
        assert self.may_answer.wait(PATIENCE_SECONDS)
        if self.fails:
            raise AgentError("it refuses")
        draft = SearchAgent().propose(task)
        files = {path: f"{text}BY_MODEL = {len(self.asked)}\n" for path, text in draft.files.items()}
        words = {"title": f"A model's idea on {task.base.sha}", "insists": "Its own."}
        return replace(draft, proposal=draft.proposal.model_copy(update=words), files=files, agent=self.name)

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        return FindingDraft(claim="The model's words.", agent=self.name)


def with_substitute(model: Agent) -> Agent:
    return AgentByKind(FallbackAgent(model, SearchAgent(), lambda _: None), {JobKind.TUNE: SearchAgent()})


@pytest.mark.parametrize("fails", [False, True])
def test_the_device_never_waits_for_a_slow_model_and_no_draft_is_lost(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner, fails: bool
) -> None:
    """The model answers while the fourth job runs; without spares there would be no second run before."""
    assert make_worker(live.url).loop.run(max_jobs=1) is Ending.DONE
    model = SlowModel()
    model.fails = fails
    worker = make_worker(live.url, with_substitute(model))
    most: list[int] = []

    def run() -> None:
        most.append(len(live.list("leases")))
        if len(runner.requests) == 1 + 4:
            model.may_answer.set()
            wait_until(lambda: "ready" in phases(live))

    runner.hook = run
    assert worker.loop.run(max_jobs=7) is Ending.DONE
    assert max(most) <= 3, "what the coordinator allows"
    assert [request.files["train.py"].count("BY_MODEL") for request in runner.requests[1:5]] == [0] * 4
    done = {one["title"]: live.get(f"experiments/{one['id']}") for one in live.list("experiments")}
    by_model = {title for title, one in done.items() if one["finding"]["agent"] == "model"}
    assert by_model == {title for title in done if title.startswith("A model's idea")}
    assert fails or by_model, "what it drafted during four runs is measured"
    for title in by_model:
        assert title.endswith(done[title]["parent_sha"]), "the parent is the one that the draft was made for"
    lost = [lease for lease in worker.witness.claimed if lease.id not in {s.lease.id for s in worker.witness.summaries}]
    assert len(lost) <= 1, "a draft that was late for the last job"
    assert worker.witness.waits == []


@pytest.mark.parametrize("answers_in", [None, 3])
def test_the_last_job_does_not_wait_for_a_slow_model(
    live: LiveCoordinator,
    make_worker: WorkerFactory,
    runner: FormulaRunner,
    answers_in: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It answers when its draft is not needed any more, or during the last run: what is too much is given back."""
    assert make_worker(live.url).loop.run(max_jobs=1) is Ending.DONE
    monkeypatch.setattr("worker.loop.prefetch.OUTLASTED_JOBS", 1)
    model, stop = SlowModel(), Stop()
    if answers_in is None:
        model.may_answer = stop.quiet

    def run() -> None:
        if len(runner.requests) - 1 == answers_in:
            model.may_answer.set()
            wait_until(lambda: "drafting" not in phases(live))

    runner.hook = run
    worker = make_worker(live.url, with_substitute(model), stop=stop)
    assert worker.loop.run(max_jobs=3) is Ending.DONE
    assert len(worker.witness.summaries) == 3 == len(runner.requests) - 1 == len(worker.witness.claimed) - 1
    assert live.list("leases") == []


def test_a_spare_that_is_ready_is_given_back_with_the_draft(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    assert make_worker(live.url).loop.run(max_jobs=1) is Ending.DONE
    model = SlowModel()
    worker = make_worker(live.url, with_substitute(model))

    def stop() -> None:
        wait_until(lambda: phases(live) == ["drafting", "training", "ready"])
        worker.stop.request()
        worker.stop.request()

    runner.hook, runner.shares = stop, (0.0, 0.9)
    assert worker.loop.run() is Ending.STOPPED
    assert live.list("leases") == []
    model.may_answer.set()
