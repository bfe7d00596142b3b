"""Measures one commit, and writes down what came of it; or tries it out first, for a few seconds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Event

from shared.runs import RunReport
from worker.runs.harness_process import HarnessUnready, Stopped
from worker.runs.report import write_report
from worker.runs.run import Run
from worker.runs.spec import Progress, RunImpossible, RunStopped, TrainingJob


def measure(job: TrainingJob, on_progress: Callable[[Progress], None], stop: Event) -> RunReport:
    """Train and score `job`'s commit; every way in which it can fail is an outcome of the report.

    `on_progress` is called about twice a second, from the calling thread, which must live as long as the run.
    Setting `stop` ends the run within a second. Raises RunStopped if `stop` was set, RunImpossible (a RunStopped) if
    this machine cannot run the harness.
    """
    with _named():
        report = Run(job, on_progress, stop).measure()
    with suppress(OSError):  # a full disk: people miss a file to read, and the measurement is kept
        write_report(report, job.contract, job.folder)
    return report


def try_out(job: TrainingJob, seconds: float, stop: Event) -> RunReport | None:
    """Train `job`'s commit for so long and load what comes of it: a smoke run. None if it went well; raises as above.

    What fails here would have failed later, after the whole budget: a mistake in the host's part shows only then.
    """
    budget = job.contract.budget.model_copy(update={"training_seconds": seconds})
    contract = job.contract.model_copy(update={"budget": budget})
    with _named():
        report = Run(replace(job, contract=contract, parent_curve=()), lambda _: None, stop).try_out()
    if report is None:
        return None
    return report.model_copy(update={"reason": f"in a smoke run of {seconds:g} s: {report.reason}"[:1000]})


@contextmanager
def _named() -> Iterator[None]:
    """What ends a run without a report, by the names that callers know."""
    try:
        yield
    except Stopped:
        raise RunStopped("the worker was asked to stop") from None
    except HarnessUnready as fault:
        raise RunImpossible(f"this machine cannot run the project's harness: {fault.reason}") from fault
