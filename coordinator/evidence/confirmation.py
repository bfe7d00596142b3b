"""The published number of a record, and what its sealed windows may tell. Pure.

What was chosen because it looked best was lucky on average, in its checkers' runs as in its author's. So after it was
chosen others measure it again, and only these runs are published (decision 0032).

Every answer about sealed data wears it out. So a number of sealed windows is let out only if it beats the last one that
was by a step, and rounded to it: the ladder of Blum and Hardt, The Ladder: A Reliable Leaderboard for Machine Learning
Competitions (2015). Whoever probes it with commits that are no better learns nothing but that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, hypot, log, sqrt
from typing import NamedTuple

from coordinator.evidence.agreement import contradict_each_other, leave_out_apart
from coordinator.evidence.statistics import Measurement, Normal, pool
from shared.records import Trust

CONFIRMATIONS = 4
"""Number of runs that agree from which a record's number is published."""

MAX_TRIES = 12
"""Leases of a commit, those that came to nothing included, after which no more are given."""

TRIES_PER_RUN = 2
"""Leases that a volunteer gets for each run of its share, so that it cannot go on until a result suits it."""

ALARM = 2.0
"""Number of sd from which a gap between the two gains is an alarm: by chance one in forty."""


@dataclass(frozen=True)
class ConfirmationRun:
    """A confirmation run; `holdout` is its metric on sealed windows, None without any."""

    measured: Measurement
    holdout: float | None = None


@dataclass(frozen=True)
class Published:
    """The summary of a commit's confirmation runs. `metric` is None until CONFIRMATIONS of them agree.

    Runs that stand apart from the others are `left_out`.
    """

    metric: Normal | None
    runs: int
    volunteers: int
    left_out: int


def summarize(runs: Sequence[Measurement], noise_sd: float, *, vouched_verify: bool = False) -> Published:
    """The number that confirmation runs give, each read without its worker's offset.

    As among checkers (decision 0017), who stands apart is left out, so that of three or more volunteers none moves the
    number by more than what would make it stand apart. Two who contradict each other give none; nor do volunteers
    without an anchor among them, where only anchors verify (decision 0031).
    """
    agreed = leave_out_apart(runs, noise_sd)
    volunteers = {run.volunteer_id for run in agreed}
    is_anchored = vouched_verify or any(run.trust is Trust.ANCHOR for run in agreed)
    is_enough = len(agreed) >= CONFIRMATIONS and is_anchored and not contradict_each_other(agreed, noise_sd)
    return Published(
        pool(agreed, noise_sd) if is_enough else None, len(agreed), len(volunteers), len(runs) - len(agreed)
    )


class Tries(NamedTuple):
    """Leases to confirm one commit: all that were given, and those that are live."""

    given: int = 0
    live: int = 0


def may_confirm(published: Published, of_all: Tries, own: Tries, runs: int, volunteers: int) -> bool:
    """Whether a volunteer with so many runs may make another one, of so many volunteers who may."""
    missing = max(CONFIRMATIONS - published.runs, 1) if published.metric is None else 0
    share = ceil((CONFIRMATIONS + published.left_out) / max(1, volunteers))
    is_open = of_all.live < missing and of_all.given < MAX_TRIES
    return is_open and runs + own.live < share and own.given < TRIES_PER_RUN * share


@dataclass(frozen=True)
class Answer:
    """The ladder's answer: a number rounded to `step`, None if it is not better than the last by `step`."""

    released: float | None
    step: float


def climb(holdout: Normal, last: float | None, sign: float, min_effect: float, asked: int = 0) -> Answer:
    """Compare a number of sealed windows with the last that was released; None: it is the first, the seed's.

    The step is 2 sd or `min_effect`, and more after so many numbers were `asked` for: each has noise of its own, so
    that one in forty would be better by 2 sd if it were the same. That k of them are not takes sqrt(4 ln k) sd (the
    chance of each is below 1 / k²).
    """
    step = max(min_effect, max(2.0, sqrt(4 * log(1 + asked))) * holdout.sd)
    if last is not None and sign * (last - holdout.mean) < step:
        return Answer(None, step)
    return Answer(round(holdout.mean / step) * step, step)


def find_gap(own: Sequence[ConfirmationRun], seed: Sequence[ConfirmationRun], sign: float, noise_sd: float) -> Normal:
    """By how much a commit's gain over the seed is smaller on sealed windows than on those that every run scores.

    Each run scored both with one trained model, so training's noise cancels in the difference. Its sd is that of the
    runs, but at least a tenth of the noise: few runs may be alike by chance.
    """
    means, errors, freedom = [], 0.0, 0
    for runs in (own, seed):
        differences = [sign * (run.holdout - run.measured.value) for run in runs if run.holdout is not None]
        mean = sum(differences) / len(differences)
        errors += sum((difference - mean) ** 2 for difference in differences)
        freedom += len(differences) - 1
        means.append((mean, len(differences)))
    spread = max(sqrt(errors / freedom), 0.1 * noise_sd)
    (mean, count), (seed_mean, seed_count) = means
    return Normal(mean - seed_mean, spread * hypot(count**-0.5, seed_count**-0.5))


def coarsen(gap: Normal, step: float) -> Normal:
    """A gap as it may be shown: it tells no more than the number that was released, which is rounded, too."""
    return Normal(round(gap.mean / step) * step, hypot(gap.sd, step / sqrt(12)))


def is_alarming(gap: Normal) -> bool:
    return gap.mean > ALARM * gap.sd


def pool_holdout(runs: Sequence[ConfirmationRun], noise_sd: float) -> Normal:
    """The metric on sealed windows, of the runs that the published number rests on."""
    scored = {id(run.measured): run.holdout for run in runs}
    agreed = leave_out_apart([run.measured for run in runs], noise_sd)
    own = [run._replace(value=value) for run in agreed if (value := scored[id(run)]) is not None]
    return pool(leave_out_apart(own, noise_sd), noise_sd)
