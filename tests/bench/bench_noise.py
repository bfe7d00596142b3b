"""Noise and priors of effects as the coordinator learns them now and as before, with liars and in young swarms.

python -m tests.bench.bench_noise

Noise is 0.0005 in truth, but for commits that scatter. No database: the functions that epochs call.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import sqrt
from random import Random
from statistics import fmean
from unittest.mock import patch

from coordinator.evidence import agreement, offsets
from coordinator.evidence.effects import MeasuredCommit, learn
from coordinator.evidence.offsets import PRIOR_RUNS, SharedRun, estimate
from coordinator.evidence.statistics import EXACT, Measurement
from shared.experiments import JobKind
from tests.bench.report import format_table

NOISE_SD, OFFSET_SD, EFFECT_SD, LIE = 0.0005, 0.003, 0.002, 0.02
SWARMS = ((7, 0), (7, 1), (8, 2), (10, 3), (8, 4))
COMMITS = (3, 10, 60)
SEEDS = 20
HEADINGS = ("volunteers", "liars", "commits", "noise before", "noise now", "asks a maintainer")

YOUNG = tuple((volunteers, commits, checkers) for volunteers in (3, 6, 12, 24) for commits in (6, 20)
              for checkers in (1, 2))  # fmt: skip
YOUNG_SEEDS = 60
YOUNG_HEADINGS = ("volunteers", "commits", "checkers of each", "noise before", "noise now", "too large before",
                  "too large now")  # fmt: skip

SCATTERS = (1, 2, 3)
SCATTER_HEADINGS = ("noise of the commit", "volunteers", "68 % intervals cover, before", "now")
SCATTER_SEEDS = 2_000

SESSIONS = ((0.0009, 0.0007, 0), (0.0, 0.002, 0), (0.0, 0.002, 1), (0.0, 0.002, 3), (0.0, 0.0007, 0))
SESSION_LENGTH = 126
SESSION_HEADINGS = ("true mean", "true sd", "liars of 10", "mean, raw", "sd, raw", "mean learnt", "sd learnt",
                    "share of wide ones")  # fmt: skip


def draw_runs(seed: int, volunteers: int, liars: int, commits: int, checkers: int = 3) -> list[SharedRun]:
    """Each commit has its author and checkers; in two of three runs liars add up to LIE, on the seed nothing."""
    draw = Random(seed)
    own = [draw.gauss(0, OFFSET_SD) for _ in range(volunteers)]
    runs = [SharedRun("seed", worker, offset + draw.gauss(0, NOISE_SD)) for worker, offset in enumerate(own)]
    for commit in range(commits):
        level = draw.gauss(0, EFFECT_SD)
        for place, worker in enumerate(draw.sample(range(volunteers), min(1 + checkers, volunteers))):
            lie = LIE * draw.random() if worker < liars and draw.random() < 2 / 3 else 0.0
            runs.append(SharedRun(str(commit), worker, level + own[worker] + draw.gauss(0, NOISE_SD) - lie, place == 0))
    return runs


def pool_as_before(runs: Sequence[SharedRun], means: Mapping[int, float], noise_sd: float) -> float:
    """The estimate before: all squares, less a degree of freedom for each commit and each offset.

    Offsets came from all shared runs, authors' among them, and squares from those of checkers only.
    """
    by_commit: dict[str, list[float]] = {}
    for run in runs:
        by_commit.setdefault(run.commit, []).append(run.value - means.get(run.worker_id, 0.0))
    squares, freedom = 0.0, -max(0, len(means.keys() & {run.worker_id for run in runs}) - 1)
    for values in by_commit.values():
        squares += sum((value - fmean(values)) ** 2 for value in values)
        freedom += len(values) - 1
    return sqrt((PRIOR_RUNS * noise_sd**2 + squares) / (PRIOR_RUNS + max(0, freedom)))


def estimate_as_before(runs: Sequence[SharedRun]) -> float:
    with patch.object(offsets, "pool_noise", lambda _, noise_sd, *_rest: noise_sd):
        means = {w: one.offset_at(0.0).mean for w, one in estimate(runs, NOISE_SD, OFFSET_SD).responses.items()}
    return pool_as_before([run for run in runs if not run.is_authors], means, NOISE_SD)


def list_with_liars() -> Iterator[list[str]]:
    for volunteers, liars in SWARMS:
        for commits in COMMITS:
            every = [draw_runs(seed, volunteers, liars, commits) for seed in range(SEEDS)]
            now = [estimate(runs, NOISE_SD, OFFSET_SD) for runs in every]
            before = fmean(map(estimate_as_before, every))
            asks = sum(one.disputed_noise_sd is not None for one in now)
            yield [str(volunteers), str(liars), str(commits), f"{before:.5f}",
                   f"{fmean(one.noise_sd for one in now):.5f}", f"{asks} of {SEEDS}"]  # fmt: skip


def measure_young(volunteers: int, commits: int, checkers: int) -> tuple[float, float]:
    """The noise of a young swarm as estimated before and now, on average."""
    every = [draw_runs(seed, volunteers, 0, commits, checkers) for seed in range(YOUNG_SEEDS)]
    now = fmean(estimate(runs, NOISE_SD, OFFSET_SD).noise_sd for runs in every)
    return fmean(map(estimate_as_before, every)), now


def list_young() -> Iterator[list[str]]:
    for swarm in YOUNG:
        noises = measure_young(*swarm)
        yield [*map(str, swarm), *(f"{noise:.5f}" for noise in noises),
               *(f"{noise / NOISE_SD - 1:+.0%}" for noise in noises)]  # fmt: skip


def measure_coverage(scatter: float, volunteers: int) -> float:
    """How often the 68 % interval of a commit's number holds the truth."""
    draw, hits = Random(1), 0
    for _ in range(SCATTER_SEEDS):
        runs = [Measurement(draw.gauss(0, scatter), who, who, who == 0, EXACT) for who in range(volunteers)]
        said = agreement.estimate(runs, 1.0)
        hits += abs(said.mean) <= said.sd
    return hits / SCATTER_SEEDS


def list_scattered() -> Iterator[list[str]]:
    for scatter in SCATTERS:
        for volunteers in (3, 4, 6):
            with patch.object(agreement, "measure_scatter", lambda *_: 1.0):
                before = measure_coverage(scatter, volunteers)
            yield [f"{scatter} times", str(volunteers), f"{before:.0%}", f"{measure_coverage(scatter, volunteers):.0%}"]


def draw_session(mean: float, sd: float, liars: int, seed: int) -> list[MeasuredCommit]:
    """Experiments by ten volunteers, each on the best so far as one run shows it. Liars always add LIE."""
    draw = Random(seed)
    roots = [Measurement(1 + draw.gauss(0, NOISE_SD), worker, worker, False, EXACT) for worker in range(4)]
    found, truth, best, said = [MeasuredCommit("seed", None, 1, roots)], {"seed": 1.0}, "seed", {"seed": 1.0}
    for number in range(SESSION_LENGTH):
        who, sha = number % 10, str(number)
        truth[sha] = truth[best] + draw.gauss(mean, sd)
        said[sha] = truth[sha] + draw.gauss(0, NOISE_SD) - (LIE if who < liars else 0.0)
        run = Measurement(said[sha], who, who, True, EXACT, kind=JobKind.IMPROVE)
        found.append(MeasuredCommit(sha, best, 1, [run]))
        if who >= liars and said[sha] < said[best]:
            best = sha
    return found


def list_sessions() -> Iterator[list[str]]:
    """Raw: the mean and sd of differences to the parent's own runs."""
    for mean, sd, liars in SESSIONS:
        sessions = [draw_session(mean, sd, liars, seed) for seed in range(SEEDS)]
        learnt = [learn(session, NOISE_SD, EFFECT_SD)[None] for session in sessions]
        raw = [list(_differ(session)) for session in sessions]
        raw_mean = fmean(map(fmean, raw))
        raw_sd = fmean(sqrt(fmean((one - fmean(some)) ** 2 for one in some)) for some in raw)
        yield [f"{mean:+.4f}", f"{sd:.4f}", str(liars), f"{raw_mean:+.5f}", f"{raw_sd:.5f}",
               f"{fmean(one.mean for one in learnt):+.5f}", f"{fmean(one.sd for one in learnt):.5f}",
               f"{fmean(one.tail_share for one in learnt):.0%}"]  # fmt: skip


def _differ(session: Sequence[MeasuredCommit]) -> Iterator[float]:
    values = {commit.sha: fmean(run.value for run in commit.runs) for commit in session}
    yield from (values[one.sha] - values[one.parent_sha] for one in session if one.parent_sha is not None)


TABLES: tuple[tuple[str, Sequence[str], Callable[[], Iterator[list[str]]]], ...] = (
    ("Noise with liars", HEADINGS, list_with_liars),
    ("Noise of young swarms", YOUNG_HEADINGS, list_young),
    ("Commits that scatter more than their class", SCATTER_HEADINGS, list_scattered),
    (f"Priors of effects, from sessions of {SESSION_LENGTH} experiments; the contract's sd is {EFFECT_SD}",
     SESSION_HEADINGS, list_sessions),
)  # fmt: skip


def main() -> None:
    for title, headings, list_rows in TABLES:
        print(f"{title}\n\n{format_table(headings, list(list_rows()))}\n", flush=True)


if __name__ == "__main__":
    main()
