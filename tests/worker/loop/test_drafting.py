"""worker/loop/drafting.py against a real coordinator, with a runner that measures by formula."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path

from shared.findings import FindingDraft
from shared.runs import RunReport
from tests.support.seeds import TRAIN
from tests.worker.conftest import LiveCoordinator, ShiftedRunner
from tests.worker.workers import Wire, WorkerFactory, make_script, refuse
from worker.agents.base import AgentError, Draft, Task
from worker.agents.search import SearchAgent
from worker.git.repository import Repository
from worker.loop.drafting import commit_author
from worker.loop.loop import Ending


def test_a_duplicate_is_drafted_again_a_few_times(live: LiveCoordinator, make_worker: WorkerFactory) -> None:
    assert make_worker(live.url, make_script(5)).loop.run(max_jobs=2) is Ending.DONE
    again = make_worker(live.url, make_script(5, 5, 6, *[5] * 5), name="w2")
    again.loop.run()
    assert [r.title for r in again.witness.summaries if r.lease.kind.makes_experiment] == ["DEPTH 6"]
    assert any("no new idea in 5 drafts" in line for line in again.witness.lines)
    assert again.witness.waits  # and rests before it tries once more
    assert live.list("leases") == []


def test_an_unreachable_novelty_check_does_not_cost_the_job(live: LiveCoordinator, make_worker: WorkerFactory) -> None:
    earlier = ShiftedRunner(shift=timedelta(minutes=-1))  # a worker has one run at a time, and these take no time
    assert make_worker(live.url, runner=earlier).loop.run(max_jobs=1) is Ending.DONE
    worker = make_worker(live.url, make_script(5), transport=Wire({"proposal$": refuse(503, "busy")}))
    assert worker.loop.run(max_jobs=1) is Ending.DONE
    assert any("continuing without a check" in line for line in worker.witness.lines)
    (experiment,) = live.list("experiments")
    assert (experiment["title"], experiment["outcome"]) == ("DEPTH 5", "ok"), live.list("runs")[0]["reason"]


def test_a_lease_that_is_lost_while_drafting_is_left_alone(live: LiveCoordinator, make_worker: WorkerFactory) -> None:
    assert make_worker(live.url).loop.run(max_jobs=1) is Ending.DONE
    wire = Wire({"proposal$": refuse(410, "lease-ended")})
    worker = make_worker(live.url, make_script(5), transport=wire)
    assert worker.loop.run() is Ending.DONE  # the script is over
    assert any("no longer ours" in line for line in worker.witness.lines)
    assert live.list("experiments") == []


def test_an_agent_without_words_does_not_lose_the_run(live: LiveCoordinator, make_worker: WorkerFactory) -> None:
    class Wordy(SearchAgent):
        def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
            return FindingDraft(claim="word " * 39, mechanism="word " * 250, agent=self.name)

    class Speechless(SearchAgent):
        def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
            raise AgentError("no words")

    assert make_worker(live.url, Wordy()).loop.run(max_jobs=2) is Ending.DONE
    assert make_worker(live.url, Speechless()).loop.run(max_jobs=1) is Ending.DONE
    assert len(live.list("findings")) == len(live.list("experiments")) == 2


def test_an_author_is_one_that_git_can_hold() -> None:
    assert commit_author("box-cpu") == "box-cpu <box-cpu@worker.invalid>"
    assert commit_author("<\n>") == "worker <worker@worker.invalid>"
    assert commit_author("Ada's <box>") == "Ada's box <ada-s-box@worker.invalid>"


def test_commits_are_in_a_repository_that_git_reads(
    live: LiveCoordinator, make_worker: WorkerFactory, tmp_path: Path
) -> None:
    worker = make_worker(live.url, make_script(5))
    assert worker.loop.run() is Ending.DONE
    sha = worker.witness.summaries[-1].report.commit_sha
    with closing(Repository(worker.folder / "projects" / "tiny.git")) as repository:
        assert repository.read_files(sha)["train.py"] == TRAIN.replace("4", "5")
