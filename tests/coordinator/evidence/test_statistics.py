"""Posteriors, verdicts and milestones: agreement with a dense solution of the same model, and what must always hold."""

from dataclasses import dataclass
from math import inf, sqrt
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.evidence.statistics import (
    EXACT,
    Belief,
    EffectPrior,
    Measurement,
    Normal,
    begin,
    count_checkers,
    extend,
    is_proven,
    judge,
    pool,
)
from shared.experiments import Verdict

NOISE_SD, EFFECT_SD, OFFSET_SD = 0.0007, 0.002, 0.0005
PRIOR = EffectPrior(0.0, EFFECT_SD)
metrics = st.floats(0.9, 1.1)


@dataclass
class Node:
    """A commit of a random tree; `anchor` is the ancestor that its milestone counts from."""

    parent: int | None
    anchor: int
    runs: list[Measurement]


def draw_tree(seed: int) -> list[Node]:
    """Commits with up to four runs by up to five workers; some have none, some are anchors of those below."""
    draw = Random(seed)
    offsets = [EXACT, *(Normal(draw.gauss(0, 0.01), draw.uniform(0, OFFSET_SD)) for _ in range(4))]
    verified = [draw.random() < 0.3 for _ in range(12)]
    nodes: list[Node] = []
    for number in range(12):
        parent = draw.randrange(number) if number else None
        workers = [draw.randrange(5) for _ in range(draw.randrange(5) if number else 2)]
        runs = [Measurement(1 + draw.gauss(0, 0.004) + offsets[w].mean, w, w, False, offsets[w]) for w in workers]
        anchor = number
        if parent is not None:
            anchor = parent if verified[parent] and nodes[parent].runs else nodes[parent].anchor
        nodes.append(Node(parent, anchor, runs))
    return nodes


def list_path(nodes: list[Node], number: int) -> list[int]:
    path = [number]
    while (parent := nodes[path[-1]].parent) is not None:
        path.append(parent)
    return path


def filter_tree(nodes: list[Node]) -> dict[int, Belief]:
    """Each measured commit from its nearest measured ancestor, as the coordinator does it."""
    beliefs: dict[int, Belief] = {}
    for number, node in enumerate(nodes):
        if not node.runs:
            continue
        measured = pool(node.runs, NOISE_SD)
        above = next((at for at in list_path(nodes, number)[1:] if at in beliefs), None)
        if above is None:
            beliefs[number] = begin(measured)
            continue
        belief = beliefs[above].as_anchor() if node.anchor == above else beliefs[above]
        steps = list_path(nodes, number).index(above)
        beliefs[number] = extend(belief, steps, measured, PRIOR)
    return beliefs


def solve_densely(nodes: list[Node], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of all commits' metrics, given the runs on the path to one, by linear algebra.

    The unknowns are the root's metric, each commit's effect, and each worker's remaining error for each commit.
    """
    path = sorted(set(list_path(nodes, number)))
    errors = sorted({(at, run.worker_id) for at in path for run in nodes[at].runs if run.offset.sd})
    to_metric = np.zeros((len(nodes), len(nodes) + len(errors)))
    for at in range(len(nodes)):
        to_metric[at, list_path(nodes, at)] = 1
    precision = np.diag([0.0] + [EFFECT_SD**-2] * (len(nodes) - 1) + [0.0] * len(errors))  # the root's prior is flat
    shift, information = np.zeros(len(precision)), np.zeros_like(precision)
    for at in path:
        for run in nodes[at].runs:
            row = to_metric[at].copy()
            if run.offset.sd:
                column = len(nodes) + errors.index((at, run.worker_id))
                row[column] = 1
                precision[column, column] = run.offset.sd**-2
            shift += row * (run.value - run.offset.mean - 1) / NOISE_SD**2
            information += np.outer(row, row) / NOISE_SD**2
    covariance = np.linalg.inv(precision + information)
    return 1 + to_metric @ covariance @ shift, to_metric @ covariance @ to_metric.T


@pytest.mark.parametrize("seed", range(25))
def test_agrees_with_the_dense_solution_on_random_trees(seed: int) -> None:
    nodes = draw_tree(seed)
    beliefs = filter_tree(nodes)
    assert len(beliefs) > 3
    for number, belief in beliefs.items():
        mean, covariance = solve_densely(nodes, number)
        anchor = nodes[number].anchor
        assert belief.mean == pytest.approx(mean[number], abs=1e-9)
        assert belief.metric.sd == pytest.approx(sqrt(covariance[number, number]), abs=1e-9)
        if anchor != number:
            spread = covariance[number, number] + covariance[anchor, anchor] - 2 * covariance[number, anchor]
            assert belief.difference.mean == pytest.approx(mean[number] - mean[anchor], abs=1e-9)
            assert belief.difference.sd == pytest.approx(sqrt(max(0.0, spread)), abs=1e-9)


def make_runs(*values: float, worker: int = 1, offset: Normal = EXACT) -> list[Measurement]:
    return [Measurement(value, worker, worker, False, offset) for value in values]


def test_pooled_runs_are_their_mean() -> None:
    pooled = pool(make_runs(0.98, 0.99), NOISE_SD)
    assert pooled.mean == pytest.approx(0.985) and pooled.sd == pytest.approx(NOISE_SD / sqrt(2))
    assert pool([], NOISE_SD).sd == inf


def test_a_workers_runs_are_no_surer_than_its_offset() -> None:
    pooled = pool(make_runs(*[0.98] * 10_000, offset=Normal(0.01, OFFSET_SD)), NOISE_SD)
    assert pooled.mean == pytest.approx(0.97) and pooled.sd == pytest.approx(OFFSET_SD, rel=1e-3)


@given(values=st.lists(metrics, min_size=1, max_size=6), more=metrics)
def test_another_run_always_sharpens(values: list[float], more: float) -> None:
    above = begin(pool(make_runs(1.0, 1.0), NOISE_SD))
    before = extend(above, 1, pool(make_runs(*values), NOISE_SD), PRIOR)
    after = extend(above, 1, pool(make_runs(*values, more), NOISE_SD), PRIOR)
    assert after.variance < before.variance
    assert after.difference.sd < before.difference.sd


@given(value=metrics, steps=st.integers(1, 5))
def test_a_posterior_lies_between_prior_and_runs(value: float, steps: int) -> None:
    after = extend(begin(Normal(1.0, 0.0003)), steps, Normal(value, NOISE_SD), PRIOR)
    assert min(1.0, value) - 1e-12 <= after.mean <= max(1.0, value) + 1e-12


def test_children_share_the_error_of_their_parent() -> None:
    """Two children of a parent that is known badly: each effect is uncertain, the children's difference is not."""
    parent = begin(Normal(1.0, 0.002))
    child = extend(parent, 1, Normal(0.995, 0.0001), PRIOR)
    assert child.metric.sd < 0.00011 and child.difference.sd > 0.001


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


def test_a_milestone_is_claimed_from_three_sd_beyond_the_smallest_effect() -> None:
    assert is_proven(Normal(-0.0033, 0.001), 1.0, 0.0002)
    assert not is_proven(Normal(-0.0032, 0.001), 1.0, 0.0002)
    assert is_proven(Normal(+0.0033, 0.001), -1.0, 0.0002)


def test_authors_do_not_check_themselves() -> None:
    author = Measurement(1.0, 1, 1, True, EXACT)
    same_again, other = Measurement(1.0, 2, 1, False, EXACT), Measurement(1.0, 3, 2, False, EXACT)
    assert count_checkers([author, same_again]) == 0
    assert count_checkers([author, same_again, other, other]) == 1
