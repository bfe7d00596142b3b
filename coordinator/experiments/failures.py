"""The classes of failed experiments, and which failures are the commit's own everywhere. Pure."""

from typing import Protocol

from shared.experiments import Verdict
from shared.faults import OF_MACHINES, find_fault
from shared.findings import FailureClass
from shared.runs import RunOutcome

_FAILURES = {
    RunOutcome.TIMEOUT: FailureClass.TIMEOUT,
    RunOutcome.STOPPED_EARLY: FailureClass.HOPELESS,
    RunOutcome.INVALID: FailureClass.INVALID,
    RunOutcome.CRASHED: FailureClass.CRASHED,
}

SLOW_BELOW = 0.9
"""The share of its parent's tokens per second below which an experiment is slow.

Runs of one commit on one machine differ by a few per cent. Budgets are in seconds, so an experiment that is a tenth
slower trains on a tenth less data.
"""

WITHOUT_GAIN: dict[str | None, FailureClass] = {
    Verdict.NO_CHANGE: FailureClass.NO_EFFECT,
    Verdict.WORSE: FailureClass.WORSE,
}
"""The failure class of an experiment that was measured and was not slow, by its verdict."""


class RunEnd(Protocol):
    """A run's end, as a report or a row describes it."""

    @property
    def outcome(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def frame(self) -> str: ...
    @property
    def log_tail(self) -> str: ...


def is_commits_own(run: RunEnd, same_class: bool) -> bool:
    """Whether a run failed in its commit's own code, as another one would: in any hardware class, or in the run's own.

    How much memory and time there is, and what driver and compiler take, differs from class to class.
    """
    if run.outcome == RunOutcome.INVALID:
        return True
    if run.outcome == RunOutcome.TIMEOUT:
        return same_class
    return run.frame != "" and (same_class or classify_failure(run) not in OF_MACHINES)


def classify_failure(run: RunEnd) -> FailureClass | None:
    """The failure class that a run itself shows; None for a run with a metric."""
    words = f"{run.reason}\n{run.frame}\n{run.log_tail[-2000:]}".casefold()
    if run.outcome == RunOutcome.CRASHED and (fault := find_fault(run.reason, run.log_tail)) is not None:
        return fault.failure
    if run.outcome in (RunOutcome.CRASHED, RunOutcome.INVALID) and _says_diverged(words):
        return FailureClass.DIVERGED
    return _FAILURES.get(RunOutcome(run.outcome))


def _says_diverged(words: str) -> bool:
    return any(sign in words for sign in ("not finite", "non-finite", "diverged", " nan", "=nan", "loss is inf"))


def describe_failure(stored: str | None, verdict: str | None, pace: float | None) -> FailureClass | None:
    """The failure class of an experiment: the one its run showed, else by its current verdict and pace."""
    if stored is not None:
        return FailureClass(stored)
    failure = WITHOUT_GAIN.get(verdict)
    is_slow = pace is not None and pace < SLOW_BELOW
    return FailureClass.SLOWER if failure is not None and is_slow else failure
