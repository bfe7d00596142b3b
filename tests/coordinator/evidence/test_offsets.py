"""Offsets and noise from commits that several workers measured."""

from math import sqrt
from random import Random
from statistics import fmean

import numpy as np
import pytest

from coordinator.evidence.offsets import SharedRun, estimate, estimate_newcomer, select_shared
from coordinator.evidence.statistics import Normal

NOISE_SD, OFFSET_SD = 0.0007, 0.01


def draw_runs(seed: int, workers: int = 6, commits: int = 9) -> tuple[list[SharedRun], list[float]]:
    draw = Random(seed)
    offsets = [draw.gauss(0, OFFSET_SD) for _ in range(workers)]
    levels = [1 + draw.gauss(0, 0.01) for _ in range(commits)]
    runs = [SharedRun("root", worker, 1 + offsets[worker] + draw.gauss(0, NOISE_SD)) for worker in range(workers)]
    for commit in range(commits):
        for worker in draw.sample(range(workers), draw.randint(1, 4)):
            value = levels[commit] + offsets[worker] + draw.gauss(0, NOISE_SD)
            runs.append(SharedRun(str(commit), worker, value))
    return runs, offsets


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_hendersons_equations(seed: int) -> None:
    """The mixed-model equations, solved densely, at the noise that was pooled."""
    runs, _ = draw_runs(seed)
    found = estimate(runs, NOISE_SD, OFFSET_SD)
    commits = sorted({run.commit for run in runs})
    workers = sorted({run.worker_id for run in runs})
    design = np.zeros((len(runs), len(commits) + len(workers)))
    for row, run in enumerate(runs):
        design[row, commits.index(run.commit)] = 1
        design[row, len(commits) + workers.index(run.worker_id)] = 1
    penalty = np.diag([0.0] * len(commits) + [found.noise_sd**2 / OFFSET_SD**2] * len(workers))
    values = np.array([run.value for run in runs])
    solution = np.linalg.solve(design.T @ design + penalty, design.T @ values)[len(commits) :]
    assert [found.offsets[worker].mean for worker in workers] == pytest.approx(list(solution), abs=1e-9)


def test_true_offsets_are_found() -> None:
    """Differences between workers, within four sd of each."""
    runs, true = draw_runs(1, workers=8, commits=60)
    found = estimate(runs, NOISE_SD, OFFSET_SD).offsets
    for worker in range(1, 8):
        error = (found[worker].mean - found[0].mean) - (true[worker] - true[0])
        assert abs(error) < 4 * sqrt(found[worker].sd ** 2 + found[0].sd ** 2)
        assert found[worker].sd < 0.5 * NOISE_SD


def test_noise_starts_at_the_contracts_and_follows_the_runs() -> None:
    draw = Random(3)
    runs = [SharedRun(str(commit), 1, 1 + draw.gauss(0, 0.0013)) for commit in range(300) for _ in range(2)]
    found = estimate(runs, NOISE_SD, OFFSET_SD)
    assert found.noise_sd == pytest.approx(0.0013, rel=0.1) and found.disputed_noise_sd is None
    assert estimate([], NOISE_SD, OFFSET_SD) == (NOISE_SD, {}, None)


def draw_swarm(seed: int, volunteers: int, liars: int, commits: int, workers_each: int = 1) -> list[SharedRun]:
    """Each commit has its author and three checkers; liars add up to 0.02 in two of three runs, seed aside."""
    draw = Random(seed)
    offsets = [draw.gauss(0, 0.003) for _ in range(volunteers * workers_each)]
    runs = [SharedRun("seed", w, o + draw.gauss(0, 0.0005), of_volunteer=w % volunteers) for w, o in enumerate(offsets)]
    for commit in range(commits):
        level = draw.gauss(0, 0.002)
        for place, worker in enumerate(draw.sample(range(len(offsets)), min(4, volunteers))):
            value = level + offsets[worker] + draw.gauss(0, 0.0005)
            if worker % volunteers < liars and draw.random() < 2 / 3:
                value -= 0.02 * draw.random()
            runs.append(SharedRun(str(commit), worker, value, place == 0, of_volunteer=worker % volunteers))
    return runs


@pytest.mark.parametrize(
    ("volunteers", "liars", "most"),
    [(7, 1, 1.4), (8, 2, 1.6), (10, 3, 1.8), (40, 10, 1.6), (8, 4, 3.0), (3, 1, 3.0)],
)
@pytest.mark.parametrize("commits", [10, 60])
def test_liars_do_not_make_noise(volunteers: int, liars: int, most: float, commits: int) -> None:
    """Of a minority the noise hardly depends; at half it is bounded, and a maintainer is asked."""
    found = [estimate(draw_swarm(seed, volunteers, liars, commits), 0.0005, 0.003) for seed in range(20)]
    assert 0.0004 < fmean(one.noise_sd for one in found) <= most * 0.0005 + 1e-12
    if liars * 2 >= volunteers and commits > 10:
        assert sum(one.disputed_noise_sd is not None for one in found) > 10


@pytest.mark.parametrize("commits", [3, 10, 60])
def test_the_noise_of_a_young_swarm_is_not_too_large(commits: int) -> None:
    for prior in (0.0004, 0.0005, 0.0006):
        found = [estimate(draw_swarm(seed, 8, 0, commits), prior, 0.003) for seed in range(30)]
        assert fmean(one.noise_sd for one in found) == pytest.approx(0.0005, rel=0.25)
        assert not any(one.disputed_noise_sd for one in found), "honest volunteers raise no flag"


def test_many_workers_of_one_volunteer_have_one_vote() -> None:
    honest = draw_swarm(1, 6, 0, 40)
    crowd = [SharedRun(str(n), 100 + w, 0.02 * w, of_volunteer=0) for n in range(40) for w in range(20)]
    seed = [SharedRun("seed", 100 + w, 0.0, of_volunteer=0) for w in range(20)]
    assert estimate([*honest, *seed, *crowd], 0.0005, 0.003).noise_sd < 0.0009
    moved = [SharedRun("seed", 100 + w, 0.01, of_volunteer=99) for w in range(20)]
    few, many = (estimate([*honest, *some], 0.0005, 0.003).offsets for some in (moved[:1], moved))
    differences = [[some[w].mean - some[0].mean for w in range(6)] for some in (few, many)]
    assert differences[0] == pytest.approx(differences[1], abs=3e-4)


def test_a_commit_of_one_worker_says_nothing_of_offsets() -> None:
    alone = [SharedRun("a", 1, 1.0), SharedRun("a", 1, 1.1), SharedRun("b", 2, 5.0)]
    assert select_shared(alone) == [] and estimate(alone, NOISE_SD, OFFSET_SD).offsets == {}


def test_a_newcomer_is_placed_by_what_others_measured() -> None:
    offset = estimate_newcomer([1.02], Normal(1.0, 0.0003), NOISE_SD, OFFSET_SD)
    assert offset.mean == pytest.approx(0.02, rel=0.01)
    assert offset.sd == pytest.approx(sqrt(NOISE_SD**2 + 0.0003**2), rel=0.01)


def test_many_workers_on_a_long_chain_of_commits_are_placed_exactly() -> None:
    """Each commit joins two neighbours only, the hardest layout for an iteration: differences are known exactly."""
    offsets = [0.001 * (number % 7) for number in range(200)]
    runs = [SharedRun(str(n), worker, 1 + offsets[worker]) for n in range(199) for worker in (n, n + 1)]
    found = estimate(runs, 1e-6, OFFSET_SD).offsets
    middle = sum(offsets) / len(offsets)
    assert [found[n].mean for n in range(200)] == pytest.approx([offset - middle for offset in offsets], abs=1e-6)


def test_runs_for_which_commits_were_picked_are_left_out_once_two_others_measured_them() -> None:
    runs = [SharedRun(commit, worker, 1.0) for commit in ("a", "b", "seed") for worker in (1, 2, 3)]
    made = [run._replace(is_authors=True) if (run.commit, run.worker_id) == ("a", 1) else run for run in runs]
    assert select_shared(made) == [run for run in runs if (run.commit, run.worker_id) != ("a", 1)]
    two = [SharedRun("a", 1, 1.0, is_authors=True), SharedRun("a", 2, 1.0)]
    assert select_shared(two) == two, "else two volunteers who check each other would learn nothing from it"


def test_results_that_are_made_up_do_not_make_noise() -> None:
    draw = Random(2)
    honest = [SharedRun(str(n), worker, draw.gauss(1, NOISE_SD)) for n in range(100) for worker in (1, 2)]
    lies = [SharedRun(str(n), 3, 1 - 0.004, is_authors=True) for n in range(100)]
    found = estimate([*honest, *lies], NOISE_SD, OFFSET_SD)
    assert found.noise_sd == pytest.approx(NOISE_SD, rel=0.15)
    assert abs(found.offsets[1].mean - found.offsets[2].mean) < 4 * NOISE_SD / 10
