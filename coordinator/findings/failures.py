"""The classes of failed experiments. Pure."""

from shared.experiments import Verdict
from shared.findings import FailureClass
from shared.runs import RunOutcome, RunReport

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


def classify_failure(run: RunReport) -> FailureClass | None:
    """The failure class that a run itself shows; None for a run with a metric."""
    words = f"{run.reason}\n{run.frame}\n{run.log_tail[-2000:]}".casefold()
    if run.outcome is RunOutcome.CRASHED and ("out of memory" in words or "memoryerror" in words):
        return FailureClass.OUT_OF_MEMORY
    if run.outcome in (RunOutcome.CRASHED, RunOutcome.INVALID) and _says_diverged(words):
        return FailureClass.DIVERGED
    return _FAILURES.get(run.outcome)


def _says_diverged(words: str) -> bool:
    return any(sign in words for sign in ("not finite", "non-finite", "diverged", " nan", "=nan", "loss is inf"))


def describe_failure(stored: str | None, verdict: str | None, pace: float | None) -> FailureClass | None:
    """The failure class of an experiment: the one its run showed, else by its current verdict and pace."""
    if stored is not None:
        return FailureClass(stored)
    failure = WITHOUT_GAIN.get(verdict)
    is_slow = pace is not None and pace < SLOW_BELOW
    return FailureClass.SLOWER if failure is not None and is_slow else failure
