"""Workers' responses to commits, fitted to runs of commits that several workers measured. Pure.

    y = m_c + slope x + o_w + s_w (m_c - centre) + e

m_c is a commit's metric, o_w the worker's offset at the metric `centre` (the seed's), 1 + s_w its gain: a machine on
which gains over the seed are a tenth larger has s_w = 0.1. x is the logarithm of the throughput that the seed had on
that worker, times the run's pace, in units of the class's reference. Offsets and gains are random, their sds learnt.

The equations are Henderson's (1975, Best linear unbiased estimation and prediction under a selection model; Searle,
Casella and McCulloch, Variance Components, §7.4), with levels eliminated and m_c - centre taken from the round before.
They are solved by conjugate gradients (Hestenes and Stiefel 1952): positive definite, sparse, and so nearly singular in
the offsets' common level that simpler iterations take thousands of rounds. Runs that fit badly weigh less, and large
lies hardly anything (redescending weights: Hampel et al., Robust Statistics, 1986, §2.6).
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from coordinator.evidence.agreement import MEDIAN_SQUARE
from coordinator.evidence.statistics import Normal, Response

Vector = NDArray[np.float64]

TOLERANCE = 1e-13
"""The residual at which the solver stops, as a share of the right-hand side."""

MORE_ROUNDS = 50
"""In exact arithmetic as many rounds as unknowns are enough; rounding costs some more."""

FITS_BADLY, REDESCENDS, WEIGHINGS = 4.0, 3, 4
"""Runs with a larger residual, in sd of the noise, weigh less by the ratio's third power, so that a lie moves others
the less the larger it is. The weights follow from the fit so many times."""

PRIOR_VOTES = 2.0
"""A prior sd weighs as much as so many volunteers."""

FIRST_GAIN_SD = 0.1
"""The sd of gains while it is not learnt: wide, so that the runs decide."""

MAX_GAIN_SD = 0.3
MAX_GAIN = 0.5

LEAST_SPREAD = 1e-3
"""Spread of x from which its slope is estimated: below, all runs had the same budget in the seed's tokens."""

SMALLEST = 1e-12


class Layout(NamedTuple):
    """Runs as arrays: the number of the worker and of the commit, the value, x, and the run's weight. `volunteers` are
    those of the workers."""

    workers: NDArray[np.int64]
    commits: NDArray[np.int64]
    values: Vector
    exposures: Vector
    weights: Vector
    volunteers: NDArray[np.int64]

    @classmethod
    def of(
        cls, runs: Sequence[tuple[int, str, float, float]], weights: Sequence[float], volunteers: dict[int, int]
    ) -> Self:
        """From (worker, commit, value, x) of each run; the layout numbers workers in the order of their ids."""
        worker_ids = sorted({run[0] for run in runs})
        number = {worker: n for n, worker in enumerate(worker_ids)}
        commit: dict[str, int] = {}
        return cls(
            np.array([number[run[0]] for run in runs], dtype=np.int64),
            np.array([commit.setdefault(run[1], len(commit)) for run in runs], dtype=np.int64),
            np.array([run[2] for run in runs]),
            np.array([run[3] for run in runs]),
            np.array(weights),
            np.array([volunteers[worker] for worker in worker_ids], dtype=np.int64),
        )

    @property
    def size(self) -> int:
        """The number of workers."""
        return len(self.volunteers)

    def average(self, values: Vector, weights: Vector) -> Vector:
        """Means by commit."""
        total = np.bincount(self.commits, weights * values)
        average: Vector = total / np.maximum(np.bincount(self.commits, weights), SMALLEST)
        return average


class MachineSpread(NamedTuple):
    """Sds of offsets and of gains; a gain's of 0 says that all machines gain alike."""

    offset_sd: float
    gain_sd: float


class Fit(NamedTuple):
    """Offsets and gains by the workers' numbers, the covariance of each pair, the slope, and levels by commit."""

    offsets: Vector
    gains: Vector
    covariances: Vector  # workers × 2 × 2
    slope: float
    levels: Vector
    residuals: Vector


def fit(layout: Layout, above: Vector, noise_sd: float, spread: MachineSpread, slope_sd: float) -> Fit:
    """Best linear unbiased predictions, where commits are `above` the centre by so much."""
    weights = layout.weights
    for _ in range(WEIGHINGS):
        offsets, gains, slope = _solve(layout, above, weights, noise_sd, spread, slope_sd)
        rest = layout.values - offsets[layout.workers] - gains[layout.workers] * above[layout.commits]
        rest = rest - slope * layout.exposures
        levels = layout.average(rest, weights)
        residuals = rest - levels[layout.commits]
        size = np.maximum(np.abs(residuals) / (FITS_BADLY * noise_sd), 1.0)
        weights = layout.weights / size**REDESCENDS
    covariances = _find_covariances(layout, above, weights, noise_sd, spread)
    return Fit(offsets, gains, covariances, slope, levels, residuals)


def _solve(
    layout: Layout, above: Vector, weights: Vector, noise_sd: float, spread: MachineSpread, slope_sd: float
) -> tuple[Vector, Vector, float]:
    workers, count = layout.workers, layout.size
    rises = above[layout.commits] if spread.gain_sd else np.zeros(len(workers))
    varies = np.ptp(layout.exposures) > LEAST_SPREAD
    exposures = layout.exposures if varies else np.zeros(len(workers))
    ratio = np.concatenate(
        [
            np.full(count, noise_sd**2 / max(spread.offset_sd, SMALLEST) ** 2),
            np.full(count, noise_sd**2 / max(spread.gain_sd, SMALLEST) ** 2),
            [noise_sd**2 / slope_sd**2],
        ]
    )

    def project(values: Vector) -> Vector:
        apart = weights * (values - layout.average(values, weights)[layout.commits])
        of_offsets, of_gains = np.bincount(workers, apart, count), np.bincount(workers, apart * rises, count)
        return np.concatenate([of_offsets, of_gains, [float(apart @ exposures)]])

    def predict(unknowns: Vector) -> Vector:
        offsets, gains = unknowns[:count], unknowns[count : 2 * count]
        predicted: Vector = offsets[workers] + gains[workers] * rises + unknowns[-1] * exposures
        return predicted

    diagonal = ratio + np.concatenate(
        [
            np.bincount(workers, weights, count),
            np.bincount(workers, weights * rises**2, count),
            [float(weights @ exposures**2)],
        ]
    )
    unknowns = np.zeros(2 * count + 1)
    left = project(layout.values)
    aimed_at = TOLERANCE**2 * float(left @ left)
    scaled = left / diagonal
    direction, size = scaled, float(left @ scaled)
    for _ in range(2 * len(unknowns) + MORE_ROUNDS):
        if float(left @ left) <= aimed_at:
            break
        image = project(predict(direction)) + ratio * direction
        step = size / float(direction @ image)
        unknowns = unknowns + step * direction
        left = left - step * image
        scaled = left / diagonal
        size, before = float(left @ scaled), size
        direction = scaled + size / before * direction
    return unknowns[:count], unknowns[count : 2 * count], float(unknowns[-1])


def _find_covariances(layout: Layout, above: Vector, weights: Vector, noise_sd: float, spread: MachineSpread) -> Vector:
    """Of each worker's offset and gain, given the other workers': a commit's level is then known from their runs.

    A run of a commit with N runs, n of them this worker's, has the information (1 − n/N) / noise_sd^2.
    """
    count, rises = layout.size, above[layout.commits]
    in_all = np.bincount(layout.commits, weights)[layout.commits]
    pairs, index = np.unique(layout.workers * (layout.commits.max() + 1) + layout.commits, return_inverse=True)
    own = np.bincount(index, weights, len(pairs))[index]
    told = weights * (1 - own / np.maximum(in_all, SMALLEST)) / noise_sd**2
    precision = np.empty((count, 2, 2))
    precision[:, 0, 0] = np.bincount(layout.workers, told, count) + 1 / max(spread.offset_sd, SMALLEST) ** 2
    precision[:, 0, 1] = precision[:, 1, 0] = np.bincount(layout.workers, told * rises, count)
    precision[:, 1, 1] = np.bincount(layout.workers, told * rises**2, count) + 1 / max(spread.gain_sd, SMALLEST) ** 2
    if not spread.gain_sd:
        precision[:, 0, 1] = precision[:, 1, 0] = 0.0
    return np.asarray(np.linalg.inv(precision), dtype=np.float64)


def learn_sd(means: Vector, variances: Vector, volunteers: NDArray[np.int64], before: float, prior: float) -> float:
    """The sd of a random effect from its predictions, which assumed the sd `before`; each volunteer has one vote.

    What a worker's runs say by themselves is its prediction unshrunk, with a variance of its own. The sd is that by
    which half of the volunteers are within the normal distribution's half, so a minority that makes numbers up does not
    move it. It is averaged with the prior's on the logarithmic scale.
    """
    squares, own = _unshrink(means, variances, volunteers, before)
    if not len(squares):
        return prior

    def is_too_small(variance: float) -> bool:
        return float(np.median(squares / (variance + own))) > MEDIAN_SQUARE

    low, high = -30.0, 10.0  # powers of two, in units of the prior
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_too_small((prior * 2.0**middle) ** 2) else (low, middle)
    learnt = max(prior * 2.0**high, float(np.median(own)) ** 0.5 / 2)  # less is not seen through the noise
    votes = float(np.sum(1 / (1 + own / learnt**2)))
    return float(np.exp((PRIOR_VOTES * np.log(prior) + votes * np.log(learnt)) / (PRIOR_VOTES + votes)))


def _unshrink(means: Vector, variances: Vector, volunteers: NDArray[np.int64], before: float) -> tuple[Vector, Vector]:
    """The squares of effects, as the workers' own runs say, and their variances; one for each volunteer."""
    told = 1 - variances / before**2
    known = told > 0.05
    values, own = means[known] / told[known], variances[known] / told[known]
    if not len(values):
        return values, own
    values = values - float(np.median(values))
    order = [np.flatnonzero(volunteers[known] == volunteer) for volunteer in np.unique(volunteers[known])]
    squares = np.array([float(np.median(values[at] ** 2)) for at in order])
    return squares, np.array([float(np.median(own[at])) for at in order])


def respond(fitted: Fit, number: int, centre: float) -> Response:
    """A worker's response, stated at the metric where its offset and its gain are independent."""
    (of_offset, both), (_, of_gain) = fitted.covariances[number]
    offset, gain = float(fitted.offsets[number]), float(fitted.gains[number])
    rise = -float(both / of_gain)
    at_pivot = max(SMALLEST**2, float(of_offset - both**2 / of_gain))
    bounded = min(MAX_GAIN, max(-MAX_GAIN, gain))
    return Response(Normal(offset + gain * rise, at_pivot**0.5), Normal(bounded, float(of_gain) ** 0.5), centre + rise)
