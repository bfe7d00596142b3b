"""Measures one commit, and writes down what came of it."""

from collections.abc import Callable
from threading import Event

from shared.runs import RunReport
from worker.harness import HarnessUnready, Stopped
from worker.training.job import Progress, RunImpossible, RunStopped, TrainingJob
from worker.training.report import write_report
from worker.training.run import Run


def measure(job: TrainingJob, on_progress: Callable[[Progress], None], stop: Event) -> RunReport:
    """Train and score `job`'s commit; every way in which it can fail is an outcome of the report.

    `on_progress` is called about twice a second, from the calling thread, which must live as long as the run.
    Setting `stop` ends the run within a second. Raises RunStopped if `stop` was set, RunImpossible (a RunStopped) if
    this machine cannot run the harness.
    """
    try:
        report = Run(job, on_progress, stop).measure()
    except Stopped:
        raise RunStopped("the worker was asked to stop") from None
    except HarnessUnready as fault:
        raise RunImpossible(f"this machine cannot run the project's harness: {fault.reason}") from fault
    write_report(report, job.contract, job.folder)
    return report
