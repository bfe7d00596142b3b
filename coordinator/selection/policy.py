"""The policy: which kind of job, from which commit. Pure: a snapshot and a source of randomness in, a decision out.

Parents are drawn by Thompson sampling (Thompson 1933; Russo et al. 2018, A Tutorial on Thompson Sampling): draw once
from each candidate's posterior, and the lowest draw wins. A winner with children in flight is turned down with
probability 1 − 1/(1 + children), and all draw again, so that a fleet spreads out: each candidate is chosen in
proportion to its probability of winning, damped by 1/(1 + children).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from shared.contract import JobMix
from shared.experiments import JobKind

MAX_DRAWS = 100
"""After so many winners were turned down the next one is taken: the whole frontier is busy."""

MAX_ROOT_FAILURES = 3
MAX_RUNS_OF_ONE_COMMIT = 6


class Candidate(NamedTuple):
    """A measured commit. `mean` and `sd` are of the posterior, with the sign turned so that lower is better."""

    sha: str
    mean: float
    sd: float
    runs: int
    children_in_flight: int


@dataclass(frozen=True)
class Snapshot:
    """What the policy knows. Counts are of this worker, in this project and its hardware class."""

    root_sha: str
    root_measured: int
    root_failed: int
    jobs_done: int
    candidates: Sequence[Candidate]
    mix: JobMix


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
    if snapshot.root_measured == 0:
        return _calibrate(snapshot)
    if not snapshot.candidates:
        return NoJob("Every measured commit of this project waits for a maintainer.", retry_after_seconds=300)
    if _is_turn_to_replicate(snapshot):
        leader = min(snapshot.candidates, key=lambda candidate: candidate.mean)
        if leader.runs < MAX_RUNS_OF_ONE_COMMIT:
            why = f"The leading commit rests on {_count(leader.runs, 'run')}; another one tells luck from gain."
            return Decision(JobKind.REPLICATE, leader.sha, why)
    parent = _draw_parent(snapshot.candidates, rng)
    why = (
        f"Thompson sampling over {len(snapshot.candidates)} measured commits drew this parent, which has "
        f"{_count(parent.runs, 'run')} and {_count(parent.children_in_flight, 'experiment')} on it under way."
    )
    return Decision(JobKind.IMPROVE, parent.sha, why)


def _calibrate(snapshot: Snapshot) -> Decision | NoJob:
    if snapshot.root_failed >= MAX_ROOT_FAILURES:
        return NoJob(
            f"The project's unchanged seed failed {snapshot.root_failed} times on this worker, so the fault is likely "
            "here. Look at the reason of its last run, mend it, and start the worker under another name.",
            retry_after_seconds=600,
        )
    return Decision(
        JobKind.REPLICATE,
        snapshot.root_sha,
        "This worker's first job here: measure the unchanged seed, as its baseline.",
    )


def _is_turn_to_replicate(snapshot: Snapshot) -> bool:
    if snapshot.mix.replicate == 0:
        return False
    period = max(2, round((snapshot.mix.improve + snapshot.mix.replicate) / snapshot.mix.replicate))
    return snapshot.jobs_done % period == period - 1


def _draw_parent(candidates: Sequence[Candidate], rng: Random) -> Candidate:
    for _ in range(MAX_DRAWS):
        winner = min(candidates, key=lambda candidate: rng.gauss(candidate.mean, candidate.sd))
        if rng.random() * (1 + winner.children_in_flight) < 1:
            break
    return winner


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
