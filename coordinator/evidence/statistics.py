"""Posteriors and verdicts from runs, as pure functions.

The model, in one hardware class (metric in the contract's unit):

    mu_child = mu_parent + d          d ~ Normal(0, effect_sd^2)      what an experiment does
    y        = mu + e                 e ~ Normal(0, noise_sd^2)       what one run measures

A commit's prior is thus its parent's posterior, widened by the effect's prior; the root's prior is flat. Both are
conjugate, so a posterior is a precision-weighted mean (Gelman et al., Bayesian Data Analysis, 3rd ed., §2.5).
"""

from dataclasses import dataclass
from math import erf, inf, sqrt

from shared.experiments import Verdict

SURE = 0.95
"""Probability from which a verdict is given at all; claims ask for more (ARCHITECTURE §6)."""


@dataclass(frozen=True)
class Normal:
    """A normal distribution; `sd` may be infinite, which is a flat prior."""

    mean: float
    sd: float

    def probability_below(self, bound: float) -> float:
        """P(x < bound)."""
        return 0.5 * (1 + erf((bound - self.mean) / (self.sd * sqrt(2))))


@dataclass(frozen=True)
class Noise:
    """The contract's priors, both in the metric's unit."""

    noise_sd: float
    effect_sd: float


FLAT = Normal(0.0, inf)


def update(prior: Normal, values: list[float], noise_sd: float) -> Normal:
    """The posterior of a mean after measuring `values`, each with noise `noise_sd`."""
    if not values:
        return prior
    mean, precision = sum(values) / len(values), len(values) / noise_sd**2
    if prior.sd == inf:
        return Normal(mean, sqrt(1 / precision))
    total = precision + 1 / prior.sd**2
    return Normal((mean * precision + prior.mean / prior.sd**2) / total, sqrt(1 / total))


def commit_posterior(ancestor: Normal | None, steps: int, values: list[float], noise: Noise) -> Normal:
    """Posterior of a commit's metric.

    `ancestor` is the posterior of the nearest ancestor that has one, `steps` commits above; None if there is none.
    """
    if ancestor is None:
        return update(FLAT, values, noise.noise_sd)
    prior = Normal(ancestor.mean, sqrt(ancestor.sd**2 + steps * noise.effect_sd**2))
    return update(prior, values, noise.noise_sd)


def effect_posterior(ancestor: Normal, steps: int, values: list[float], noise: Noise) -> Normal:
    """Posterior of mu_child − mu_ancestor, given runs of the child and the ancestor's own posterior.

    The mean run differs from the ancestor's mean by the effect, with variance ancestor.sd² + noise²/n; the effect's
    prior is Normal(0, steps·effect_sd²). Shrinkage is the ratio of the two.
    """
    prior = Normal(0.0, sqrt(steps) * noise.effect_sd)
    if not values:
        return prior
    difference = sum(values) / len(values) - ancestor.mean
    return update(prior, [difference], sqrt(ancestor.sd**2 + noise.noise_sd**2 / len(values)))


def judge(effect: Normal, sign: float, min_effect: float) -> Verdict:
    """What may be said of an effect. `sign` is +1 where lower is better, −1 where higher is."""
    gain = Normal(-sign * effect.mean, effect.sd)
    if 1 - gain.probability_below(0.0) >= SURE:
        return Verdict.IMPROVED
    if gain.probability_below(0.0) >= SURE:
        return Verdict.WORSE
    if gain.probability_below(min_effect) - gain.probability_below(-min_effect) >= SURE:
        return Verdict.NO_CHANGE
    return Verdict.UNRESOLVED
