"""Machines that differ: offsets, and gains that are larger on some. The model before, the present one, and budgets
normalised by the seed's throughput, each on the same swarms.

python -m tests.bench.bench_machines
python -m tests.bench.bench_machines --liars 0 --seeds 30     enough swarms for the goals, which are of honest ones
python -m tests.bench.bench_machines --coordinator 20         small swarms on the real coordinator, 30 s each
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import log, sqrt
from random import Random
from statistics import fmean
from typing import NamedTuple

import numpy as np

from coordinator.evidence import agreement, offsets, statistics
from coordinator.evidence.agreement import TrustHistory
from coordinator.evidence.offsets import EpochEstimate, SharedRun, select_shared
from coordinator.evidence.statistics import Belief, EffectPrior, Measurement, Normal, Response
from coordinator.evidence.throughput import choose_pace, find_reference
from shared.records import Trust
from tests.bench.records_swarm import tabulate_machines
from tests.bench.report import format_table
from tests.bench.search_report import average

NOISE_SD, EFFECT_SD, OFFSET_SD, GAIN_SD, LIE = 0.0007, 0.002, 0.003, 0.15, 0.02
MEAN_EFFECT = -0.0006
PRIOR = EffectPrior(0.0, EFFECT_SD)
PRIOR_OFFSET_SD = 10 * NOISE_SD
RUNS_OF_A_COMMIT = 4
NEW_RUNS, NEW_SHARE = 16, 0.5
PROBE_ERROR = 0.02
LEAST_COVERED, MOST_COVERED = 60.0, 76.0
"""Percent of truths that 68 % intervals should hold."""

SEED_SLOPE = -0.08
"""Change of the seed's metric with the logarithm of the tokens that it saw: 3.9 % more steps gave 0.0031 less."""


class Commit(NamedTuple):
    name: str
    parent: str | None
    rise: float  # of its metric above the seed's, on an average machine


@dataclass
class Swarm:
    """The runs of a swarm in order, and what is true of its commits. Each volunteer has one worker."""

    volunteers: int
    liars: int
    mean_gain: float = 1.0
    commits: list[Commit] = field(default_factory=list)
    runs: list[SharedRun] = field(default_factory=list)


def draw_swarm(
    seed: int, volunteers: int, liars: int, commits: int, gain_sd: float, *, is_paced: bool = False
) -> Swarm:
    """Each commit has its author and three checkers. Liars add up to LIE in two of three runs, the seed's aside.

    A machine's gain is 1 + GAIN_SD z, by its speed: z is also what its throughput differs by, in the same proportion.
    With `is_paced` its budget is normalised by a probe that is wrong by PROBE_ERROR; what is left of z is the rest.
    """
    draw = Random(seed)
    speeds = [max(0.4, draw.gauss(1, gain_sd)) for _ in range(volunteers)]
    shifts = [draw.gauss(0, OFFSET_SD) for _ in range(volunteers)]
    probes = [speed * draw.gauss(1, PROBE_ERROR) for speed in speeds]
    reference = find_reference(enumerate(probes), None)
    paces = [choose_pace(reference, probe) if is_paced else 1.0 for probe in probes]
    assert reference is not None
    gains = [pace * speed / (reference if is_paced else 1.0) for pace, speed in zip(paces, speeds, strict=True)]
    exposures = [log(pace * probe / reference) if is_paced else 0.0 for pace, probe in zip(paces, probes, strict=True)]
    swarm = Swarm(volunteers, liars, fmean(gains[liars:]), [Commit("seed", None, 0.0)])

    def add(commit: Commit, worker: int, *, is_author: bool = False) -> None:
        value = 1 + shifts[worker] + gains[worker] * commit.rise + draw.gauss(0, NOISE_SD)
        if worker < liars and commit.parent is not None and draw.random() < 2 / 3:
            value -= LIE * draw.random()
        swarm.runs.append(SharedRun(commit.name, worker, value, is_author, len(swarm.runs), None, exposures[worker]))

    for worker in range(volunteers):
        add(swarm.commits[0], worker)
    best = swarm.commits[0]
    for number in range(commits):
        commit = Commit(str(number), best.name, best.rise + draw.gauss(MEAN_EFFECT, EFFECT_SD))
        swarm.commits.append(commit)
        for place, worker in enumerate(draw.sample(range(volunteers), RUNS_OF_A_COMMIT)):
            add(commit, worker, is_author=place == 0)
        best = min(best, commit, key=lambda one: one.rise)
    return swarm


class Model:
    """The present model: the functions that the coordinator calls."""

    name = "now"

    def estimate(self, runs: Sequence[SharedRun]) -> EpochEstimate:
        return offsets.estimate(runs, NOISE_SD, PRIOR_OFFSET_SD, "seed")

    def unknown(self, known: EpochEstimate) -> Response:
        if known.spread is None:
            return Response(Normal(0.0, PRIOR_OFFSET_SD))
        return Response(Normal(0.0, known.spread.offset_sd), Normal(0.0, known.spread.gain_sd), known.centre or 0.0)


class ModelBefore(Model):
    """The model before: offsets only, their sd the contract's, from Henderson's equations solved densely."""

    name = "before"

    def estimate(self, runs: Sequence[SharedRun]) -> EpochEstimate:
        shared = select_shared(runs)
        noise_sd = min(3 * NOISE_SD, offsets.pool_noise([run for run in runs if not run.is_authors], NOISE_SD))
        commits = {name: n for n, name in enumerate(sorted({run.commit for run in shared}))}
        workers = {worker: n for n, worker in enumerate(sorted({run.worker_id for run in shared}))}
        design = np.zeros((len(shared), len(commits) + len(workers)))
        for row, run in enumerate(shared):
            design[row, commits[run.commit]] = design[row, len(commits) + workers[run.worker_id]] = 1
        penalty = np.diag([0.0] * len(commits) + [noise_sd**2 / PRIOR_OFFSET_SD**2] * len(workers))
        values = np.array([run.value for run in shared])
        solution = np.linalg.solve(design.T @ design + penalty, design.T @ values)[len(commits) :]
        runs_of = design.sum(axis=0)[: len(commits)]
        told = design[:, len(commits) :].T @ (1 - 1 / (design[:, : len(commits)] @ runs_of)) / noise_sd**2
        sds = 1 / np.sqrt(told + 1 / PRIOR_OFFSET_SD**2)
        return EpochEstimate(
            noise_sd, {worker: Response(Normal(float(solution[n]), float(sds[n]))) for worker, n in workers.items()}
        )


class Outcome(NamedTuple):
    """The outcome of a model on a swarm: noise in units of the true one, which 68 % intervals of effects and of
    milestones hold the truth, and how many honest volunteers and liars are doubted in the end."""

    noise: float
    effects: list[bool]
    milestones: list[bool]
    doubted: int
    caught: int


def judge(swarm: Swarm, model: Model) -> Outcome:
    """Go through a swarm's runs as the coordinator does: epochs, trust as runs come, posteriors in the end."""
    known, began = EpochEstimate(NOISE_SD, {}), 0
    records = [TrustHistory() for _ in range(swarm.volunteers)]
    seen: dict[str, list[SharedRun]] = {}
    parents = {commit.name: commit.parent for commit in swarm.commits}
    for count, run in enumerate(swarm.runs, 1):
        seen.setdefault(run.commit, []).append(run)
        parent = parents[run.commit]
        if not run.is_authors and parent is not None:
            above = believe(parent, parents, seen, known, model)
            expected = Normal(above.mean, sqrt(above.variance + EFFECT_SD**2))
            said = agreement.compare(measure(seen[run.commit], known, model), known.noise_sd, expected)
            author = seen[run.commit][0].worker_id
            records[author] = records[author].after(said.author_agrees)
            records[run.worker_id] = records[run.worker_id].after(said.checker_agrees)
        if count - began >= max(NEW_RUNS, NEW_SHARE * began):
            known, began = model.estimate(swarm.runs[:count]), count
    known = model.estimate(swarm.runs)
    effects, milestones = [], []
    for commit in swarm.commits[1:]:
        assert commit.parent is not None
        belief = believe(commit.name, parents, seen, known, model)
        above = believe(commit.parent, parents, seen, known, model).as_anchor()
        beside = statistics.extend(above, 1, pool(commit.name, seen, known, model), PRIOR)
        rise = swarm.mean_gain * commit.rise
        effect = rise - swarm.mean_gain * next(one.rise for one in swarm.commits if one.name == commit.parent)
        effects.append(abs(beside.difference.mean - effect) <= beside.difference.sd)
        milestones.append(abs(belief.difference.mean - rise) <= belief.difference.sd)
    doubts = [record.trust() is Trust.DOUBTED for record in records]
    doubted, caught = sum(doubts[swarm.liars :]), sum(doubts[: swarm.liars])
    return Outcome(known.noise_sd / NOISE_SD, effects, milestones, doubted, caught)


def measure(runs: Sequence[SharedRun], known: EpochEstimate, model: Model) -> list[Measurement]:
    return [
        Measurement(
            run.value,
            run.worker_id,
            run.volunteer_id,
            run.is_authors,
            known.responses.get(run.worker_id, model.unknown(known)).offset_at(run.value, known.slope * run.exposure),
        )
        for run in runs
    ]


def pool(name: str, seen: Mapping[str, Sequence[SharedRun]], known: EpochEstimate, model: Model) -> Normal:
    return statistics.pool(agreement.select(measure(seen[name], known, model), known.noise_sd), known.noise_sd)


def believe(
    name: str, parents: Mapping[str, str | None], seen: Mapping[str, Sequence[SharedRun]], known: EpochEstimate,
    model: Model,
) -> Belief:  # fmt: skip
    """The posterior of a commit along its path, with the seed as its anchor."""
    path = [name]
    while (above := parents[path[-1]]) is not None:
        path.append(above)
    belief = statistics.begin(pool(path.pop(), seen, known, model))
    for commit in reversed(path):
        belief = statistics.extend(belief, 1, pool(commit, seen, known, model), PRIOR)
    return belief


WORLDS = (("alike", 0.0, False), ("gains N(1, 0.15)", GAIN_SD, False), ("gains N(1, 0.15), paced", GAIN_SD, True))
HEADINGS = (
    "machines", "volunteers", "liars", "commits", "model", "noise over true", "effects within 68 %",
    "milestones within 68 %", "honest doubted", "liars doubted",
)  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=6)
    options.add_argument("--liars", type=int, nargs="+", default=(0, 3))
    options.add_argument("--coordinator", type=int, metavar="SWARMS")
    given = options.parse_args()
    if given.coordinator:
        print(tabulate_machines(range(given.coordinator)))
        return
    rows, goals = [], []
    for (name, gain_sd, is_paced), liars, commits in product(WORLDS, given.liars, (20, 60)):
        for model in (ModelBefore(), Model()):
            swarms = [draw_swarm(seed, 12, liars, commits, gain_sd, is_paced=is_paced) for seed in range(given.seeds)]
            outcomes = [judge(swarm, model) for swarm in swarms]
            rows.append([name, "12", str(liars), str(commits), model.name, *describe(outcomes, liars)])
            if not liars:
                goals.append(f"- {name}, {commits} commits, {model.name}: {', '.join(list_goals(outcomes))}")
    print(format_table(HEADINGS, rows))
    print("\nWithout liars, by swarm (95 %):\n\n" + "\n".join(goals))


def list_goals(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Coverages with their intervals over swarms, whose truths are independent, beside what was asked."""
    for what, hits in (("effects", [o.effects for o in outcomes]), ("milestones", [o.milestones for o in outcomes])):
        found = average([fmean(of_swarm) for of_swarm in hits], 100)
        assert found is not None
        is_shown = found.low >= LEAST_COVERED and found.high <= MOST_COVERED
        is_missed = found.high < LEAST_COVERED or found.low > MOST_COVERED
        yield f"{what} {found} %, {'reached' if is_shown else 'MISSED' if is_missed else 'not shown'}"


def describe(outcomes: Sequence[Outcome], liars: int) -> list[str]:
    honest = (12 - liars) * len(outcomes)
    return [
        f"{fmean(one.noise for one in outcomes):.2f}",
        f"{fmean(hit for one in outcomes for hit in one.effects):.0%}",
        f"{fmean(hit for one in outcomes for hit in one.milestones):.0%}",
        f"{sum(one.doubted for one in outcomes)} of {honest}",
        f"{sum(one.caught for one in outcomes)} of {liars * len(outcomes)}",
    ]


if __name__ == "__main__":
    main()
