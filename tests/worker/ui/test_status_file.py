"""worker/ui/status_file.py: what other commands read of a running worker."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from shared.experiments import JobKind
from shared.leases import Phase
from shared.protocol import now
from tests.support.messages import make_proposal, make_run
from tests.worker.agents.tasks import sha_of
from tests.worker.ui.test_plain import AFTER, STARTED, lease_of, summary_of
from worker.runs.spec import RunProgress
from worker.ui.events import (
    AgentTrouble,
    ExperimentProposed,
    JobClaimed,
    JobDropped,
    JobProgressed,
    RunFinished,
    WorkerStopped,
)
from worker.ui.status import Status, Totals, WorkerReport, list_reports, read_status
from worker.ui.status_file import StatusFile


def read(folder: Path) -> Status:
    status = read_status(folder)
    assert status is not None
    return status


def test_the_status_follows_the_job_on_the_device_and_names_the_next(tmp_path: Path) -> None:
    first, second = lease_of(JobKind.REPLICATE), lease_of()
    view = StatusFile(tmp_path)
    view.handle(STARTED)
    view.handle(JobClaimed(first))
    view.handle(JobProgressed(first, RunProgress(Phase.TRAINING, 100, 3.1, 0.5)))
    view.handle(JobClaimed(second))
    assert (read(tmp_path).state, read(tmp_path).share) == ("training", 0.5)
    next_job = read(tmp_path).next
    assert next_job is not None and next_job.startswith("improve ") and next_job.endswith("being drafted")
    view.handle(ExperimentProposed(second, make_proposal("DEPTH 4 -> 6"), "search"))
    view.handle(JobProgressed(second, RunProgress(Phase.READY, 0, None, 0.0)))
    assert read(tmp_path).next == "DEPTH 4 -> 6 · ready, waits for the device"
    view.handle(JobProgressed(second, RunProgress(Phase.STARTING, 0, None, 0.0)))
    view.handle(JobProgressed(first, RunProgress(Phase.REPORTING, 100, None, 1.0)))
    assert (read(tmp_path).state, read(tmp_path).trying, read(tmp_path).next) == ("starting", "DEPTH 4 -> 6", None)
    view.handle(JobDropped(second))
    view.handle(RunFinished(replace(summary_of(make_run(sha_of("a"), 3.25)), lease=first, posterior=AFTER)))
    status = read(tmp_path)
    assert (status.state, status.job, status.runs) == ("asking for a job", None, 1)
    assert status.last == (
        "val_bpb 3.25000 · −0.0488 ± 0.0072 (improved, provisional) · DEPTH 4 -> [6] · https://swarm.test/experiments/1"
    )
    view.handle(WorkerStopped())
    assert read(tmp_path).state == "stopped"


def test_what_is_wrong_with_the_agent_stays_until_it_works_again(tmp_path: Path) -> None:
    view = StatusFile(tmp_path)
    view.handle(STARTED)
    view.handle(AgentTrouble("the model gives nothing usable: it refuses"))
    view.handle(JobClaimed(job := lease_of()))
    view.handle(ExperimentProposed(job, make_proposal("DEPTH 4 -> 6"), "search"))
    view.handle(JobProgressed(job, RunProgress(Phase.TRAINING, 100, 3.1, 0.5)))
    report = WorkerReport("box", True, read(tmp_path))
    assert report.to_json()["trouble"] == "the model gives nothing usable: it refuses"
    assert "it refuses" in report.describe() and read(tmp_path).author == "search"
    view.handle(AgentTrouble(""))
    assert read(tmp_path).trouble is None


def test_what_an_agent_says_moves_no_cursor_and_writes_no_clipboard(tmp_path: Path) -> None:
    view = StatusFile(tmp_path)
    view.handle(STARTED)
    view.handle(AgentTrouble("it says\x1b]52;c;ZXZpbA==\x07\x9b2J\u202e\r\nother: running"))
    said = WorkerReport("box", True, read(tmp_path)).describe()
    assert all(line.isprintable() for line in said.split("\n")) and "\nother" not in said


def test_a_worker_that_ended_long_ago_is_shown_only_by_its_name(tmp_path: Path) -> None:
    for name, days in (("new", 1), ("old", 30)):
        (tmp_path / "workers" / name).mkdir(parents=True)
        view = StatusFile(tmp_path / "workers" / name)
        view.handle(STARTED)
        ended = read(tmp_path / "workers" / name).model_copy(update={"since": now() - timedelta(days=days)})
        (tmp_path / "workers" / name / "status.json").write_text(ended.model_dump_json())
    assert [report.name for report in list_reports(tmp_path, None)] == ["new"]
    assert [report.name for report in list_reports(tmp_path, "old")] == ["old"]


def test_totals_outlive_the_process(tmp_path: Path) -> None:
    for _ in range(2):
        before = read_status(tmp_path)
        view = StatusFile(tmp_path)
        view.handle(replace(STARTED, totals=before.totals if before else Totals()))
        view.handle(JobClaimed(lease := lease_of()))
        view.handle(RunFinished(replace(summary_of(make_run(sha_of("a"), 3.25)), lease=lease, posterior=AFTER)))
        view.handle(WorkerStopped())
    assert (read(tmp_path).runs, read(tmp_path).totals.runs, read(tmp_path).totals.improved) == (1, 2, 2)
