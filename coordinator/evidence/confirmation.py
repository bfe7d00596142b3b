"""The published number of a record, and what its sealed windows may tell. Pure.

What was chosen because it looked best was lucky on average, in its checkers' runs as in its author's. So after it was
chosen others measure it again, and only these runs are published (decision 0039).

Every answer about sealed data wears it out. So a number of sealed windows is let out only if it beats the last one that
was by a step, and rounded to it: the ladder of Blum and Hardt, The Ladder: A Reliable Leaderboard for Machine Learning
Competitions (2015). Whoever probes it with commits that are no better learns nothing but that.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
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
    volunteers_left_out: frozenset[int] = frozenset()


def select_agreed(runs: Sequence[ConfirmationRun], noise_sd: float) -> list[ConfirmationRun]:
    """The runs that are believed: as among checkers (decision 0017), a volunteer who stands apart is left out, whether
    with the windows that every run scores or with the sealed ones."""
    agreed = _leave_out(runs, [run.measured for run in runs], noise_sd)
    sealed = [run.measured._replace(value=run.holdout) for run in agreed if run.holdout is not None]
    return _leave_out(agreed, sealed, noise_sd) if len(sealed) == len(agreed) else agreed


def _leave_out(
    runs: Sequence[ConfirmationRun], measured: Sequence[Measurement], noise_sd: float
) -> list[ConfirmationRun]:
    volunteers = {run.volunteer_id for run in leave_out_apart(measured, noise_sd)}
    return [run for run in runs if run.measured.volunteer_id in volunteers]


def summarize(runs: Sequence[ConfirmationRun], noise_sd: float, *, vouched_verify: bool = False) -> Published:
    """The number that confirmation runs give, each read without its worker's offset.

    Of three or more volunteers none moves the number by more than what would make it stand apart. Two who contradict
    each other give none; nor do volunteers without an anchor among them, where only anchors verify (decision 0031).
    """
    agreed = select_agreed(runs, noise_sd)
    measured = [run.measured for run in agreed]
    sealed = [run.measured._replace(value=run.holdout) for run in agreed if run.holdout is not None]
    is_anchored = vouched_verify or any(run.trust == Trust.ANCHOR for run in measured)
    are_at_odds = any(contradict_each_other(numbers, noise_sd) for numbers in (measured, sealed))
    is_enough = len(agreed) >= CONFIRMATIONS and is_anchored and not are_at_odds
    volunteers = {run.volunteer_id for run in measured}
    return Published(
        pool(measured, noise_sd) if is_enough else None, len(agreed), len(volunteers), len(runs) - len(agreed),
        frozenset(run.measured.volunteer_id for run in runs) - volunteers,
    )  # fmt: skip


class Tries(NamedTuple):
    """Leases to confirm one commit: all that were given, those that are live, and those that gave a run."""

    given: int = 0
    live: int = 0
    runs: int = 0

    @property
    def is_used_up(self) -> bool:
        """Whether so many came to nothing that nobody should wait for more."""
        return self.given - self.live - self.runs >= TRIES_PER_RUN


def may_confirm(
    published: Published, tries: Mapping[int, Tries], trusted: AbstractSet[int], volunteer_id: int, *, is_anchor: bool
) -> bool:
    """Whether one of the trusted volunteers may make another run; `tries` are those of each volunteer.

    Who was left out, or let leases come to nothing, has no share any more: the others' grow. So volunteers who waste
    runs cost no more than these, and a commit's last tries are its anchors'.
    """
    able = trusted - published.volunteers_left_out
    waited_for = {one for one in able if one == volunteer_id or not _find(tries, one).is_used_up}
    if volunteer_id not in waited_for:
        return False
    missing = max(CONFIRMATIONS - published.runs, 1) if published.metric is None else 0
    own, share = _find(tries, volunteer_id), ceil(max(CONFIRMATIONS, published.runs + missing) / len(waited_for))
    is_open = sum(one.live for one in tries.values()) < missing
    are_left = is_anchor or sum(one.given for one in tries.values()) < MAX_TRIES
    return is_open and are_left and own.runs + own.live < share and own.given < TRIES_PER_RUN * share


def _find(tries: Mapping[int, Tries], volunteer_id: int) -> Tries:
    return tries.get(volunteer_id, Tries())


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

    Each run that is believed scored both with one trained model, so training's noise cancels in the difference. Its sd
    is that of the runs, but at least a tenth of the noise: few runs may be alike by chance.
    """
    means, errors, freedom = [], 0.0, 0
    for runs in (select_agreed(own, noise_sd), select_agreed(seed, noise_sd)):
        differences = [sign * (run.holdout - run.measured.value) for run in runs if run.holdout is not None]
        mean = sum(differences) / len(differences)
        errors += sum((difference - mean) ** 2 for difference in differences)
        freedom += len(differences) - 1
        means.append((mean, len(differences)))
    spread = max(sqrt(errors / freedom), 0.1 * noise_sd)
    (mean, count), (seed_mean, seed_count) = means
    return Normal(mean - seed_mean, spread * hypot(count**-0.5, seed_count**-0.5))


def coarsen(gap: Normal, step: float) -> Normal:
    """A gap as it may be shown: it tells no more than the number that was released, which is rounded, too. So is the
    sd, upwards: its digits are made of the sealed numbers as well."""
    part = step / 4
    return Normal(round(gap.mean / step) * step, ceil(hypot(gap.sd, step / sqrt(12)) / part) * part)


def is_alarming(gap: Normal) -> bool:
    return gap.mean > ALARM * gap.sd


def pool_holdout(runs: Sequence[ConfirmationRun], noise_sd: float) -> Normal:
    """The metric on sealed windows, of the runs that the published number rests on."""
    agreed = select_agreed(runs, noise_sd)
    return pool((run.measured._replace(value=run.holdout) for run in agreed if run.holdout is not None), noise_sd)
