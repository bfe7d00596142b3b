"""A finding's state. Pure: nobody else assigns it."""

from shared.experiments import Verdict
from shared.findings import FailureClass, FindingState, NoteKind
from shared.runs import RunOutcome, RunReport

_FAILURES = {
    RunOutcome.TIMEOUT: FailureClass.TIMEOUT,
    RunOutcome.STOPPED_EARLY: FailureClass.HOPELESS,
    RunOutcome.INVALID: FailureClass.INVALID,
    RunOutcome.CRASHED: FailureClass.CRASHED,
}

SLOW_BELOW = 0.9
"""An experiment whose run saw less than this part of its parent's tokens a second is slow.

Runs of one commit on one machine differ by a few per cent. A budget is seconds, so who is a tenth slower has to be as
much better as the last tenth of a budget teaches.
"""

WITHOUT_GAIN: dict[str | None, FailureClass] = {
    Verdict.NO_CHANGE: FailureClass.NO_EFFECT,
    Verdict.WORSE: FailureClass.WORSE,
}
"""Of an experiment that was measured, and was not slow."""


def classify_failure(run: RunReport) -> FailureClass | None:
    """In which way a run failed, as far as it shows that itself; None for one with a metric."""
    words = f"{run.reason}\n{run.frame}\n{run.log_tail[-2000:]}".casefold()
    if run.outcome is RunOutcome.CRASHED and ("out of memory" in words or "memoryerror" in words):
        return FailureClass.OUT_OF_MEMORY
    if run.outcome in (RunOutcome.CRASHED, RunOutcome.INVALID) and _says_diverged(words):
        return FailureClass.DIVERGED
    return _FAILURES.get(run.outcome)


def _says_diverged(words: str) -> bool:
    return any(sign in words for sign in ("not finite", "non-finite", "diverged", " nan", "=nan", "loss is inf"))


def describe_failure(stored: str | None, verdict: str | None, pace: float | None) -> FailureClass | None:
    """In which way an experiment did not work: as its run showed, else by its verdict as of now and its pace."""
    if stored is not None:
        return FailureClass(stored)
    failure = WITHOUT_GAIN.get(verdict)
    is_slow = pace is not None and pace < SLOW_BELOW
    return FailureClass.SLOWER if failure is not None and is_slow else failure


_AFTER = {
    (FindingState.PUBLISHED, NoteKind.RETRACTION): FindingState.RETRACTED,
    (FindingState.RETRACTED, NoteKind.RESTORATION): FindingState.PUBLISHED,
    (FindingState.PUBLISHED, NoteKind.NOTE): FindingState.PUBLISHED,
    (FindingState.RETRACTED, NoteKind.NOTE): FindingState.RETRACTED,
}


class FindingTransitionError(Exception):
    """A step that a finding in this state cannot take."""


def after_note(state: FindingState, kind: NoteKind) -> FindingState:
    """The state after something was written beside a finding. Raises TransitionError."""
    if (state, kind) not in _AFTER:
        raise FindingTransitionError(f"a finding that is {state} takes no {kind}")
    return _AFTER[state, kind]
