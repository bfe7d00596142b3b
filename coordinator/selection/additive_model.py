"""Predicts metrics by an additive model: a commit's metric is the sum of the effects of its settings and code steps.

Bayesian linear regression with one column for each pair of axis and value, worker and hardware class. Effects are
counted from a reference value, which every axis has. Along a numeric axis they are a straight line, a parabola and a
part of each value's own; how large an axis' effects are is learnt from all of its values together (automatic relevance
determination: MacKay, Bayesian Interpolation, 1992). Workers and classes have an offset each. Runs far from what the
model expects count as if they were OUTLIER sd away (Huber 1964).
"""

from collections.abc import Mapping, Sequence
from itertools import count
from math import inf, log, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.experiments import Setting

Floats = NDArray[np.float64]

OWN_SHARE = 0.3
"""Sd of the part of an effect that is a value's own, as a share of a typical effect."""

MISFIT_SHARE = 0.5
"""Sd of what does not add up in one configuration, as a share of a typical effect."""

CURVE_SHARE = 0.5  # sd of the parabola at a typical distance from the reference, as a share of a typical effect
OUTLIER = 3.0
RELEVANCE_ROUNDS = 2
MOST_DISTANCE = 4.0  # from the reference, in typical ones: farther values count as if they were there
LOG_FROM = 16.0  # ratio of the largest to the smallest value from which on an axis of positive numbers is logarithmic
CLASS_SHARE = 10.0  # sd of hardware classes, in sd of workers
MOST_VALUES = 12  # columns of a numeric axis
LARGEST = 20.0  # effects of more typical ones than this are cut

Item = tuple[str, Setting]
"""An axis with its value."""


class Row(NamedTuple):
    """One run: the settings that differ from the reference, who ran it, and its metric, lower for better."""

    settings: Mapping[str, Setting]
    worker: int
    hardware_class: str
    metric: float


class Prior(NamedTuple):
    """Sd of a run's noise, of a typical effect and of workers' offsets, in the metric's unit."""

    noise_sd: float
    effect_sd: float
    offset_sd: float


class AdditiveModel:
    """Effects of settings and code steps, by regression on runs, in the metric's unit; lower is better."""

    def __init__(self, rows: Sequence[Row], reference: Mapping[str, Setting], prior: Prior) -> None:
        self.runs = len(rows)
        told: dict[str, dict[Setting, None]] = {}
        for row in rows:
            for axis, value in row.settings.items():
                told.setdefault(axis, {})[value] = None
        self._columns: dict[Item, int] = {}
        self.values: dict[str, list[Setting]] = {}
        columns = count()
        for axis, named in told.items():
            self.values[axis] = []
            for group in group_values(list(named), reference.get(axis)):
                self.values[axis].append(group[len(group) // 2])
                self._columns |= dict.fromkeys(((axis, value) for value in group), next(columns))
        items = next(columns)
        groups: dict[object, int] = {}
        for row in rows:
            for member in (row.worker, row.hardware_class):
                groups.setdefault(member, items + len(groups))
        design = np.zeros((len(rows), items + len(groups)))
        for number, row in enumerate(rows):
            held = [self._columns[item] for item in row.settings.items()]
            design[number, [*held, groups[row.worker], groups[row.hardware_class]]] = 1.0
        blocks = {axis: self._prior_of(axis, reference.get(axis), prior.effect_sd) for axis in self.values}
        spreads = np.array(
            [prior.offset_sd * (CLASS_SHARE if isinstance(group, str) else 1.0) for group in groups], dtype=float
        )
        self._fit(design, _center(rows, prior), blocks, spreads, prior)

    def _prior_of(self, axis: str, reference: Setting | None, effect_sd: float) -> tuple[NDArray[np.intp], Floats]:
        """The columns of an axis' values, and the covariance of their effects."""
        values = self.values[axis]
        columns = np.array([self._columns[axis, value] for value in values])
        own = np.eye(len(values))
        distances = measure_distances(values, reference)
        if distances is None:
            return columns, effect_sd**2 * own
        line, curve = np.outer(distances, distances), np.outer(distances**2, distances**2)
        return columns, effect_sd**2 * (line + CURVE_SHARE**2 * curve + OWN_SHARE**2 * own)

    def _fit(
        self,
        design: Floats,
        metrics: Floats,
        blocks: Mapping[str, tuple[NDArray[np.intp], Floats]],
        spreads: Floats,
        prior: Prior,
    ) -> None:
        variance = prior.noise_sd**2 + (MISFIT_SHARE * prior.effect_sd) ** 2
        information = design.T @ design / variance
        inverses = {axis: np.linalg.inv(covariance) for axis, (_, covariance) in blocks.items()}
        scales = dict.fromkeys(blocks, 1.0)
        told = metrics
        for left in reversed(range(RELEVANCE_ROUNDS + 1)):
            precision = information.copy()
            at = np.arange(len(precision) - len(spreads), len(precision))
            precision[at, at] += 1 / spreads**2
            for axis, (columns, _) in blocks.items():
                precision[np.ix_(columns, columns)] += inverses[axis] / scales[axis]
            self._spread: Floats = np.linalg.inv(np.linalg.cholesky(precision)).T  # times its transpose: the covariance
            self._mean: Floats = self._spread @ (self._spread.T @ (design.T @ told / variance))
            expected = design @ self._mean
            most = OUTLIER * sqrt(variance)
            told = expected + np.clip(metrics - expected, -most, most)
            if left:
                covariance = self._spread @ self._spread.T
                for axis, (columns, _) in blocks.items():
                    effects, inverse = self._mean[columns], inverses[axis]
                    size = effects @ inverse @ effects + np.sum(inverse * covariance[np.ix_(columns, columns)])
                    scales[axis] = float(size + 1) / (len(columns) + 1)

        contributions = {
            axis: float(np.var(design[:, columns] @ self._mean[columns])) for axis, (columns, _) in blocks.items()
        }
        explained = sum(contributions.values()) or 1.0
        self.shares = {axis: variance / explained for axis, variance in contributions.items()}
        """Each axis' part of the variance that all axes explain."""

    def list_effects(self, axis: str) -> list[tuple[Setting, float, float]]:
        """The values of an axis, each with the mean and sd of its effect against the reference."""
        columns = [self._columns[axis, value] for value in self.values[axis]]
        means, sds = self._mean[columns], np.linalg.norm(self._spread[columns], axis=1)
        return list(zip(self.values[axis], map(float, means), map(float, sds), strict=True))

    def draw(self, rng: np.random.Generator) -> dict[str, Setting]:
        """The best configuration by drawn effects (Thompson sampling): its settings that differ from the reference."""
        drawn = self._mean + self._spread @ rng.standard_normal(len(self._mean))
        best = {}
        for axis, values in self.values.items():
            effect, value = min(((drawn[self._columns[axis, value]], at) for at, value in enumerate(values)))
            if effect < 0:
                best[axis] = values[value]
        return best

    def are_alike(self, axis: str, one: Setting | None, other: Setting | None) -> bool:
        """Whether the model takes two values of an axis for the same; None stands for the reference."""
        columns = [None if value is None else self._columns.get((axis, value), -1) for value in (one, other)]
        return one == other or (columns[0] == columns[1] and columns[0] != -1)

    def predict(self, settings: Mapping[str, Setting]) -> float:
        """The sum of the expected effects of settings that differ from the reference; unknown ones count as zero."""
        known = (self._columns.get(item) for item in settings.items())
        return float(sum(self._mean[column] for column in known if column is not None))


def group_values(values: Sequence[Setting], reference: Setting | None) -> list[list[Setting]]:
    """Values that share a column. Along a numeric axis with more than MOST_VALUES, neighbours do, in order."""
    distances = measure_distances(values, reference)
    if distances is None or len(values) <= MOST_VALUES:
        return [[value] for value in values]
    parts = np.array_split(np.argsort(distances, kind="stable"), MOST_VALUES)
    return [[values[at] for at in part] for part in parts]


def measure_distances(values: Sequence[Setting], reference: Setting | None) -> Floats | None:
    """Each value's distance from the reference, in typical ones; None if the axis is not numeric."""
    numbers: list[float] = []
    for value in (*values, reference):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        numbers.append(value)
    if min(numbers) > 0 and max(numbers) >= LOG_FROM * min(numbers):
        numbers = [log(number) for number in numbers]
    distances = np.array([number - numbers[-1] for number in numbers[:-1]], dtype=float)
    typical = float(np.median(np.abs(distances)))
    return np.clip(distances / typical, -MOST_DISTANCE, MOST_DISTANCE) if 0 < typical < inf else None


def _center(rows: Sequence[Row], prior: Prior) -> Floats:
    """Metrics from their class' median, cut where they are absurd: a diverged run should not move the others."""
    metrics, classes = np.array([row.metric for row in rows]), np.array([row.hardware_class for row in rows])
    for name in set(classes):
        metrics[classes == name] -= np.median(metrics[classes == name])
    most = LARGEST * prior.effect_sd
    cut: Floats = np.clip(metrics, -most, most)
    return cut
