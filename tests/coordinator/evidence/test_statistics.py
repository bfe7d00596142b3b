"""Posteriors and verdicts."""

from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.evidence.statistics import (
    FLAT,
    Noise,
    Normal,
    commit_posterior,
    effect_posterior,
    judge,
    update,
)
from shared.experiments import Verdict

NOISE = Noise(noise_sd=0.005, effect_sd=0.05)
metrics = st.floats(1.0, 5.0)


def test_a_flat_prior_gives_the_mean() -> None:
    posterior = update(FLAT, [3.2, 3.3], 0.005)
    assert posterior.mean == pytest.approx(3.25) and posterior.sd == pytest.approx(0.005 / sqrt(2))


def test_without_runs_the_prior_stands() -> None:
    assert update(Normal(3.0, 0.1), [], 0.005) == Normal(3.0, 0.1)


@given(parent=metrics, parent_sd=st.floats(0.001, 0.1), values=st.lists(metrics, min_size=1, max_size=6))
def test_agrees_with_the_dense_solution(parent: float, parent_sd: float, values: list[float]) -> None:
    """The joint normal of (mu_parent, d), conditioned on the runs by linear algebra."""
    prior_mean = np.array([parent, 0.0])
    prior_cov = np.diag([parent_sd**2, NOISE.effect_sd**2])
    design = np.ones((len(values), 2))
    noise_cov = NOISE.noise_sd**2 * np.eye(len(values))
    gain = prior_cov @ design.T @ np.linalg.inv(design @ prior_cov @ design.T + noise_cov)
    mean = prior_mean + gain @ (np.array(values) - design @ prior_mean)
    cov = prior_cov - gain @ design @ prior_cov
    metric = commit_posterior(Normal(parent, parent_sd), 1, values, NOISE)
    effect = effect_posterior(Normal(parent, parent_sd), 1, values, NOISE)
    ones = np.ones(2)
    assert metric.mean == pytest.approx(float(ones @ mean), abs=1e-9)
    assert metric.sd == pytest.approx(float(np.sqrt(ones @ cov @ ones)), rel=1e-6)
    assert effect.mean == pytest.approx(float(mean[1]), abs=1e-9)
    assert effect.sd == pytest.approx(float(np.sqrt(cov[1, 1])), rel=1e-6)


@given(values=st.lists(metrics, min_size=1, max_size=6), more=metrics)
def test_another_run_always_sharpens(values: list[float], more: float) -> None:
    before = commit_posterior(Normal(3.0, 0.01), 1, values, NOISE)
    assert commit_posterior(Normal(3.0, 0.01), 1, [*values, more], NOISE).sd < before.sd < inf


@pytest.mark.parametrize(
    ("mean", "sd", "sign", "verdict"),
    [
        (-0.02, 0.005, 1.0, Verdict.IMPROVED),
        (-0.02, 0.005, -1.0, Verdict.WORSE),
        (+0.02, 0.005, 1.0, Verdict.WORSE),
        (+0.02, 0.005, -1.0, Verdict.IMPROVED),
        (-0.005, 0.006, 1.0, Verdict.UNRESOLVED),
        (0.0, 0.0005, 1.0, Verdict.NO_CHANGE),
    ],
)
def test_verdicts(mean: float, sd: float, sign: float, verdict: Verdict) -> None:
    assert judge(Normal(mean, sd), sign, min_effect=0.002) is verdict
