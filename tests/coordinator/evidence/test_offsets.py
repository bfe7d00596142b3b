"""Offsets and noise from commits that several workers measured."""

from math import hypot, sqrt
from random import Random
from statistics import fmean, median

import numpy as np
import pytest

from coordinator.evidence.offsets import EpochEstimate, SharedRun, estimate, estimate_newcomer, select_shared
from coordinator.evidence.responses import MAX_GAIN, MAX_GAIN_SD, Layout, MachineSpread, fit
from coordinator.evidence.statistics import Normal, Response
from shared.records import Trust

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
    """The mixed-model equations of offsets, gains and the slope, solved densely."""
    runs, _ = draw_runs(seed)
    draw = Random(seed)
    commits, workers = list(dict.fromkeys(run.commit for run in runs)), sorted({run.worker_id for run in runs})
    above = np.array([draw.gauss(0, 0.02) for _ in commits])
    exposures = [draw.gauss(0, 0.1) for _ in runs]
    told = [(run.worker_id, run.commit, run.value, x) for run, x in zip(runs, exposures, strict=True)]
    layout = Layout.of(told, [1.0] * len(runs), {worker: worker for worker in workers})
    noise_sd, spread, slope_sd = 0.02, MachineSpread(0.01, 0.1), 0.05  # such noise that no run stands out
    found = fit(layout, above, noise_sd, spread, slope_sd)
    width = len(workers)
    design = np.zeros((len(runs), len(commits) + 2 * width + 1))
    for row, run in enumerate(runs):
        commit, worker = commits.index(run.commit), len(commits) + workers.index(run.worker_id)
        design[row, commit] = design[row, worker] = 1
        design[row, worker + width], design[row, -1] = above[commit], exposures[row]
    prior = [0.0] * len(commits) + [0.01**-2] * width + [0.1**-2] * width + [slope_sd**-2]
    values = np.array([run.value for run in runs])
    solution = np.linalg.solve(design.T @ design + noise_sd**2 * np.diag(prior), design.T @ values)[len(commits) :]
    assert [*found.offsets, *found.gains, found.slope] == pytest.approx(list(solution), abs=1e-9)


def map_offsets(found: EpochEstimate, at: float = 1.0) -> dict[int, Normal]:
    """Workers' offsets where they measure `at`."""
    return {worker: response.offset_at(at) for worker, response in found.responses.items()}


def test_true_offsets_are_found() -> None:
    """Differences between workers, within four sd of each."""
    runs, true = draw_runs(1, workers=8, commits=60)
    found = map_offsets(estimate(runs, NOISE_SD, OFFSET_SD))
    for worker in range(1, 8):
        error = (found[worker].mean - found[0].mean) - (true[worker] - true[0])
        assert abs(error) < 4 * sqrt(found[worker].sd ** 2 + found[0].sd ** 2)
        assert found[worker].sd < 0.6 * NOISE_SD


def test_noise_starts_at_the_contracts_and_follows_the_runs() -> None:
    draw = Random(3)
    runs = [SharedRun(str(commit), 1, 1 + draw.gauss(0, 0.0013)) for commit in range(300) for _ in range(2)]
    found = estimate(runs, NOISE_SD, OFFSET_SD)
    assert found.noise_sd == pytest.approx(0.0013, rel=0.1) and found.disputed_noise_sd is None
    assert estimate([], NOISE_SD, OFFSET_SD)[:3] == (NOISE_SD, {}, None)


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
    found = [estimate(draw_swarm(seed, volunteers, liars, commits), 0.0005, 0.003) for seed in range(10)]
    assert 0.0004 < fmean(one.noise_sd for one in found) <= most * 0.0005 + 1e-12
    if liars * 2 >= volunteers and commits > 10:
        assert sum(one.disputed_noise_sd is not None for one in found) > 5


@pytest.mark.parametrize("commits", [3, 10, 60])
def test_the_noise_of_a_young_swarm_is_not_too_large(commits: int) -> None:
    for prior in (0.0004, 0.0005, 0.0006):
        found = [estimate(draw_swarm(seed, 8, 0, commits), prior, 0.003) for seed in range(15)]
        assert fmean(one.noise_sd for one in found) == pytest.approx(0.0005, rel=0.25)
        assert not any(one.disputed_noise_sd for one in found), "honest volunteers raise no flag"


def test_many_workers_of_one_volunteer_have_one_vote() -> None:
    honest = draw_swarm(1, 6, 0, 40)
    crowd = [SharedRun(str(n), 100 + w, 0.02 * w, of_volunteer=0) for n in range(40) for w in range(20)]
    seed = [SharedRun("seed", 100 + w, 0.0, of_volunteer=0) for w in range(20)]
    assert estimate([*honest, *seed, *crowd], 0.0005, 0.003).noise_sd < 0.0009
    moved = [SharedRun("seed", 100 + w, 0.01, of_volunteer=99) for w in range(20)]
    few, many = (map_offsets(estimate([*honest, *some], 0.0005, 0.003), 0.0) for some in (moved[:1], moved))
    differences = [[some[w].mean - some[0].mean for w in range(6)] for some in (few, many)]
    assert differences[0] == pytest.approx(differences[1], abs=3e-4)


def test_a_commit_of_one_worker_says_nothing_of_offsets() -> None:
    alone = [SharedRun("a", 1, 1.0), SharedRun("a", 1, 1.1), SharedRun("b", 2, 5.0)]
    assert select_shared(alone) == [] and estimate(alone, NOISE_SD, OFFSET_SD).responses == {}


def test_a_newcomer_is_placed_by_what_others_measured() -> None:
    unknown = Response(Normal(0.0, OFFSET_SD))
    offset = estimate_newcomer([1.02], Normal(1.0, 0.0003), NOISE_SD, unknown).response.offset
    assert offset.mean == pytest.approx(0.02, rel=0.01)
    assert offset.sd == pytest.approx(sqrt(NOISE_SD**2 + 0.0003**2), rel=0.01)


@pytest.mark.parametrize("value", [0.9, 1.029, 1.04, 1.4, 97.0, 1e12])
def test_a_newcomer_takes_others_along_by_less_than_the_noise(value: float) -> None:
    placed = estimate_newcomer([value], Normal(1.0, 0.0003), NOISE_SD, Response(Normal(0.0, OFFSET_SD)))
    assert value - placed.response.offset.mean == pytest.approx(1.0, abs=0.4 * NOISE_SD)
    assert placed.is_plausible == (abs(value - 1) < 3 * OFFSET_SD)


def test_many_workers_on_a_long_chain_of_commits_are_placed_exactly() -> None:
    """Each commit joins two neighbours only, the hardest layout for an iteration: differences are known exactly."""
    offsets = [0.001 * (number % 7) for number in range(200)]
    runs = [SharedRun(str(n), worker, 1 + offsets[worker]) for n in range(199) for worker in (n, n + 1)]
    found = map_offsets(estimate(runs, 1e-6, OFFSET_SD))
    middle = median(offsets)
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
    offsets = map_offsets(found)
    assert abs(offsets[1].mean - offsets[2].mean) < 4 * NOISE_SD / 10


def draw_gaining(
    seed: int, gain_sd: float, liars: int = 0, exposed: bool = False
) -> tuple[list[SharedRun], list[float]]:
    """Twelve machines whose gains over the seed differ, on 40 commits that go down by 0.05 in all."""
    draw = Random(seed)
    gains = [draw.gauss(1, gain_sd) for _ in range(12)]
    runs = [SharedRun("seed", worker, 1 + draw.gauss(0, NOISE_SD)) for worker in range(12)]
    for commit in range(40):
        for place, worker in enumerate(draw.sample(range(12), 4)):
            value = 1 - gains[worker] * 0.00125 * commit + draw.gauss(0, NOISE_SD)
            exposure = draw.choice([-0.1, 0.1]) if exposed else 0.0
            if worker < liars and draw.random() < 2 / 3:
                value -= 0.02 * draw.random()
            value -= 0.08 * exposure
            runs.append(SharedRun(str(commit), worker, value, place == 0, exposure=exposure))
    return runs, gains


@pytest.mark.parametrize("seed", range(3))
def test_gains_of_machines_are_found(seed: int) -> None:
    """Up to a common factor, which nobody can know."""
    runs, gains = draw_gaining(seed, 0.15)
    found = estimate(runs, NOISE_SD, OFFSET_SD, "seed")
    assert found.noise_sd == pytest.approx(NOISE_SD, rel=0.25) and found.disputed_noise_sd is None
    assert found.gain_sd is not None and 0.05 < found.gain_sd < 0.3
    ratios = [(1 + found.responses[worker].gain.mean) / gains[worker] for worker in range(12)]
    assert ratios == pytest.approx([fmean(ratios)] * 12, rel=0.12)
    assert estimate(draw_gaining(seed, 0.0)[0], NOISE_SD, OFFSET_SD, "seed").gain_sd < found.gain_sd / 2  # type: ignore[operator]


def test_two_accounts_of_one_person_do_not_silence_a_small_class() -> None:
    """A run whose volunteer was doubted when it came, because an anchor had refuted it, has no part in noise."""
    swarms = [draw_swarm(seed, 4, 2, 20) for seed in range(10)]
    refuted = [
        [run._replace(trust=Trust.DOUBTED) if run.worker_id < 2 and run.commit != "seed" else run for run in runs]
        for runs in swarms
    ]
    before, now = (fmean(estimate(runs, 0.0005, 0.003).noise_sd for runs in some) for some in (swarms, refuted))
    assert before > 0.0012 and now == pytest.approx(0.0005, rel=0.2)


def test_a_minority_of_liars_decides_no_sd_of_gains() -> None:
    for liars, most in ((3, 0.2), (9, 1.0)):
        found = [estimate(draw_gaining(seed, 0.02, liars)[0], NOISE_SD, OFFSET_SD, "seed") for seed in range(4)]
        assert all(one.gain_sd is not None and one.gain_sd <= min(most, MAX_GAIN_SD) for one in found)
        assert all(abs(response.gain.mean) <= MAX_GAIN for one in found for response in one.responses.values())


def test_what_budgets_in_tokens_of_the_seed_explain_is_no_noise() -> None:
    """Runs of one worker with different paces: the slope is learnt, and taken out of each run."""
    runs, _ = draw_gaining(1, 0.0, exposed=True)
    found = estimate(runs, NOISE_SD, OFFSET_SD, "seed")
    assert found.slope == pytest.approx(-0.08, rel=0.1) and found.noise_sd < 1.3 * NOISE_SD
    assert estimate([run._replace(exposure=0.0) for run in runs], NOISE_SD, OFFSET_SD, "seed").noise_sd > 2 * NOISE_SD


def test_one_volunteers_slope_makes_no_gains() -> None:
    """It says that the seed is slow on its machine, and reports numbers that change with that as it likes: the slope is
    its alone. Between runs with an older reference and new ones the others' numbers then differ by a made-up amount."""
    runs = [SharedRun("seed", worker, 1.0, exposure=-0.2) for worker in range(5)]
    runs += [SharedRun("new", worker, 1.0) for worker in range(5)]
    runs += [SharedRun(commit, 9, 1.0 + 0.4 * 1.5, exposure=-1.5) for commit in ("seed", "new")]
    slope = estimate(runs, 0.0007, 0.007, "seed").slope
    assert slope < -0.3
    before, now = (Response(Normal(0, 0.0002)).offset_at(1.0, slope * exposure) for exposure in (-0.2, 0.0))
    assert abs(before.mean - now.mean) > 0.05 and now.sd == 0.0002
    assert abs(before.mean - now.mean) <= before.sd, "no claim is made of one sd"


def test_a_response_is_undone() -> None:
    response = Response(Normal(0.003, 0.001), Normal(0.2, 0.05), 1.0)
    for metric in (0.9, 1.0, 1.1):
        measured = metric + 0.003 + 0.2 * (metric - 1.0) + 0.01
        offset = response.offset_at(measured, 0.01)
        assert measured - offset.mean == pytest.approx(metric)
        assert offset.sd == pytest.approx(sqrt(0.001**2 + 0.01**2 + (0.05 * (metric - 1)) ** 2) / 1.2)
    assert Response(Normal(0.003, 0.001)).offset_at(1.3, 0.25) == Normal(0.253, hypot(0.001, 0.25))
