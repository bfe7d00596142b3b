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
from typing import NamedTuple

from coordinator.evidence.statistics import CHECKERS, Normal

PRIOR_RUNS = 8.0
"""The contract's noise weighs as much as so many degrees of freedom."""

TOLERANCE = 1e-13
"""The residual at which the solver stops, as a share of the right-hand side."""

MORE_ROUNDS = 50
"""In exact arithmetic as many rounds as workers are enough; rounding costs some more."""


class SharedRun(NamedTuple):
    """A run, as offsets need it. `is_authors` says that it came with the commit, from the worker that made it."""

    commit: str
    worker_id: int
    value: float
    is_authors: bool = False
    run_id: int = 0


class EpochEstimate(NamedTuple):
    """An epoch's numbers: noise of one run, and the offset of each worker."""

    noise_sd: float
    offsets: dict[int, Normal]


def estimate(runs: Sequence[SharedRun], noise_sd: float, offset_sd: float) -> EpochEstimate:
    """Offsets and noise of an epoch; `noise_sd` is the contract's, and the noise's prior.

    Workers without a shared commit get none. With one worker alone there is nothing to compare: it gets none either.
    """
    shared = select_shared(runs)
    offsets = _solve(shared, noise_sd, offset_sd)
    pooled = pool_noise([run for run in runs if not run.is_authors], offsets, noise_sd)
    means = _solve(shared, pooled, offset_sd)
    return EpochEstimate(pooled, {worker: Normal(mean, sd) for worker, (mean, sd) in _spread(shared, means, pooled,
                                                                                       offset_sd).items()})  # fmt: skip


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
    a commit, s_c is the mean offset of a commit's runs, and levels are the commits' plain means.
    """

    def __init__(self, shared: Sequence[SharedRun], ratio: float) -> None:
        self._shared = shared
        self._ratio = ratio
        self.runs_of_worker = dict(sorted(Counter(run.worker_id for run in shared).items()))
        self._runs_of_commit = Counter(run.commit for run in shared)

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
        sums = dict.fromkeys(self._runs_of_commit, 0.0)
        for index, run in enumerate(self._shared):
            sums[run.commit] += values[index]
        return {commit: total / self._runs_of_commit[commit] for commit, total in sums.items()}

    def _sum(self, values: Iterable[float]) -> dict[int, float]:
        """Sums by worker of a value for each run."""
        sums = dict.fromkeys(self.runs_of_worker, 0.0)
        for run, value in zip(self._shared, values, strict=True):
            sums[run.worker_id] += value
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


def pool_noise(runs: Sequence[SharedRun], offsets: Mapping[int, float], noise_sd: float) -> float:
    """Noise of one run, from what differs between runs of one commit once offsets are taken off.

    The posterior mode of a scaled inverse chi-squared prior with PRIOR_RUNS degrees of freedom (Gelman et al., §2.6):
    sd^2 = (nu0 sd0^2 + sum of squares) / (nu0 + degrees of freedom). Commits cost one degree each, offsets another.
    """
    by_commit: dict[str, list[float]] = {}
    for run in runs:
        by_commit.setdefault(run.commit, []).append(run.value - offsets.get(run.worker_id, 0.0))
    squares = 0.0
    freedom = -max(0, len(offsets.keys() & {run.worker_id for run in runs}) - 1)
    for values in by_commit.values():
        mean = sum(values) / len(values)
        squares += sum((value - mean) ** 2 for value in values)
        freedom += len(values) - 1
    return sqrt((PRIOR_RUNS * noise_sd**2 + squares) / (PRIOR_RUNS + max(0, freedom)))


def estimate_newcomer(values: Sequence[float], others: Normal, noise_sd: float, offset_sd: float) -> Normal:
    """A worker's offset from its runs of a commit of which others' runs say `others`, before the next epoch."""
    variance = noise_sd**2 / len(values) + others.sd**2
    precision = 1 / variance + 1 / offset_sd**2
    difference = sum(values) / len(values) - others.mean
    return Normal(difference / variance / precision, sqrt(1 / precision))
