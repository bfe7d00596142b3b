"""The policy: which kind of job, from which commit. Pure: a snapshot and a source of randomness in, a decision out.

Parents are drawn by Thompson sampling (Thompson 1933; Russo et al. 2018, A Tutorial on Thompson Sampling): draw once
from each candidate's posterior, and the lowest draw wins. Repeating the draw gives each candidate's probability of
winning, which is then damped by the children it already has in flight, so that a fleet spreads out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from shared.contract import JobMix
from shared.experiments import JobKind

THOMPSON_ROUNDS = 200
"""Rounds of sampling; a win probability then has a standard error of at most 0.5/sqrt(200) = 0.035."""

MAX_ROOT_FAILURES = 3
MAX_RUNS_OF_ONE_COMMIT = 6


@dataclass(frozen=True)
class Candidate:
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
            runs = "one run" if leader.runs == 1 else f"{leader.runs} runs"
            return Decision(
                JobKind.REPLICATE, leader.sha, f"The leading commit rests on {runs}; another one tells luck from gain."
            )
    parent, probability = _draw_parent(snapshot.candidates, rng)
    why = (
        f"Thompson sampling over {len(snapshot.candidates)} measured commits: this parent had a chance of "
        f"{probability:.0%}, with {parent.runs} run(s) and {parent.children_in_flight} experiment(s) on it under way."
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


def _draw_parent(candidates: Sequence[Candidate], rng: Random) -> tuple[Candidate, float]:
    wins = [0] * len(candidates)
    for _ in range(THOMPSON_ROUNDS):
        draws = [rng.gauss(candidate.mean, candidate.sd) for candidate in candidates]
        wins[draws.index(min(draws))] += 1
    weights = [won / (1 + candidate.children_in_flight) for won, candidate in zip(wins, candidates, strict=True)]
    index = rng.choices(range(len(candidates)), weights)[0]
    return candidates[index], weights[index] / sum(weights)
