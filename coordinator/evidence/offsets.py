"""Responses of workers and the noise of a class, estimated from commits that several workers measured. Pure.

The model is that of `responses.py`. A commit that one worker alone measured says nothing of responses and is left out.
So is the run that came with a commit once two other workers measured it, as in the commit's own number (decision 0016):
it is shared because it looked good, and whoever makes results up makes those up. Noise is pooled without such runs in
any case, from runs whose worker's gain is taken out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from statistics import fmean, median, median_low
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from coordinator.evidence import responses
from coordinator.evidence.agreement import EFFICIENCY
from coordinator.evidence.responses import FIRST_GAIN_SD, Layout, MachineSpread
from coordinator.evidence.statistics import CHECKERS, Normal, Response
from shared.records import Trust

PRIOR_RUNS = 8.0
"""The contract's noise weighs as much as so many degrees of freedom."""

MAX_NOISE = 3.0
"""Largest noise, in units of the contract's: more of it would silence a class, so that nothing there is verified."""

ASKED_ABOUT = 2.0
"""A noise from so many times the contract's is shown to maintainers: machines are broken, volunteers make numbers up,
or the contract is wrong."""

NEIGHBOURS = 16
"""A run is compared with those of so many workers of a commit, so that a seed with 10,000 runs takes no day."""

LEAST_OFFSET_SD, MOST_OFFSET_SD = 0.05, 3.0
"""Bounds of the learnt sd of offsets, in units of the contract's."""

NOTHING_LOST: Mapping[int, float] = MappingProxyType({})

SLOPE_SD = 10.0
"""Prior sd of an offset's change with the logarithm of throughput, in units of the contract's sd of offsets."""

IMPLAUSIBLE = 3.0
"""A newcomer's difference from others that is more than so many sd of machines' offsets is not plausible."""

ROUNDS = 4
"""Rounds in which gains, noise and levels are fitted to each other."""


class SharedRun(NamedTuple):
    """A run, as offsets need it. `is_authors` says that it came with the commit, from the worker that made it. A
    volunteer's runs of one commit have one vote together. `exposure` is the logarithm of how many tokens the seed would
    have seen in the run's budget, in units of the class's reference. `trust` is what was known of its volunteer when it
    came: who was doubted has no part in noise, so that two accounts of one person cannot silence a small class by
    numbers that an anchor refutes."""

    commit: str
    worker_id: int
    value: float
    is_authors: bool = False
    run_id: int = 0
    of_volunteer: int | None = None
    exposure: float = 0.0
    trust: Trust = Trust.NEWCOMER

    @property
    def volunteer_id(self) -> int:
        """The volunteer, or the worker where each is somebody else's."""
        return self.worker_id if self.of_volunteer is None else self.of_volunteer


class EpochEstimate(NamedTuple):
    """An epoch's numbers: noise of one run, and the response of each worker. `disputed_noise_sd` is the noise that the
    runs give where a maintainer should look at them. `spread`, `centre` and `slope` are what is known of a worker whose
    response is not."""

    noise_sd: float
    responses: dict[int, Response]
    disputed_noise_sd: float | None = None
    spread: MachineSpread | None = None
    centre: float | None = None
    slope: float = 0.0

    @property
    def offset_sd(self) -> float | None:
        return self.spread.offset_sd if self.spread else None

    @property
    def gain_sd(self) -> float | None:
        return self.spread.gain_sd if self.spread else None

    def find_unknown(self, offset_sd: float) -> Response:
        """The response of another worker; `offset_sd` is the contract's."""
        gain = Normal(0.0, self.gain_sd or 0.0)
        return Response(Normal(0.0, self.offset_sd or offset_sd), gain, self.centre or 0.0)


def estimate(runs: Sequence[SharedRun], noise_sd: float, offset_sd: float, seed: str | None = None) -> EpochEstimate:
    """Responses and noise of an epoch; `noise_sd` and `offset_sd` are the contract's, and priors. `seed` is the commit
    from which gains are counted.

    Workers without a shared commit get none. With one worker alone there is nothing to compare: it gets none either.
    """
    shared = select_shared(runs)
    checks = [run for run in runs if not run.is_authors and run.trust != Trust.DOUBTED]
    asked = pool_noise(checks, noise_sd)
    pooled = min(asked, MAX_NOISE * noise_sd)
    if shared:
        return _fit(shared, checks, pooled, noise_sd, offset_sd, seed)
    return EpochEstimate(pooled, {}, asked if asked > ASKED_ABOUT * noise_sd else None)


def _fit(
    shared: Sequence[SharedRun], checks: Sequence[SharedRun], pooled: float, noise_sd: float, offset_sd: float,
    seed: str | None,
) -> EpochEstimate:  # fmt: skip
    votes = Counter((run.commit, run.volunteer_id) for run in shared)
    workers = {run.worker_id: run.volunteer_id for run in shared}
    layout = Layout.of(
        [(run.worker_id, run.commit, run.value, run.exposure) for run in shared],
        [1 / votes[run.commit, run.volunteer_id] for run in shared],
        workers,
    )
    numbers = {worker: number for number, worker in enumerate(sorted(workers))}
    commits = {commit: number for number, commit in enumerate(dict.fromkeys(run.commit for run in shared))}
    slope_sd, asked = SLOPE_SD * offset_sd, pooled
    spread = MachineSpread(offset_sd, 0.0)
    found = responses.fit(layout, np.zeros(len(commits)), pooled, spread, slope_sd)
    centre = 0.0
    for _ in range(ROUNDS):
        learnt = _learn_spread(layout, found, spread, offset_sd)
        centre = float(found.levels[commits[seed]] if seed in commits else found.levels.mean())
        above, spread = found.levels - centre, learnt
        found = responses.fit(layout, above, pooled, spread, slope_sd)
        straight = [
            run._replace(value=run.value - found.slope * run.exposure - float(gain * above[commits[run.commit]]))
            for run in checks
            if run.commit in commits and run.worker_id in numbers
            for gain in [found.gains[numbers[run.worker_id]]]
        ]
        asked = pool_noise(straight, noise_sd, _count_fitted(straight, found, numbers, spread))
        pooled = min(asked, MAX_NOISE * noise_sd)
    found = responses.fit(layout, above, pooled, spread, slope_sd)
    usual = _find_usual(layout, found)
    found, centre = found._replace(offsets=found.offsets - usual), centre + usual
    return EpochEstimate(
        pooled,
        {worker: responses.respond(found, number, centre) for worker, number in numbers.items()},
        asked if asked > ASKED_ABOUT * noise_sd else None,
        spread, centre, found.slope,
    )  # fmt: skip


def _find_usual(layout: Layout, found: responses.Fit) -> float:
    """The median of volunteers' offsets. Runs tell offsets but for a common one: metrics are stated as the middle
    volunteer's machine measures them, so that one who makes numbers up does not move all that is shown."""
    of_volunteer = (found.offsets[layout.volunteers == volunteer] for volunteer in np.unique(layout.volunteers))
    return float(np.median([np.median(own) for own in of_volunteer]))


def _learn_spread(layout: Layout, found: responses.Fit, before: MachineSpread, offset_sd: float) -> MachineSpread:
    """Sds of offsets and gains from a fit that assumed those `before`."""
    of_offsets, of_gains = found.covariances[:, 0, 0], found.covariances[:, 1, 1]
    learnt = responses.learn_sd(found.offsets, of_offsets, layout.volunteers, before.offset_sd, offset_sd)
    bounded = min(MOST_OFFSET_SD * offset_sd, max(LEAST_OFFSET_SD * offset_sd, learnt))
    if not before.gain_sd:
        return MachineSpread(bounded, FIRST_GAIN_SD)
    gain_sd = responses.learn_sd(found.gains, of_gains, layout.volunteers, before.gain_sd, FIRST_GAIN_SD)
    return MachineSpread(bounded, min(responses.MAX_GAIN_SD, gain_sd))


def _count_fitted(
    runs: Sequence[SharedRun], found: responses.Fit, numbers: Mapping[int, int], spread: MachineSpread
) -> dict[int, float]:
    """The share of each worker's variance that its gain explains by chance."""
    counts = Counter(worker for worker, _ in {(run.worker_id, run.commit) for run in runs})
    told = 1 - found.covariances[:, 1, 1] / spread.gain_sd**2
    return {worker: float(told[numbers[worker]]) / max(2, n - 1) for worker, n in counts.items()}


def select_shared(runs: Iterable[SharedRun]) -> list[SharedRun]:
    """Runs of commits that at least two workers measured, without the authors' where two others did."""
    workers: dict[str, set[int]] = {}
    authors: dict[str, set[int]] = {}
    runs = list(runs)
    for run in runs:
        workers.setdefault(run.commit, set()).add(run.worker_id)
        if run.is_authors:
            authors.setdefault(run.commit, set()).add(run.worker_id)
    others = {commit: len(known - authors.get(commit, set())) for commit, known in workers.items()}
    return [
        run for run in runs
        if len(workers[run.commit]) > 1 and (others[run.commit] < CHECKERS or not run.is_authors)
    ]  # fmt: skip


def pool_noise(runs: Sequence[SharedRun], noise_sd: float, lost: Mapping[int, float] = NOTHING_LOST) -> float:
    """Noise of one run, from how far volunteers repeat each other's measurements; each has one vote. Without bound.

    Two workers that measured k commits both differ by their offsets, the same each time: the differences' own spread
    has k − 1 degrees of freedom and needs no estimate of offsets. Two runs of a commit by one worker are compared
    alike. A volunteer's vote is the median over those it is compared with, and the noise is the median of votes, so
    that what a minority makes up has no weight. A sum of squares counts as its ratio to the median of its chi-squared
    distribution (Wilson and Hilferty 1931). With the contract's noise it is combined as the posterior mode of a scaled
    inverse chi-squared prior with PRIOR_RUNS degrees of freedom (Gelman et al., §2.6). `lost` is the share of a
    worker's variance that was fitted with its gain.
    """
    votes: dict[int, dict[int, PairSpread]] = {}
    freedom = 0.0
    for (one, other), spread in _compare_volunteers(runs, lost).items():
        freedom += spread.information
        for by, partner in {(one, other), (other, one)}:
            votes.setdefault(by, {})[partner] = spread
    if not votes:
        return noise_sd
    variance = median_low(median(spread.root for spread in partners.values()) for partners in votes.values()) ** 3
    freedom *= EFFICIENCY
    return sqrt((PRIOR_RUNS * noise_sd**2 + freedom * variance) / (PRIOR_RUNS + freedom))


class PairSpread(NamedTuple):
    """How far two volunteers' measurements differ, their offsets aside: squares, and their degrees of freedom, of which
    `information` is what other comparisons of the same runs do not tell too."""

    squares: float = 0.0
    freedom: float = 0.0
    information: float = 0.0

    @property
    def root(self) -> float:
        """The cube root of one run's variance, unbiased: on this scale it is nearly normal, so that medians of two and
        of many are unbiased alike."""
        return float((self.squares / self.freedom) ** (1 / 3) / (1 - 2 / (9 * self.freedom)))

    def __add__(self, other: "PairSpread") -> "PairSpread":  # type: ignore[override]
        return PairSpread(*(one + another for one, another in zip(self, other, strict=True)))


def _compare_volunteers(runs: Sequence[SharedRun], lost: Mapping[int, float]) -> dict[tuple[int, int], PairSpread]:
    """The spreads of volunteers who are compared, each pair once; a volunteer's own repetitions too."""
    values: dict[str, dict[int, list[float]]] = {}
    volunteers = {run.worker_id: run.volunteer_id for run in runs}
    for run in runs:
        values.setdefault(run.commit, {}).setdefault(run.worker_id, []).append(run.value)
    shared: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
    found: dict[tuple[int, int], PairSpread] = {}
    for of_worker in values.values():
        workers = sorted(of_worker)
        for at, one in enumerate(workers):
            own = of_worker[one]
            if len(own) > 1:
                key, squares = (volunteers[one], volunteers[one]), sum((value - fmean(own)) ** 2 for value in own)
                found[key] = found.get(key, PairSpread()) + PairSpread(squares, len(own) - 1, len(own) - 1)
            for other in workers[at + 1 : at + 1 + NEIGHBOURS]:
                theirs = of_worker[other]
                weight = 1 / (1 / len(own) + 1 / len(theirs))
                shared.setdefault((one, other), []).append((fmean(own) - fmean(theirs), weight, 2 / len(workers)))
    for (one, other), differences in shared.items():
        if len(differences) > 1 and volunteers[one] != volunteers[other]:
            low, high = sorted((volunteers[one], volunteers[other]))
            kept = 1 - (lost.get(one, 0.0) + lost.get(other, 0.0)) / 2
            found[low, high] = found.get((low, high), PairSpread()) + _spread_of(differences, kept)
    return found


def _spread_of(differences: Sequence[tuple[float, float, float]], kept: float) -> PairSpread:
    """The spread of two workers' differences on several commits, each with its weight and share of information."""
    total = sum(weight for _, weight, _ in differences)
    mean = sum(weight * difference for difference, weight, _ in differences) / total
    squares = sum(weight * (difference - mean) ** 2 for difference, weight, _ in differences) / kept
    freedom = len(differences) - 1
    return PairSpread(squares, freedom, sum(share for *_, share in differences) * freedom / len(differences))


class PlacedNewcomer(NamedTuple):
    """The response of a worker by its first runs; whether machines' offsets make one like that plausible."""

    response: Response
    is_plausible: bool


def estimate_newcomer(values: Sequence[float], others: Normal, noise_sd: float, unknown: Response) -> PlacedNewcomer:
    """A worker's response from its runs of a commit of which others' runs say `others`, before the next epoch.

    What is not known of it by then is `unknown`. An offset that is not plausible is believed in full: an honest machine
    is placed at once, and a number that is made up takes the others' along the less the larger it is.
    """
    before = sqrt(unknown.offset.sd**2 + (unknown.gain.sd * (others.mean - unknown.pivot)) ** 2)
    variance = noise_sd**2 / len(values) + others.sd**2
    difference = sum(values) / len(values) - others.mean
    is_plausible = abs(difference) <= IMPLAUSIBLE * sqrt(before**2 + variance)
    precision = 1 / variance + 1 / max(before, abs(difference) / IMPLAUSIBLE) ** 2
    offset = Normal(difference / variance / precision, sqrt(1 / precision))
    return PlacedNewcomer(Response(offset, unknown.gain, others.mean), is_plausible)
