"""Posteriors, verdicts and standings from runs, as pure functions.

The model, in one hardware class of one project, given the epoch's offsets (metric in the contract's unit):

    mu_child = mu_parent + d            d   ~ Normal(k m, k sd^2)        what an experiment does that takes k steps
    y        = mu + o_w + b + e         e   ~ Normal(0, noise_sd^2)      what one run by worker w measures
                                        o_w                              the worker's offset, frozen for an epoch
                                        b   ~ Normal(0, offset.sd^2)     what is not known of it

m and sd are the contract's (0 and effect_sd) until the class teaches others (`effects`). Then a share of experiments
also does TAIL_SCALE times as much: d has two normal parts, and the posterior is the one normal of the same mean and
covariance (West and Harrison, Bayesian Forecasting and Dynamic Models, 2nd ed., §12.4).

b is drawn once for each worker and commit: a worker's runs of one commit share it, so that many runs by one worker
do not become more certain than its offset is. The root's prior is flat.

A commit's posterior is conditioned on the runs of its own path, the root's included, and on no others (why:
docs/decisions/0008). Along a path the model is a Kalman filter (Kalman 1960; Särkkä, Bayesian Filtering and Smoothing,
2nd ed., §6.3), so a posterior needs its parent's and its own runs only, and is exact. What a parent's runs leave open
is in the covariance that its children inherit: children that were compared with one parent share its error.

A milestone is a difference to the anchor: the nearest ancestor that was verified, else the root. For it the filter
carries the anchor beside the commit, as a joint normal of (anchor, commit).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import erf, exp, hypot, inf, log, sqrt
from statistics import fmean
from typing import Any, NamedTuple

from shared.experiments import HeldDecisionKind, JobKind, Verdict
from shared.records import Trust

SURE = 0.95
"""Probability from which a verdict is given at all."""

SURE_ON_ASSUMED_NOISE = 0.99865
"""The same where the noise is assumed and nobody measured it: 3 sd from no effect."""

SURE_OF_MILESTONES = 0.999
"""Probability from which a milestone is verified (docs/architecture.md)."""

SURE_OF_CLAIMS = 0.99
"""Probability from which a finding may say that an experiment helped, once others checked it (docs/architecture.md)."""

CHECKERS = 2
"""Number of volunteers besides the author who must have measured a verified commit."""

MAX_RUNS = 6
"""Runs after which verification gives up: what is still open then stays open."""

TOO_GOOD = 10.0
"""A measured gain of more than this many effect_sd waits for a maintainer (docs/architecture.md)."""


@dataclass(frozen=True)
class Normal:
    """A normal distribution; `sd` may be infinite, which is a flat prior."""

    mean: float
    sd: float

    def probability_below(self, bound: float) -> float:
        """P(x < bound)."""
        if self.sd == 0:
            return float(self.mean < bound)
        return 0.5 * (1 + erf((bound - self.mean) / (self.sd * sqrt(2))))


def columns_of(**numbers: Normal | None) -> dict[str, Any]:
    """Mean and sd of each number, by the names of their columns; None of a number that is not known."""
    return {
        f"{name}_{part}": getattr(number, part) if number else None
        for name, number in numbers.items()
        for part in ("mean", "sd")
    }


EXACT = Normal(0.0, 0.0)
"""The offset of the worker that a class is measured by."""


TAIL_SCALE = 4.0
"""How much wider the effects of the wide part are than the others."""


class EffectPrior(NamedTuple):
    """The prior of an experiment's effect, for one step: a normal distribution, of which a share is TAIL_SCALE times as
    wide. It was learnt from `effects` by `volunteers`; without any it is the contract's."""

    mean: float
    sd: float
    tail_share: float = 0.0
    effects: int = 0
    volunteers: int = 0

    @property
    def variance(self) -> float:
        return self.sd**2 * (1 + self.tail_share * (TAIL_SCALE**2 - 1))

    def probability_wide(self, effect: float, variance: float, steps: int) -> float:
        """P(an effect belongs to the wide part), where it was measured with a variance."""
        return find_share(self.tail_share, self.compare_parts(effect, variance, steps)) if self.tail_share else 0.0

    def compare_parts(self, effect: float, variance: float, steps: int) -> float:
        """The logarithm of how much likelier an effect is in the narrow part than in the wide one."""
        square = (effect - steps * self.mean) ** 2
        narrow, wide = (steps * (scale * self.sd) ** 2 + variance for scale in (1.0, TAIL_SCALE))
        return (log(wide / narrow) - square / narrow + square / wide) / 2


def find_share(tail_share: float, log_odds: float) -> float:
    """P(an effect belongs to the wide part) by the share of that part, above 0, and what the effect says against it."""
    return 1 / (1 + exp(min(log(1 / tail_share - 1) + log_odds, 700.0)))


class Response(NamedTuple):
    """A worker's response: of a metric m it measures m + offset + gain (m − pivot). The offset is that at the pivot."""

    offset: Normal
    gain: Normal = EXACT
    pivot: float = 0.0

    def offset_at(self, measured: float, shift: float = 0.0) -> Normal:
        """How much of a measured value is the worker's, and `shift` the run's. It is as uncertain as it is large, since
        few machines, and one that lies, may tell the slope from which it follows."""
        sd = hypot(self.offset.sd, shift)
        if not self.gain.sd and not self.gain.mean:
            return Normal(self.offset.mean + shift, sd)
        rise = (measured - shift - self.pivot - self.offset.mean) / (1 + self.gain.mean)
        return Normal(measured - self.pivot - rise, hypot(sd, self.gain.sd * rise) / (1 + self.gain.mean))

    def columns(self) -> dict[str, float]:
        """The columns of `Calibration`."""
        numbers = (self.offset.mean, self.offset.sd, self.gain.mean, self.gain.sd, self.pivot)
        return dict(zip(RESPONSE_COLUMNS, numbers, strict=True))


RESPONSE_COLUMNS = ("offset_mean", "offset_sd", "gain_mean", "gain_sd", "pivot")


def read_response(
    offset_mean: float | None, offset_sd: float | None, gain_mean: float | None, gain_sd: float | None,
    pivot: float | None,
) -> Response | None:  # fmt: skip
    """A response from its columns; None of a worker that is not calibrated. Old rows have an offset alone."""
    if offset_mean is None or offset_sd is None:
        return None
    return Response(Normal(offset_mean, offset_sd), Normal(gain_mean or 0.0, gain_sd or 0.0), pivot or 0.0)


@dataclass(frozen=True)
class Model:
    """The parameters of an epoch, in the metric's unit. `effect_sd` is the contract's; `effects` are the priors that
    were learnt, by the kind of job, that of None for all others. Its noise `is_assumed` where no runs tell it."""

    noise_sd: float
    effect_sd: float
    effects: Mapping[JobKind | None, EffectPrior] = field(default_factory=dict)
    is_assumed: bool = False

    @property
    def sure(self) -> float:
        """Probability from which a verdict is given."""
        return SURE_ON_ASSUMED_NOISE if self.is_assumed else SURE

    def expect_of(self, runs: Iterable["Measurement"]) -> EffectPrior:
        """The prior of the effect of the commit that was measured so."""
        kind = next((run.kind for run in runs if run.is_authors), None)
        known = self.effects.get(kind) or self.effects.get(None)
        return known or EffectPrior(0.0, self.effect_sd)


class Measurement(NamedTuple):
    """A run that counts. `is_authors` says that it came with the commit, from the worker that made it, in a job of a
    `kind`; `trust` is what was known of that worker then. Only a run that `is_check` may verify. `exposure` is the
    logarithm of how many tokens the seed would have seen, in units of the class's reference. `decision`: a maintainer's
    on its commit in the class. Without `caches_emptied` its processes could tell each other what they saw. Where its
    machine stands is not known unless it `is_placed`."""

    value: float
    worker_id: int
    volunteer_id: int
    is_authors: bool
    offset: Normal
    trust: Trust = Trust.NEWCOMER
    is_check: bool = True
    kind: JobKind | None = None
    exposure: float = 0.0
    decision: HeldDecisionKind | None = None
    caches_emptied: bool = False
    is_placed: bool = True

    @property
    def setup(self) -> tuple[int, float]:
        """The worker and the exposure, to 1 %: what two runs must have in common to be compared as they are."""
        return self.worker_id, round(self.exposure, 2)


class Belief(NamedTuple):
    """The joint posterior of an anchor's metric and a commit's."""

    mean: float
    variance: float
    anchor_mean: float
    anchor_variance: float
    covariance: float

    @property
    def metric(self) -> Normal:
        return Normal(self.mean, sqrt(self.variance))

    @property
    def anchor(self) -> Normal:
        return Normal(self.anchor_mean, sqrt(self.anchor_variance))

    @property
    def difference(self) -> Normal:
        """Commit minus anchor."""
        variance = self.variance + self.anchor_variance - 2 * self.covariance
        return Normal(self.mean - self.anchor_mean, sqrt(max(0.0, variance)))

    def as_anchor(self) -> "Belief":
        """The same commit, as the anchor of those below it."""
        return Belief(self.mean, self.variance, self.mean, self.variance, self.variance)


def pool(measurements: Iterable[Measurement], noise_sd: float) -> Normal:
    """The estimate of a commit's metric from its runs alone.

    n runs of one worker have the mean mu + o + b + noise, with variance noise_sd^2 / n + offset.sd^2; workers are
    independent, so their means are weighted by precision (Gelman et al., Bayesian Data Analysis, 3rd ed., §2.5).
    """
    by_worker: dict[int, list[Measurement]] = {}
    for measurement in measurements:
        by_worker.setdefault(measurement.worker_id, []).append(measurement)
    total = weighted = 0.0
    for runs in by_worker.values():
        offset_sd = sum(run.offset.sd for run in runs) / len(runs)
        precision = 1 / (noise_sd**2 / len(runs) + offset_sd**2)
        total += precision
        weighted += precision * sum(run.value - run.offset.mean for run in runs) / len(runs)
    return Normal(weighted / total, sqrt(1 / total)) if by_worker else Normal(0.0, inf)


def combine(one: Normal, other: Normal) -> Normal:
    """Combines two independent estimates of one number; one sd may be infinite, not both."""
    weights = [0.0 if said.sd == inf else said.sd**-2 for said in (one, other)]
    mean = (weights[0] * one.mean + weights[1] * other.mean) / sum(weights)
    return Normal(mean, sqrt(1 / sum(weights)))


def subtract(measurements: Sequence[Measurement], others: Sequence[Measurement], noise_sd: float) -> Normal:
    """The difference of two commits by what workers measured of both with one budget; its sd may be infinite."""
    found = Normal(0.0, inf)
    for setup in dict.fromkeys(run.setup for run in measurements):
        own, base = ([run.value for run in some if run.setup == setup] for some in (measurements, others))
        if base:
            found = combine(found, Normal(fmean(own) - fmean(base), noise_sd * sqrt(1 / len(own) + 1 / len(base))))
    return found


def split(measurements: Iterable[Measurement]) -> tuple[list[Measurement], list[Measurement]]:
    """The measurements by the commit's author, and those by all others."""
    known = list(measurements)
    authors = {run.volunteer_id for run in known if run.is_authors}
    by_author = [run for run in known if run.volunteer_id in authors]
    return by_author, [run for run in known if run.volunteer_id not in authors]


def begin(measured: Normal) -> Belief:
    """The belief about a commit without measured ancestors, from its own runs: its own anchor."""
    variance = measured.sd**2
    return Belief(measured.mean, variance, measured.mean, variance, variance)


def extend(above: Belief, steps: int, measured: Normal, prior: EffectPrior) -> Belief:
    """One step of the filter: from the nearest measured ancestor, `steps` steps above, to a commit and its runs."""
    narrow = _filter(above, measured, steps * prior.mean, steps * prior.sd**2)
    spread = measured.sd**2 + above.variance
    wide_share = prior.probability_wide(measured.mean - above.mean, spread, steps)
    if wide_share == 0:
        return narrow
    wide = _filter(above, measured, steps * prior.mean, steps * (TAIL_SCALE * prior.sd) ** 2)
    mean, anchor_mean = wide.mean - narrow.mean, wide.anchor_mean - narrow.anchor_mean
    between = wide_share * (1 - wide_share)
    return Belief(
        mean=narrow.mean + wide_share * mean,
        variance=_mix(narrow.variance, wide.variance, wide_share) + between * mean**2,
        anchor_mean=narrow.anchor_mean + wide_share * anchor_mean,
        anchor_variance=_mix(narrow.anchor_variance, wide.anchor_variance, wide_share) + between * anchor_mean**2,
        covariance=_mix(narrow.covariance, wide.covariance, wide_share) + between * mean * anchor_mean,
    )


def _mix(one: float, other: float, share: float) -> float:
    return (1 - share) * one + share * other


def _filter(above: Belief, measured: Normal, effect: float, variance: float) -> Belief:
    """A step of the filter with a normal prior of the effect."""
    predicted = above.variance + variance
    innovation_variance = predicted + measured.sd**2
    innovation = measured.mean - above.mean - effect
    gain, anchor_gain = predicted / innovation_variance, above.covariance / innovation_variance
    return Belief(
        mean=above.mean + effect + gain * innovation,
        variance=predicted * measured.sd**2 / innovation_variance,
        anchor_mean=above.anchor_mean + anchor_gain * innovation,
        anchor_variance=above.anchor_variance - anchor_gain * above.covariance,
        covariance=above.covariance * (1 - gain),
    )


def judge(effect: Normal, sign: float, min_effect: float, sure: float = SURE) -> Verdict:
    """The verdict on an effect. `sign` is +1 where lower is better, −1 where higher is."""
    gain = Normal(-sign * effect.mean, effect.sd)
    if 1 - gain.probability_below(0.0) >= sure:
        return Verdict.IMPROVED
    if gain.probability_below(0.0) >= sure:
        return Verdict.WORSE
    if gain.probability_below(min_effect) - gain.probability_below(-min_effect) >= sure:
        return Verdict.NO_CHANGE
    return Verdict.UNRESOLVED


def probability_of_gain(difference: Normal, sign: float, min_effect: float) -> float:
    """P(a difference is better than `min_effect`)."""
    return Normal(sign * difference.mean, difference.sd).probability_below(-min_effect)


def list_checks(measurements: Iterable[Measurement]) -> list[Measurement]:
    """The measurements that may verify a commit: by others than its author, picked by the coordinator."""
    return [run for run in split(measurements)[1] if run.is_check]


def count_checkers(measurements: Sequence[Measurement]) -> int:
    """Volunteers who checked a commit and did not make it."""
    return len({run.volunteer_id for run in list_checks(measurements)})


def is_proven(milestone: Normal, sign: float, min_effect: float) -> bool:
    """Whether a milestone is sure enough to be claimed."""
    return probability_of_gain(milestone, sign, min_effect) >= SURE_OF_MILESTONES


def is_too_good(measured: Normal, above: Normal, sign: float, effect_sd: float) -> bool:
    """Whether a gain is beyond what a typical experiment does by so much that a person should look."""
    return sign * (above.mean - measured.mean) > TOO_GOOD * effect_sd + 3 * sqrt(measured.sd**2 + above.sd**2)
