"""The policy: which kind of job, from which commit. Pure: a snapshot and a source of randomness in, a decision out.

Most jobs search. Of a worker's jobs one in eight verifies the leading commit, and one in eight is a control, where the
evidence has use for them: sequential verification looks at a leader again after each run, and gives up after six. A
commit is measured again by other volunteers than those who did so before, whoever asks first; nobody chooses.

Parents are drawn by Thompson sampling (Thompson 1933; Russo et al. 2018, A Tutorial on Thompson Sampling): draw once
from each candidate's posterior, and the lowest draw wins. A winner with children in flight is turned down with
probability 1 − 1/(1 + children), and all draw again, so that a fleet spreads out: each candidate is chosen in
proportion to its probability of winning, damped by 1/(1 + children).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from random import Random
from typing import NamedTuple

from shared.contract import JobMix
from shared.experiments import JobKind

MAX_DRAWS = 100
"""After so many winners were turned down the next one is taken: the whole frontier is busy."""

MAX_ROOT_FAILURES = 3
MAX_FAILURES_IN_ROW = 5
THROTTLE_SECONDS = 900.0
MAX_RUNS_OF_ONE_COMMIT = 6
LEADERS = 4
"""So many of the best commits are looked at for one to verify."""

MAX_MEASURED_AT_ONCE = 2
"""Sequential verification needs its next run only when the last one left the question open."""


class Candidate(NamedTuple):
    """A measured commit. `mean` and `sd` are of the posterior, with the sign turned so that lower is better.

    `is_settled` says that it needs no more runs: it is verified. `measured_in_flight` counts live leases that measure
    it.
    """

    sha: str
    mean: float
    sd: float
    runs: int
    children_in_flight: int
    is_settled: bool = False
    is_suspect: bool = False
    measured_in_flight: int = 0


@dataclass(frozen=True)
class Snapshot:
    """What the policy knows. Counts are of this worker, in this project and its hardware class.

    `own` names commits that its volunteer measured or made, in any class; `is_alone` says that nobody else is in the
    class. `elsewhere` is the leading commit of another class, if it leads by more there and nobody measured it here.
    `jobs_held` are under way on this worker: it asks for the next one while they run.
    """

    root_sha: str
    root_measured: int
    root_failed: int
    jobs_done: int
    candidates: Sequence[Candidate]
    mix: JobMix
    failures_in_row: int = 0
    seconds_since_run: float = inf
    quarantine: str | None = None
    own: frozenset[str] = frozenset()
    is_alone: bool = True
    elsewhere: str | None = None
    jobs_held: int = 0


@dataclass(frozen=True)
class Decision:
    """A job: its kind, the commit it starts from, and why, in a sentence for people."""

    kind: JobKind
    base_sha: str
    why: str


@dataclass(frozen=True)
class NoJob:
    """Nothing to do, with the reason a person understands."""

    reason: str
    retry_after_seconds: float


def decide(snapshot: Snapshot, rng: Random) -> Decision | NoJob:
    """Choose the next job for a worker."""
    if snapshot.quarantine is not None:
        return NoJob(
            f"A maintainer keeps this worker apart: {snapshot.quarantine}", retry_after_seconds=THROTTLE_SECONDS
        )
    if snapshot.root_measured == 0:
        return _calibrate(snapshot)
    if snapshot.failures_in_row >= MAX_FAILURES_IN_ROW and snapshot.seconds_since_run < THROTTLE_SECONDS:
        reason = f"This worker's last {snapshot.failures_in_row} runs failed. It gets a job again after a pause."
        return NoJob(reason, retry_after_seconds=THROTTLE_SECONDS - snapshot.seconds_since_run)
    if not snapshot.candidates:
        return NoJob("Every measured commit of this project waits for a maintainer.", retry_after_seconds=300)
    measurement = _choose_measurement(snapshot)
    if measurement is not None:
        return measurement
    parents = [candidate for candidate in snapshot.candidates if not candidate.is_suspect] or snapshot.candidates
    parent = _draw_parent(parents, rng)
    why = (
        f"Thompson sampling over {len(parents)} measured commits drew this parent, which has "
        f"{_count(parent.runs, 'run')} and {_count(parent.children_in_flight, 'experiment')} on it under way."
    )
    return Decision(JobKind.IMPROVE, parent.sha, why)


def turn_to_measure(jobs_done: int, mix: JobMix) -> JobKind | None:
    """What a worker should measure now, if this is its turn to measure something and not to search."""
    if mix.replicate == 0:
        return None
    period = max(2, round((mix.improve + mix.replicate) / mix.replicate))
    if jobs_done % period == period - 1:
        return JobKind.REPLICATE
    return JobKind.CONTROL if mix.control and jobs_done % period == period // 2 - 1 else None


def _choose_measurement(snapshot: Snapshot) -> Decision | None:
    turn = turn_to_measure(snapshot.jobs_done + snapshot.jobs_held, snapshot.mix)
    if turn is None:
        return None
    if snapshot.elsewhere is not None:
        why = "It leads on other hardware, by more than any commit leads here, and nobody measured it on this one."
        return Decision(JobKind.REPLICATE, snapshot.elsewhere, why)
    leaders = sorted(snapshot.candidates, key=lambda candidate: candidate.mean)[:LEADERS]
    if turn is JobKind.REPLICATE:
        return _verify(snapshot, leaders)
    return None if snapshot.is_alone else _control(snapshot, leaders)


def _verify(snapshot: Snapshot, leaders: Sequence[Candidate]) -> Decision | None:
    """A run of the best commit that is not settled; none once the best one is."""
    for leader in leaders:
        if leader.is_settled or leader.runs >= MAX_RUNS_OF_ONE_COMMIT:
            break
        is_open = leader.runs + leader.measured_in_flight < MAX_RUNS_OF_ONE_COMMIT
        is_others = snapshot.is_alone or leader.sha not in snapshot.own
        if is_open and is_others and leader.measured_in_flight < MAX_MEASURED_AT_ONCE:
            why = f"The leading commit rests on {_count(leader.runs, 'run')}; another one tells luck from gain."
            return Decision(JobKind.REPLICATE, leader.sha, why)
    return None


def _control(snapshot: Snapshot, leaders: Sequence[Candidate]) -> Decision | None:
    """A run of a leading commit that others measured, so that this worker's offset is known better."""
    for leader in leaders:
        if leader.sha not in snapshot.own and leader.measured_in_flight < MAX_MEASURED_AT_ONCE:
            why = (
                "A control: this worker's offset is known from commits that others measured too, and jobs start "
                "from this one."
            )
            return Decision(JobKind.CONTROL, leader.sha, why)
    return None


def _calibrate(snapshot: Snapshot) -> Decision | NoJob:
    if snapshot.root_failed >= MAX_ROOT_FAILURES:
        return NoJob(
            f"The project's unchanged seed failed {snapshot.root_failed} times on this worker, so the fault is likely "
            "here. Look at the reason of its last run, mend it, and start the worker under another name.",
            retry_after_seconds=600,
        )
    if snapshot.jobs_held:
        return NoJob("This worker's baseline is being measured: experiments follow.", retry_after_seconds=30)
    return Decision(
        JobKind.REPLICATE,
        snapshot.root_sha,
        "This worker's first job here: measure the unchanged seed, as its baseline.",
    )


def _draw_parent(candidates: Sequence[Candidate], rng: Random) -> Candidate:
    for _ in range(MAX_DRAWS):
        winner = min(candidates, key=lambda candidate: rng.gauss(candidate.mean, candidate.sd))
        if rng.random() * (1 + winner.children_in_flight) < 1:
            break
    return winner


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
