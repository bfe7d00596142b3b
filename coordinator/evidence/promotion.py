"""Whether a record's gain holds on a rung, a larger budget: its effect there, and how much of it is carried over. Pure.

A *pair* is a run of the record and one of the last promoted commit, by one worker, in a row and with one seed. What the
worker adds to both cancels in their difference, so that no offset is needed, and no other run is touched.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import sqrt
from statistics import NormalDist, fmean, median
from typing import NamedTuple

from coordinator.evidence.agreement import STANDS_APART, contradict_each_other, leave_out_apart
from coordinator.evidence.confirmation import CONFIRMATIONS, MAX_TRIES, Published, Tries, may_confirm
from coordinator.evidence.statistics import CHECKERS, EXACT, SURE, Measurement, Normal, probability_of_gain
from shared.contract import Contract, Rung
from shared.records import Trust

PAIRS = CONFIRMATIONS
"""Number of pairs that agree from which a promotion is settled."""

DUE_EFFECTS = 5.0
"""A record is promoted once it is better than the one that was tried last by so many `min_effect`."""

PRIOR_PAIRS = 1.0
"""The class's noise weighs as much as so many degrees of freedom in that of the pairs, whose budget is another."""

ROBUST_FACTOR = 2.0
"""A median absolute deviation of four numbers is often much too small; honest pairs are not to be left out for it."""

PAIR_WITHIN = timedelta(hours=6)
"""Time after its first run was given in which a pair's second one is."""

GIVEN_UP_AFTER = timedelta(days=1)
"""A promotion on which nobody worked for so long makes room for that of a newer record."""

TO_ROBUST_SD = 1.4826
"""Sd of a normal distribution in units of its median absolute deviation."""

INTERVAL = 0.95
_Z = NormalDist().inv_cdf(0.5 + INTERVAL / 2)


class PromotionJob(NamedTuple):
    """A run of a promotion, of `sha` or of `base_sha`: `measured`. The second one of a pair repeats the first one's
    `seed` and `pace`. A promotion that this run begins has no id yet."""

    rung: str
    sha: str
    base_sha: str
    measured: str
    promotion_id: int | None = None
    seed: int | None = None
    pace: float | None = None


class PromotionRun(NamedTuple):
    """A lease that promotes, with its run's `metric`: None without a run that counts. It `is_open` while it is live."""

    promotion_id: int
    measured: str
    worker_id: int
    volunteer_id: int
    seed: int
    pace: float
    issued_at: datetime
    is_open: bool
    metric: float | None
    trust: Trust


class Pair(NamedTuple):
    """The difference of a pair's metrics, commit minus base."""

    difference: float
    worker_id: int
    volunteer_id: int
    trust: Trust = Trust.NEWCOMER


@dataclass(frozen=True)
class Attempts:
    """A promotion's leases in pairs: those that are whole; `halves`, whose second run is still to be given; and the
    number of all, and of each volunteer's."""

    pairs: Sequence[Pair]
    halves: Sequence[PromotionRun]
    of_all: Tries
    of_volunteers: Mapping[int, Tries]
    newest_at: datetime | None

    def is_given_up(self, said: "RungEffect", moment: datetime) -> bool:
        """Whether a newer record may take this one's place: it settles nothing, or nobody works on it."""
        if self.of_all.live:
            return False
        is_idle = self.newest_at is None or moment - self.newest_at > GIVEN_UP_AFTER
        return is_idle or said.pairs >= PAIRS or self.of_all.given >= MAX_TRIES


def list_attempts(runs: Iterable[PromotionRun], sha: str, moment: datetime) -> Attempts:
    """Put a promotion's leases together: those of one worker and seed are a pair."""
    by_seed: dict[tuple[int, int], dict[str, PromotionRun]] = {}
    newest_at = None
    for run in runs:
        by_seed.setdefault((run.worker_id, run.seed), {})[run.measured] = run
        newest_at = run.issued_at if newest_at is None else max(newest_at, run.issued_at)
    pairs, halves, tries = [], [], dict[int, Tries]()
    for (worker_id, _), both in by_seed.items():
        first = next(iter(both.values()))
        own, base = both.get(sha), next((run for measured, run in both.items() if measured != sha), None)
        is_whole = False
        if own and base and own.metric is not None and base.metric is not None:
            is_whole = True
            pairs.append(Pair(own.metric - base.metric, worker_id, own.volunteer_id, own.trust))
        is_half = len(both) == 1 and (first.is_open or first.metric is not None)
        is_half = is_half and moment - first.issued_at <= PAIR_WITHIN
        if is_half:
            halves.append(first)
        before = tries.get(first.volunteer_id, Tries())
        is_live = is_half or any(run.is_open for run in both.values())
        tries[first.volunteer_id] = Tries(before.given + 1, before.live + is_live, before.runs + is_whole)
    of_all = Tries(*(sum(counts) for counts in zip(*tries.values(), strict=True))) if tries else Tries()
    return Attempts(pairs, halves, of_all, tries, newest_at)


@dataclass(frozen=True)
class RungEffect:
    """The effect on a rung, None without pairs. Its sd is that of the normal distribution with the same 95 % interval.

    It is settled once PAIRS pairs by CHECKERS volunteers agree, an anchor among them.
    """

    effect: Normal | None
    pairs: int
    volunteers: int
    left_out: int
    is_settled: bool
    volunteers_left_out: frozenset[int] = frozenset()

    def holds(self, sign: float) -> bool | None:
        """Whether it is a gain; None until that is settled."""
        if self.effect is None or not self.is_settled:
            return None
        return probability_of_gain(self.effect, sign, 0.0) >= SURE


def estimate(pairs: Sequence[Pair], noise_sd: float, *, vouched_verify: bool = False) -> RungEffect:
    """The effect that pairs give; `noise_sd` is that of one run with the contract's budget.

    As among checkers (decision 0017) who stands apart is left out. The noise on the rung is another than that of the
    class, so it is estimated from the pairs, with the class's as a scaled inverse chi-squared prior of PRIOR_PAIRS
    degrees of freedom; the mean then has Student's distribution (Gelman et al., Bayesian Data Analysis, 3rd ed., §3.2).
    What was left out counts in the noise as if it stood just not apart: else leaving out would make it too small.
    """
    prior = 2 * noise_sd**2  # of a difference of two runs
    runs = [Measurement(one.difference, one.worker_id, one.volunteer_id, False, EXACT, one.trust) for one in pairs]
    scale = max(sqrt(prior), _find_robust_sd([run.value for run in runs]))
    agreed = leave_out_apart(runs, scale)
    volunteers, left_out = {run.volunteer_id for run in agreed}, len(runs) - len(agreed)
    apart = frozenset(run.volunteer_id for run in runs) - volunteers
    if not agreed:
        return RungEffect(None, 0, 0, left_out, False, apart)
    values = [run.value for run in agreed]
    mean, freedom = fmean(values), PRIOR_PAIRS + len(runs) - 1
    squares = sum((value - mean) ** 2 for value in values) + left_out * (STANDS_APART * scale) ** 2
    spread = sqrt((PRIOR_PAIRS * prior + squares) / freedom)
    is_anchored = vouched_verify or any(run.trust == Trust.ANCHOR for run in agreed)
    is_enough = len(agreed) >= PAIRS and len(volunteers) >= CHECKERS and is_anchored
    return RungEffect(
        Normal(mean, spread / sqrt(len(values)) * find_student_quantile(freedom) / _Z),
        len(agreed),
        len(volunteers),
        left_out,
        is_enough and not contradict_each_other(agreed, scale),
        apart,
    )


def _find_robust_sd(values: Sequence[float]) -> float:
    if len(values) < PAIRS:
        return 0.0
    middle = median(values)
    return ROBUST_FACTOR * TO_ROBUST_SD * median(abs(value - middle) for value in values)


def find_student_quantile(freedom: float) -> float:
    """The upper 97.5 % quantile of Student's distribution, from 3 degrees of freedom on within 1 %.

    Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.5.
    """
    terms = (
        (_Z**3 + _Z) / 4,
        (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96,
        (3 * _Z**7 + 19 * _Z**5 + 17 * _Z**3 - 15 * _Z) / 384,
    )
    return _Z + sum(term / freedom**power for power, term in enumerate(terms, 1))


class TransferRatio(NamedTuple):
    """The effect on a rung over that with the contract's budget, and the ends of its 95 % interval."""

    ratio: float
    low: float
    high: float


def find_ratio(effect: Normal, budget_effect: Normal) -> TransferRatio | None:
    """The transfer ratio of two independent effects; None where the interval of the second one includes zero.

    The interval is Fieller's (1954, Some problems in interval estimation, Journal of the Royal Statistical Society B
    16, 175-185): the ratios r for which effect − r budget_effect is within its own interval around zero.
    """
    if budget_effect.mean == 0:
        return None
    unsure = (_Z * budget_effect.sd / budget_effect.mean) ** 2
    if unsure >= 1:
        return None
    ratio, variance = effect.mean / budget_effect.mean, effect.sd**2
    root = variance * (1 - unsure) + (ratio * budget_effect.sd) ** 2
    half = _Z / abs(budget_effect.mean) * sqrt(root)
    return TransferRatio(ratio, (ratio - half) / (1 - unsure), (ratio + half) / (1 - unsure))


def is_due(gain: float, min_effect: float) -> bool:
    """Whether a record that is better by `gain` than the commit that was tried last should be tried."""
    return gain > DUE_EFFECTS * min_effect


def may_begin(
    said: RungEffect, attempts: Attempts, trusted: AbstractSet[int], volunteer_id: int, *, is_anchor: bool
) -> bool:
    """Whether one of the trusted volunteers may begin another pair. The rule is that of confirmations, but that nobody
    makes more than PAIRS, since by one volunteer alone a promotion is never settled."""
    own = attempts.of_volunteers.get(volunteer_id, Tries())
    if own.runs + own.live >= PAIRS:
        return False
    effect = said.effect if said.is_settled else None
    known = Published(effect, said.pairs, said.volunteers, said.left_out, said.volunteers_left_out)
    return may_confirm(known, attempts.of_volunteers, trusted, volunteer_id, is_anchor=is_anchor)


def cost_of(contract: Contract, rung: Rung) -> float:
    """Training of one run on the rung, in runs with the contract's budget."""
    return rung.training_seconds / contract.budget.training_seconds


def is_within_share(contract: Contract, rung: Rung, jobs: int, given: Mapping[str, int]) -> bool:
    """Whether a class that did so many jobs, and gave so many leases on each rung, has time for another pair."""
    spent = sum(cost_of(contract, one) * given.get(one.name, 0) for one in contract.rungs)
    return spent + 2 * cost_of(contract, rung) <= contract.jobs.promoting * (jobs + spent)
