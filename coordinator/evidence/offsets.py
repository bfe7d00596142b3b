"""Offsets of workers and the noise of a class, estimated from commits that several workers measured. Pure.

The model is a two-way layout, commits fixed and workers random (Henderson 1975, Best linear unbiased estimation and
prediction under a selection model; Searle, Casella and McCulloch, Variance Components, §7.4):

    y = m_commit + o_worker + e         o ~ Normal(0, offset_sd^2)     e ~ Normal(0, noise_sd^2)

A commit that one worker alone measured says nothing of offsets and is left out. So is the run that came with a commit
once two other workers measured it, as in the commit's own number (decision 0016): it is shared because it looked good,
and whoever makes results up makes those up. Noise is pooled without such runs in any case. Henderson's equations are
solved by conjugate gradients (Hestenes and Stiefel 1952), since they are positive definite, sparse, and so nearly
singular in the offsets' common level that simpler iterations take thousands of rounds.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from statistics import fmean, median, median_low
from typing import NamedTuple

from coordinator.evidence.statistics import CHECKERS, Normal

PRIOR_RUNS = 8.0
"""The contract's noise weighs as much as so many degrees of freedom."""

MAX_NOISE = 3.0
"""Largest noise, in units of the contract's: more of it would silence a class, so that nothing there is verified."""

ASKED_ABOUT = 2.0
"""A noise from so many times the contract's is shown to maintainers: machines are broken, volunteers make numbers up,
or the contract is wrong."""

NEIGHBOURS = 16
"""A run is compared with those of so many workers of a commit, so that a seed with 10,000 runs takes no day."""

EFFICIENCY = 2 / 3
"""Information that a median keeps of what a mean has, about 2 / pi of it."""

TOLERANCE = 1e-13
"""The residual at which the solver stops, as a share of the right-hand side."""

MORE_ROUNDS = 50
"""In exact arithmetic as many rounds as workers are enough; rounding costs some more."""


class SharedRun(NamedTuple):
    """A run, as offsets need it. `is_authors` says that it came with the commit, from the worker that made it. A
    volunteer's runs of one commit have one vote together."""

    commit: str
    worker_id: int
    value: float
    is_authors: bool = False
    run_id: int = 0
    of_volunteer: int | None = None

    @property
    def volunteer_id(self) -> int:
        """The volunteer, or the worker where each is somebody else's."""
        return self.worker_id if self.of_volunteer is None else self.of_volunteer


class EpochEstimate(NamedTuple):
    """An epoch's numbers: noise of one run, and the offset of each worker. `disputed_noise_sd` is the noise that the
    runs give where a maintainer should look at them."""

    noise_sd: float
    offsets: dict[int, Normal]
    disputed_noise_sd: float | None = None


def estimate(runs: Sequence[SharedRun], noise_sd: float, offset_sd: float) -> EpochEstimate:
    """Offsets and noise of an epoch; `noise_sd` is the contract's, and the noise's prior.

    Workers without a shared commit get none. With one worker alone there is nothing to compare: it gets none either.
    """
    shared = select_shared(runs)
    asked = pool_noise([run for run in runs if not run.is_authors], noise_sd)
    pooled = min(asked, MAX_NOISE * noise_sd)
    means = _solve(shared, pooled, offset_sd)
    spread = _spread(shared, means, pooled, offset_sd)
    offsets = {worker: Normal(mean, sd) for worker, (mean, sd) in spread.items()}
    return EpochEstimate(pooled, offsets, asked if asked > ASKED_ABOUT * noise_sd else None)


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


def _solve(shared: Sequence[SharedRun], noise_sd: float, offset_sd: float) -> dict[int, float]:
    """Best linear unbiased predictions of the offsets, by conjugate gradients."""
    layout = _Layout(shared, noise_sd**2 / offset_sd**2)
    offsets = dict.fromkeys(layout.runs_of_worker, 0.0)
    left = layout.differ_from_levels()
    aimed_at = TOLERANCE**2 * _dot(left, left)
    scaled = layout.precondition(left)
    direction, size = scaled, _dot(left, scaled)
    for _ in range(2 * len(offsets) + MORE_ROUNDS):
        if _dot(left, left) <= aimed_at:
            break
        image = layout.apply(direction)
        step = size / _dot(direction, image)
        offsets = {worker: offset + step * direction[worker] for worker, offset in offsets.items()}
        left = {worker: value - step * image[worker] for worker, value in left.items()}
        scaled = layout.precondition(left)
        size, before = _dot(left, scaled), size
        direction = {worker: value + size / before * direction[worker] for worker, value in scaled.items()}
    return offsets


class _Layout:
    """Henderson's equations with the commits' levels eliminated: one for each worker.

    (n_w + ratio) o_w − sum_c n_wc s_c = sum of (y − level) over the worker's runs, where n_wc counts a worker's runs of
    a commit, s_c is the mean offset of a commit's runs, and levels are the commits' means. A volunteer's runs of a
    commit count as one together, so that many workers of one volunteer do not outweigh the others.
    """

    def __init__(self, shared: Sequence[SharedRun], ratio: float) -> None:
        self._shared = shared
        self._ratio = ratio
        votes = Counter((run.commit, run.volunteer_id) for run in shared)
        self._weights = [1 / votes[run.commit, run.volunteer_id] for run in shared]
        self._votes_of_commit = Counter(commit for commit, _ in votes)
        self.runs_of_worker = dict.fromkeys(sorted({run.worker_id for run in shared}), 0.0)
        for run, weight in zip(shared, self._weights, strict=True):
            self.runs_of_worker[run.worker_id] += weight

    def differ_from_levels(self) -> dict[int, float]:
        levels = self._average({index: run.value for index, run in enumerate(self._shared)})
        return self._sum(run.value - levels[run.commit] for run in self._shared)

    def apply(self, offsets: Mapping[int, float]) -> dict[int, float]:
        """The left side of the equations."""
        means = self._average({index: offsets[run.worker_id] for index, run in enumerate(self._shared)})
        shared = self._sum(means[run.commit] for run in self._shared)
        return {w: (runs + self._ratio) * offsets[w] - shared[w] for w, runs in self.runs_of_worker.items()}

    def precondition(self, values: Mapping[int, float]) -> dict[int, float]:
        """Divided by the equations' diagonal, nearly."""
        return {w: values[w] / (runs + self._ratio) for w, runs in self.runs_of_worker.items()}

    def _average(self, values: Mapping[int, float]) -> dict[str, float]:
        """Means by commit of a value for each run."""
        sums = dict.fromkeys(self._votes_of_commit, 0.0)
        for index, run in enumerate(self._shared):
            sums[run.commit] += self._weights[index] * values[index]
        return {commit: total / self._votes_of_commit[commit] for commit, total in sums.items()}

    def _sum(self, values: Iterable[float]) -> dict[int, float]:
        """Sums by worker of a value for each run."""
        sums = dict.fromkeys(self.runs_of_worker, 0.0)
        for run, weight, value in zip(self._shared, self._weights, values, strict=True):
            sums[run.worker_id] += weight * value
        return sums


def _dot(one: Mapping[int, float], other: Mapping[int, float]) -> float:
    return sum(value * other[worker] for worker, value in one.items())


def _spread(
    shared: Sequence[SharedRun], offsets: Mapping[int, float], noise_sd: float, offset_sd: float
) -> dict[int, tuple[float, float]]:
    """Each offset with its sd, given the other workers' offsets: a commit's level is then known from their runs.

    A run of a commit with N runs, n of them this worker's, has the information (1 − n/N) / noise_sd^2.
    """
    of_commit: dict[str, int] = {}
    of_both: dict[tuple[int, str], int] = {}
    for run in shared:
        of_commit[run.commit] = of_commit.get(run.commit, 0) + 1
        of_both[run.worker_id, run.commit] = of_both.get((run.worker_id, run.commit), 0) + 1
    information = dict.fromkeys(offsets, 1 / offset_sd**2)
    for (worker, commit), own in of_both.items():
        information[worker] += own * (1 - own / of_commit[commit]) / noise_sd**2
    return {worker: (mean, sqrt(1 / information[worker])) for worker, mean in offsets.items()}


def pool_noise(runs: Sequence[SharedRun], noise_sd: float) -> float:
    """Noise of one run, from how far volunteers repeat each other's measurements; each has one vote. Without bound.

    Two workers that measured k commits both differ by their offsets, the same each time: the differences' own spread
    has k − 1 degrees of freedom and needs no estimate of offsets. Two runs of a commit by one worker are compared
    alike. A volunteer's vote is the median over those it is compared with, and the noise is the median of votes, so
    that what a minority makes up has no weight. A sum of squares counts as its ratio to the median of its chi-squared
    distribution (Wilson and Hilferty 1931). With the contract's noise it is combined as the posterior mode of a scaled
    inverse chi-squared prior with PRIOR_RUNS degrees of freedom (Gelman et al., §2.6).
    """
    votes: dict[int, dict[int, PairSpread]] = {}
    freedom = 0.0
    for (one, other), spread in _compare_volunteers(runs).items():
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


def _compare_volunteers(runs: Sequence[SharedRun]) -> dict[tuple[int, int], PairSpread]:
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
            found[low, high] = found.get((low, high), PairSpread()) + _spread_of(differences)
    return found


def _spread_of(differences: Sequence[tuple[float, float, float]]) -> PairSpread:
    """The spread of two workers' differences on several commits, each with its weight and share of information."""
    total = sum(weight for _, weight, _ in differences)
    mean = sum(weight * difference for difference, weight, _ in differences) / total
    squares = sum(weight * (difference - mean) ** 2 for difference, weight, _ in differences)
    freedom = len(differences) - 1
    return PairSpread(squares, freedom, sum(share for *_, share in differences) * freedom / len(differences))


def estimate_newcomer(values: Sequence[float], others: Normal, noise_sd: float, offset_sd: float) -> Normal:
    """A worker's offset from its runs of a commit of which others' runs say `others`, before the next epoch."""
    variance = noise_sd**2 / len(values) + others.sd**2
    precision = 1 / variance + 1 / offset_sd**2
    difference = sum(values) / len(values) - others.mean
    return Normal(difference / variance / precision, sqrt(1 / precision))
