"""Priors of effects by kind of job, learnt from the measured effects of a hardware class. Pure.

An effect is what the author's first run of a commit says against the posterior of its parent. All of them count, the
failures too, and no later runs: which commits are measured again was chosen by what the first run said. Parents were
chosen by their results as well, so they are read as posteriors, filtered forward with the prior that is being learnt,
a few times over (empirical Bayes; Efron and Morris 1973).

A volunteer has one vote: its effects weigh as much together as VOTE of them. Mean and spread are weighted medians, so
that what a minority makes up moves them by a bounded amount: the spread's solves median((d - m)^2 / (sd^2 + s^2)) =
median of chi-squared, s the measurement's own sd. Both are bounded by multiples of the contract's effect_sd, and
shrunk: to those of all kinds of job, and these to the contract's. What agents predict has no part in it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import sqrt
from typing import NamedTuple

from coordinator.evidence import agreement, statistics
from coordinator.evidence.agreement import MEDIAN_SQUARE
from coordinator.evidence.statistics import Belief, EffectPrior, Measurement, find_share
from shared.experiments import JobKind

PRIOR_EFFECTS = 16.0
"""The contract's prior weighs as much as so many effects; so does that of all kinds against each kind's."""

VOTE = 8.0
"""Weight of a volunteer, in effects, however many it measured."""

MAX_MEAN = 1.0
MIN_SPREAD, MAX_SPREAD = 0.125, 3.0
"""Bounds of a learnt mean and sd, in units of the contract's effect_sd."""

MIN_TAILS, MAX_TAILS = 0.02, 0.3
"""Bounds of the share of wide effects, once there are effects to learn from: a narrow prior must not exclude a find."""

ROUNDS = 3
TAIL_ROUNDS = 20


class MeasuredCommit(NamedTuple):
    """A commit with its runs in a class; those of its parent come before it."""

    sha: str
    parent_sha: str | None
    steps: int
    runs: Sequence[Measurement]


class MeasuredEffect(NamedTuple):
    """A commit's effect of `steps` steps, with the variance of its measurement."""

    mean: float
    variance: float
    steps: int
    volunteer_id: int
    kind: JobKind | None


Priors = Mapping[JobKind | None, EffectPrior]
"""The priors of the kinds of job that were tried in a class; that of None holds for all others."""


def learn(commits: Sequence[MeasuredCommit], noise_sd: float, effect_sd: float) -> Priors:
    """The priors that commits teach; `effect_sd` is the contract's."""
    contract = EffectPrior(0.0, effect_sd)
    priors: dict[JobKind | None, EffectPrior] = {None: contract}
    for _ in range(ROUNDS):
        effects = list(list_effects(commits, noise_sd, priors))
        of_kind: defaultdict[JobKind | None, list[MeasuredEffect]] = defaultdict(list)
        for effect in effects:
            of_kind[effect.kind].append(effect)
        common = _estimate(effects, contract, effect_sd)
        priors = {kind: _estimate(own, common, effect_sd) for kind, own in of_kind.items()} | {None: common}
    return priors


def list_effects(commits: Iterable[MeasuredCommit], noise_sd: float, priors: Priors) -> Iterator[MeasuredEffect]:
    """Each commit's effect as its author measured it first, where its parent was measured."""
    beliefs: dict[str, Belief] = {}
    for commit in commits:
        pooled = agreement.estimate(commit.runs, noise_sd)
        above = None if commit.parent_sha is None else beliefs.get(commit.parent_sha)
        first = next((run for run in commit.runs if run.is_authors), None)
        if above is None:
            beliefs[commit.sha] = statistics.begin(pooled)
            continue
        kind = first.kind if first else None
        beliefs[commit.sha] = statistics.extend(above, commit.steps, pooled, priors.get(kind, priors[None]))
        if first is not None:
            variance = above.variance + noise_sd**2 + first.offset.sd**2
            difference = first.value - first.offset.mean - above.mean
            yield MeasuredEffect(difference, variance, commit.steps, first.volunteer_id, kind)


def _estimate(effects: Sequence[MeasuredEffect], above: EffectPrior, effect_sd: float) -> EffectPrior:
    """A prior from effects, shrunk to the one above it."""
    counts = Counter(effect.volunteer_id for effect in effects)
    if not effects:
        return above._replace(effects=0, volunteers=0)
    weights = [min(1.0, VOTE / counts[effect.volunteer_id]) for effect in effects]
    mean = _find_median([effect.mean / effect.steps for effect in effects], weights)
    squares = [(effect.mean - effect.steps * mean) ** 2 for effect in effects]
    spreads = [
        (square / MEDIAN_SQUARE - effect.variance) / effect.steps
        for effect, square in zip(effects, squares, strict=True)
    ]
    variance = max(0.0, _find_median(spreads, weights))
    # Kish's effective number of effects, each counted as far as it tells more than its own noise.
    told = [effect.steps * above.variance / (effect.steps * above.variance + effect.variance) for effect in effects]
    number = sum(weights) ** 2 / sum(weight**2 for weight in weights)
    number *= sum(weight * share for weight, share in zip(weights, told, strict=True)) / sum(weights)
    share = number / (number + PRIOR_EFFECTS)
    mean = share * mean + (1 - share) * above.mean
    sd = sqrt(share * variance + (1 - share) * above.sd**2)
    sd = min(max(sd, MIN_SPREAD * effect_sd), MAX_SPREAD * effect_sd)
    mean = min(max(mean, -MAX_MEAN * effect_sd), MAX_MEAN * effect_sd)
    tails = min(max(_estimate_tails(effects, weights, mean, sd), MIN_TAILS), MAX_TAILS)
    tails = share * tails + (1 - share) * above.tail_share
    return EffectPrior(mean, sd, tails, len(effects), len(counts))


def _find_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The mean of the lower and the upper weighted median."""
    ranked = sorted(zip(values, weights, strict=True))
    half, total, low = sum(weights) / 2, 0.0, None
    for value, weight in ranked:
        total += weight
        if low is not None:
            return (low + value) / 2
        if abs(total - half) <= 1e-9 * half:
            low = value
        elif total > half:
            return value
    return ranked[-1][0]


def _estimate_tails(effects: Sequence[MeasuredEffect], weights: Sequence[float], mean: float, sd: float) -> float:
    """The share of effects that come from the wide part of the prior, by expectation maximisation."""
    prior, share, total = EffectPrior(mean, sd), MIN_TAILS, sum(weights)
    against = [prior.compare_parts(effect.mean, effect.variance, effect.steps) for effect in effects]
    for _ in range(TAIL_ROUNDS):
        wide = (weight * find_share(share, odds) for odds, weight in zip(against, weights, strict=True))
        share = min(max(sum(wide) / total, MIN_TAILS), MAX_TAILS)
    return share
