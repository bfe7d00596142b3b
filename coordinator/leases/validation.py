"""Holds a result to its lease: a run that does not fit it is kept as `invalid` with the reason, or refused.

Malformed messages never get here: their models refuse them with the field's name. What cannot be built (another parent,
files that are not editable or too large) is refused where the commit is built.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.contract import Budget, BudgetClock, Contract
from shared.experiments import JobKind
from shared.leases import Phase
from shared.runs import RunOutcome, RunReport

MAX_CLOCK_ERROR = timedelta(minutes=5)
"""Tolerated difference between a worker's clock and the coordinator's. Workers correct what they know of theirs."""

TOLERANCE_SECONDS = 30.0
"""Tolerated differences of durations: replicas' clocks differ, and a busy machine stamps late."""

SUM_TOLERANCE_SECONDS = 1.0
CORES_TOLERANCE = 1.1
LEAST_SHARE = 0.25
"""Share of the budget that an `ok` run has used at least. The harness keeps at most half of it for the hand-over, and
training ends before the step that would end too late: after one step or more of equal length, half of the rest."""

LEAST_SHARE_ON_RUNG = 0.75
"""Share of a rung's budget that an `ok` run has used at least, where it is less than the contract's whole budget."""

MOST_SPEED = 1.5
"""A measurement whose worker got more than the contract's budget, because the seed was slow there, is at most so many
times as fast as others' runs of the commit make expect: else the machine was slowed down for the probe."""

MAX_REASON = 1000


class ResultRefused(Exception):
    """The result belongs to something other than its lease; nothing of it can be kept. `field` is at fault."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


@dataclass(frozen=True)
class WorkerTime:
    """The time of a worker that reports a job of its own. Runs that are `invalid` took none.

    `trained_seconds` is the sum over its stored runs; `is_taken`: one of them was under way in the middle of the
    reported training. At that moment `others` more workers of its account had one under way; `devices` is how many of
    the account's workers trained at once in jobs that the coordinator gave.
    """

    known_since: datetime
    trained_seconds: float
    is_taken: bool
    others: int = 0
    devices: int = 1


def count_at_once(trainings: Iterable[tuple[datetime, float, float]]) -> int:
    """How many trainings overlapped at most, at least 1. Each: a run's start, its seconds of starting and training."""
    changes: list[tuple[datetime, int]] = []
    for started_at, starting, training in trainings:
        begun = started_at + timedelta(seconds=starting)
        changes += [(begun, 1), (begun + timedelta(seconds=training), -1)]
    most = running = 0
    for _, change in sorted(changes):  # where one ends when another begins, they did not overlap
        running += change
        most = max(most, running)
    return max(1, most)


@dataclass(frozen=True)
class LeaseTerms:
    """Terms of a lease that its result must meet. `has_proposal`: a proposal was accepted under it.

    `duplicate` says whose code the result has, if that is not the proposed code and was tried before. `worker_time` is
    known where the worker gave itself the job. `pace` times the training of the contract or of its `rung` is the run's
    budget, and `expected_speed` how many tokens (or steps) a second the commit should see on the worker, None if that
    is not known.
    """

    kind: JobKind
    phase: Phase
    seed: int
    hardware_class: str
    issued_at: datetime
    has_proposal: bool
    duplicate: str = ""
    worker_time: WorkerTime | None = None
    pace: float = 1.0
    expected_speed: float | None = None
    rung: str | None = None

    @property
    def is_own(self) -> bool:
        """Whether the worker gave itself this job: only such a job reports although no proposal was ever accepted."""
        return self.kind.makes_experiment and self.phase == Phase.REPORTING and not self.has_proposal


def hold_to_lease(terms: LeaseTerms, contract: Contract, run: RunReport, received_at: datetime) -> RunReport:
    """The run as it is to be stored: as reported if it fits, else `invalid` with the reason and without a metric.

    Raises ResultRefused for a run in another hardware class: there is nothing that it could be stored as.
    """
    reported = run.hardware.hardware_class
    if reported != terms.hardware_class:
        raise ResultRefused(
            "run.hardware", f"The run is of the class {reported!r}; the lease is for {terms.hardware_class!r}."
        )
    ordinary = contract.budget.at_pace(terms.pace).training_seconds
    contract = contract.on_rung(terms.rung)
    budget = contract.budget.at_pace(terms.pace)
    least_seconds = LEAST_SHARE * budget.training_seconds
    if terms.rung is not None:  # else an ordinary run would pass for one
        least_seconds = max(least_seconds, min(ordinary, LEAST_SHARE_ON_RUNG * budget.training_seconds))
    if terms.kind != JobKind.CONFIRM:  # nobody asked for it, and nothing may be learnt from sending it
        run = run.model_copy(update={"holdout_metric": None})
    found = (
        _check_terms(terms, run) or _check_durations(budget, run, least_seconds)
        or _check_times(terms, run, received_at) or _check_speed(terms, run) or _check_metric(terms, contract, run)
    )  # fmt: skip
    if found is None:
        return run
    reason = f"{found}. Reported as {run.outcome}" + (f": {run.reason}" if run.reason else "")
    lost = {"metric": None, "holdout_metric": None}
    return run.model_copy(update={"outcome": RunOutcome.INVALID, **lost, "reason": reason[:MAX_REASON]})


def _check_terms(terms: LeaseTerms, run: RunReport) -> str | None:
    if run.seed != terms.seed:
        return f"The run used the seed {run.seed}, the lease says {terms.seed}"
    if terms.kind.makes_experiment and not (terms.has_proposal or terms.is_own):
        return "No proposal was accepted under this lease"
    if terms.duplicate:
        return f"This is not the code that was proposed, and would have been refused: {terms.duplicate.rstrip('.')}"
    return None


def _check_times(terms: LeaseTerms, run: RunReport, received_at: datetime) -> str | None:
    """Times of day are the worker's, the durations and the time since the claim are not."""
    if run.started_at < terms.issued_at - MAX_CLOCK_ERROR:
        return f"The run began at {run.started_at:%Y-%m-%d %H:%M}, before its lease"
    if run.finished_at > received_at + MAX_CLOCK_ERROR:
        return f"The run ended at {run.finished_at:%Y-%m-%d %H:%M}, in the future"
    if terms.worker_time is not None:
        return _check_own_time(terms.worker_time, run, received_at)
    elapsed = (received_at - terms.issued_at).total_seconds()
    if 0 <= elapsed < run.seconds.total - TOLERANCE_SECONDS:  # below 0 this coordinator's clock went back
        return f"The run took {run.seconds.total:.0f} s, longer than the {elapsed:.0f} s since its lease was given"
    return None


def _check_own_time(worker: WorkerTime, run: RunReport, received_at: datetime) -> str | None:
    """When a job of one's own began is the worker's word; that a worker trains one run at a time is not.

    Nor is a worker's name a device: an account has as many as it showed in jobs that the coordinator
    gave. Two trainings may seem to overlap by half, because a worker learns only later by how much its clock was wrong.
    """
    if run.started_at < worker.known_since - MAX_CLOCK_ERROR:
        return f"The run began at {run.started_at:%Y-%m-%d %H:%M}, before its worker was known"
    span = (run.finished_at - run.started_at).total_seconds()
    if abs(span - run.seconds.total) > SUM_TOLERANCE_SECONDS:
        return f"The run took {run.seconds.total:.1f} s, and ended {span:.1f} s after it began"
    if worker.is_taken:
        return "Another run of its worker was under way in the middle of its training"
    if worker.others >= worker.devices:
        return (
            f"In the middle of its training {worker.others} more workers of its account had a run under way; in jobs "
            f"that were given to them, {worker.devices} trained at once at most"
        )
    elapsed = (received_at - worker.known_since).total_seconds()
    trained = worker.trained_seconds + run.seconds.training
    if 0 <= elapsed < trained - TOLERANCE_SECONDS:  # below 0 this coordinator's clock went back
        return f"Its worker would have trained for {trained:.0f} s in the {elapsed:.0f} s since it was known"
    return None


def _check_durations(budget: Budget, run: RunReport, least_seconds: float) -> str | None:
    seconds = run.seconds
    parts = seconds.starting + seconds.training + seconds.scoring
    if abs(parts - seconds.total) > SUM_TOLERANCE_SECONDS:
        return f"The run's parts took {parts:.1f} s, the whole {seconds.total:.1f} s"
    if run.outcome != RunOutcome.OK:
        return None
    late, used = budget.handover_seconds + TOLERANCE_SECONDS, seconds.on_budget
    if used > budget.training_seconds + late or seconds.training > budget.longest_training_seconds + late:
        return f"Training used {used:.1f} s of a budget of {budget.training_seconds:g} s"
    if used > CORES_TOLERANCE * run.hardware.cores * seconds.training + SUM_TOLERANCE_SECONDS:
        return f"Training used {used:.1f} s of CPU time in {seconds.training:.1f} s on {run.hardware.cores} cores"
    if budget.may_end_early or used + budget.charge(seconds.before_start) >= least_seconds:
        return None
    if budget.clock == BudgetClock.CPU and seconds.training >= LEAST_SHARE * budget.longest_training_seconds:
        return None  # a busy machine: it was the limit in wall time that ended it
    return f"Training used only {used:.1f} s of a budget of {budget.training_seconds:g} s"


def _check_speed(terms: LeaseTerms, run: RunReport) -> str | None:
    if run.outcome != RunOutcome.OK or terms.expected_speed is None or run.seconds.on_budget <= 0:
        return None
    speed = (run.tokens or run.steps) / run.seconds.on_budget
    if terms.pace <= 1 or speed <= MOST_SPEED * terms.expected_speed:
        return None
    return (
        f"The run saw {speed:.4g} tokens or steps a second, and {terms.expected_speed:.4g} were expected: its worker "
        f"said that the seed is slow there, and got {terms.pace:.2f} times the budget"
    )


def _check_metric(terms: LeaseTerms, contract: Contract, run: RunReport) -> str | None:
    """A new experiment beyond the floor is held for a maintainer; nobody finds that in measuring what exists."""
    objective = contract.objective
    if run.metric is None or terms.kind.makes_experiment:
        return None
    if terms.kind == JobKind.CONFIRM and contract.has_holdout and run.holdout_metric is None:
        return "The run did not score the sealed windows"
    if objective.sign * run.metric < objective.sign * objective.plausible_floor:
        return f"The metric {run.metric:g} is beyond the contract's plausible floor of {objective.plausible_floor:g}"
    return None
