"""How much of a project's work each kind of experiment gets: what its contract begins with, and then what it gains.

A kind's rate is its confirmed gain per GPU-second: the effects of its experiments that verified commits were built
upon. Little is known of a rate at first, so each is shrunk towards the rate of all kinds together, as if it had been
seen for PRIOR_RUNS typical runs more. Shares are the contract's, times the rates, with a floor.
"""

from collections.abc import Mapping
from typing import NamedTuple

from shared.contract import JobMix
from shared.experiments import JobKind

FLOOR = 0.05
"""No kind that the contract has on gets less (docs/architecture.md)."""

PRIOR_RUNS = 24.0
MOST_RATE = 10.0
"""A rate counts as at most so many times that of all kinds together, and as no less than the inverse."""


class KindTally(NamedTuple):
    """What a kind's experiments took and brought. `gain` is in the metric's unit, positive where it is better."""

    experiments: int
    gpu_seconds: float
    gain: float


NOTHING = KindTally(0, 0.0, 0.0)


def start_shares(mix: JobMix) -> dict[JobKind, float]:
    """The contract's shares of the kinds that make experiments, summing to one; kinds that are off are not in it."""
    given: dict[JobKind, float] = {kind: getattr(mix, kind) for kind in JobKind if kind.makes_experiment}
    total = sum(given.values())
    return {kind: share / total for kind, share in given.items() if share > 0}


def adapt_shares(mix: JobMix, tallies: Mapping[JobKind, KindTally]) -> dict[JobKind, float]:
    """The kinds' shares after what they gained, summing to one."""
    start = start_shares(mix)
    seconds = sum(tally.gpu_seconds for tally in tallies.values())
    gain = sum(tally.gain for tally in tallies.values())
    experiments = sum(tally.experiments for tally in tallies.values())
    if seconds <= 0 or gain <= 0:
        return raise_to_floor(start)
    prior = PRIOR_RUNS * seconds / experiments
    rates = {}
    for kind in start:
        tally = tallies.get(kind, NOTHING)
        relative = (tally.gain / gain + prior / seconds) / (tally.gpu_seconds / seconds + prior / seconds)
        rates[kind] = min(max(relative, 1 / MOST_RATE), MOST_RATE)
    total = sum(start[kind] * rate for kind, rate in rates.items())
    return raise_to_floor({kind: start[kind] * rate / total for kind, rate in rates.items()})


def raise_to_floor(shares: Mapping[JobKind, float]) -> dict[JobKind, float]:
    """Shares of which none is below the floor; what that takes, the others give in proportion."""
    low: set[JobKind] = set()
    while True:
        rest = sum(share for kind, share in shares.items() if kind not in low)
        scale = (1 - FLOOR * len(low)) / rest if rest else 0.0
        below = {kind for kind, share in shares.items() if kind not in low and share * scale < FLOOR}
        if not below:
            return {kind: FLOOR if kind in low else share * scale for kind, share in shares.items()}
        low |= below
