"""Measures one commit."""

from collections.abc import Callable
from threading import Event

from shared.runs import RunReport
from worker.training.job import Progress, RunImpossible, TrainingJob


def measure(job: TrainingJob, on_progress: Callable[[Progress], None], stop: Event) -> RunReport:
    """Train and score `job`'s commit; every way in which it can fail is an outcome of the report.

    `on_progress` is called at most about twice a second, from the calling thread, which must live as long as the
    run. Setting `stop` ends the run within a second. Raises RunStopped if `stop` was set, RunImpossible (a
    RunStopped) if this machine cannot run the harness.
    """
    raise RunImpossible(f"{job.commit_sha}: not written yet")
