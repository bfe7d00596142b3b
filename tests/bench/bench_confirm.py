"""The published number of a record in a plateau, before and now; a confirmer who lies; and the ladder under probes.

python -m tests.bench.bench_confirm [--quick]            on the pure functions of the coordinator
python -m tests.bench.bench_confirm --coordinator 20     so many small swarms on the real one, 15 s each
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import count
from math import sqrt
from random import Random
from statistics import fmean, stdev
from typing import NamedTuple

from coordinator.evidence import statistics
from coordinator.evidence.confirmation import CONFIRMATIONS, ConfirmationRun, climb, summarize
from coordinator.evidence.posteriors import Ancestor, DerivedPosterior, conclude
from coordinator.evidence.statistics import Measurement, Model, Normal
from coordinator.selection.parents import Candidate
from coordinator.selection.policy import Decision, Snapshot, decide
from shared.contract import JobMix, parse_contract
from shared.experiments import Standing
from shared.records import Trust
from tests.bench.records_swarm import tabulate_published
from tests.bench.report import format_table

NOISE_SD, OFFSET_SD, MIN_EFFECT = 0.0007, 0.0002, 0.0005
VOLUNTEERS, JOBS, WORLDS, PROBES = 8, 400, 400, 5000
ANCHOR = 0
SEED_LEVEL, PLATEAU = 1.0, 0.996
QUICK_WORLDS = 60
CONTRACT = parse_contract(f"""
[project]
name = "plateau"
title = "All experiments are equally good"
version = 1
[objective]
metric = "val_bpb"
unit = "bits per byte"
min_effect = {MIN_EFFECT}
plausible_floor = 0.5
[budget]
training_seconds = 300
[files]
editable = ["train.py"]
[evidence]
noise_sd = {NOISE_SD}
effect_sd = 0.002
""")
MODEL = Model(NOISE_SD, CONTRACT.evidence.effect_sd)


class World:
    """A swarm whose experiments are all as good as the first: what differs between them is luck."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(f"plateau {seed}")
        self.unknown: dict[tuple[int, str], float] = {}
        runs = [self.measure("seed", SEED_LEVEL, worker) for worker in range(VOLUNTEERS)]
        self.root = statistics.begin(statistics.pool(runs, NOISE_SD))
        self.runs: dict[str, list[Measurement]] = {}
        self.known: dict[str, DerivedPosterior] = {}

    def measure(self, sha: str, level: float, worker: int, *, is_authors: bool = False) -> Measurement:
        """A run; what is not known of a worker's offset is one number for each commit."""
        unknown = self.unknown.setdefault((worker, sha), self.draw.gauss(0, OFFSET_SD))
        value = level + unknown + self.draw.gauss(0, NOISE_SD)
        return Measurement(
            value, worker, worker, is_authors, Normal(0, OFFSET_SD), Trust.ANCHOR if worker == ANCHOR else Trust.VOUCHED
        )

    def work(self) -> None:
        names = map(str, count())
        for job in range(JOBS):
            worker, turn = job % VOLUNTEERS, job // VOLUNTEERS + 3 * (job % VOLUNTEERS)
            decision = decide(self._look(worker, turn), self.draw)
            assert isinstance(decision, Decision)
            sha = next(names) if decision.kind.makes_experiment else decision.base_sha
            if sha in ("seed", "root"):
                continue
            is_new = sha not in self.runs
            self.runs.setdefault(sha, []).append(self.measure(sha, PLATEAU, worker, is_authors=is_new))
            self.known[sha] = conclude(CONTRACT, MODEL, Ancestor("root", self.root, 1, True, False), self.runs[sha])

    def _look(self, worker: int, turn: int) -> Snapshot:
        candidates = [Candidate("root", SEED_LEVEL, 0.0003, VOLUNTEERS, 0)]
        candidates += [
            Candidate(sha, known.metric.mean, known.metric.sd, known.runs, 0, known.standing is Standing.VERIFIED)
            for sha, known in self.known.items()
        ]
        counts = {sha: sum(run.worker_id == worker for run in runs) for sha, runs in self.runs.items()}
        own = {sha: count for sha, count in counts.items() if count}
        return Snapshot("root", 1, 0, turn, candidates, JobMix(), own=own, is_alone=False, is_anchor=worker == ANCHOR)

    def find_record(self) -> str | None:
        verified = [sha for sha, known in self.known.items() if known.standing is Standing.VERIFIED]
        return min(verified, key=lambda sha: self.known[sha].rank_score, default=None)

    def confirm(self, sha: str, lie: float | None = None) -> list[ConfirmationRun]:
        """Confirmation runs by others than the author, until enough agree; the first may be a lie."""
        others = [worker for worker in range(VOLUNTEERS) if worker != self.runs[sha][0].worker_id]
        self.draw.shuffle(others)
        others.sort(key=lambda worker: lie is not None and worker == ANCHOR)  # who lies is no anchor
        runs: list[ConfirmationRun] = []
        for worker in others:
            run = self.measure(sha, PLATEAU, worker)
            is_lie = lie is not None and not runs
            runs.append(ConfirmationRun(run._replace(value=PLATEAU + (lie or 0.0)) if is_lie else run))
            if len(runs) >= CONFIRMATIONS and summarize(runs, NOISE_SD, vouched_verify=True).metric is not None:
                break
        return runs


class Error(NamedTuple):
    """A published number minus the truth, and its sd as published."""

    error: float
    sd: float


def publish_all(worlds: int, lie: float | None = None) -> Iterator[tuple[Error, Error, Error]]:
    """For each world: what was published before, what is now, and the plain mean of the first four runs."""
    for seed in range(worlds):
        world = World(seed)
        world.work()
        sha = world.find_record()
        if sha is None:
            continue
        before, runs = world.known[sha].metric, world.confirm(sha, lie)
        now, plain = (
            summarize(runs, NOISE_SD, vouched_verify=True).metric,
            statistics.pool([run.measured for run in runs[:CONFIRMATIONS]], NOISE_SD),
        )
        if now is not None:
            yield tuple(Error(one.mean - PLATEAU, one.sd) for one in (before, now, plain))  # type: ignore[misc]


def describe(errors: Sequence[Error]) -> list[str]:
    mean = fmean(one.error for one in errors)
    error = stdev(one.error for one in errors) / sqrt(len(errors))
    covered = fmean(abs(one.error) <= one.sd for one in errors)
    return [f"{mean:+.1e} ± {error:.1e}", f"{covered:.0%}", str(len(errors))]


def probe(seed: int, rule: str, gain: float = 0.0) -> tuple[int, float]:
    """Probe sealed data PROBES times with commits whose sealed metric is better by `gain` each time. Returns how many
    numbers were let out, and by how much the best one is too good."""
    draw, se = Random(f"ladder {seed}"), NOISE_SD / sqrt(CONFIRMATIONS)
    last, released, truth, best_error = SEED_LEVEL, 0, SEED_LEVEL, 0.0
    for asked in range(1, PROBES + 1 if gain == 0 else 21):
        truth -= gain
        found = Normal(truth + draw.gauss(0, se), se)
        if rule == "none":
            answer: float | None = found.mean if found.mean < last else None
        else:
            answer = climb(found, last, 1.0, MIN_EFFECT, asked if rule == "ours" else 0).released
        if answer is not None:
            last, released, best_error = answer, released + 1, truth - answer
    return released, best_error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_WORLDS} worlds instead of {WORLDS}")
    parser.add_argument("--coordinator", type=int, metavar="SWARMS")
    given = parser.parse_args()
    if given.coordinator:
        print(tabulate_published(range(given.coordinator)))
        return
    worlds = QUICK_WORLDS if given.quick else WORLDS
    every = list(publish_all(worlds))
    rows = [[name, *describe([one[at] for one in every])] for at, name in enumerate(("before: posterior", "now"))]
    print(f"A plateau: {JOBS} jobs of {VOLUNTEERS} volunteers, noise {NOISE_SD}. Minimised, so below 0 is too good.\n")
    print(format_table(("published number of the record", "error ± its standard error", "in ± 1 sd", "worlds"), rows))
    rows = []
    for lie in (-0.0015, -0.003, -0.01, -0.1):
        lied = list(publish_all(worlds // 4, lie))
        rows.append([f"{lie:+}", *(describe([one[at] for one in lied])[0] for at in (2, 1))])
    print("\nOne of the confirmers lies by so much.\n")
    print(format_table(("lie", "error of the plain mean", "error now"), rows))
    rows = []
    for name, rule in (("each better number is shown", "none"), ("2 sd", "literal"), ("2 sd or sqrt(4 ln k)", "ours")):
        equal, better = [probe(seed, rule) for seed in range(20)], [probe(seed, rule, 0.003) for seed in range(20)]
        rows.append([name, f"{fmean(one for one, _ in equal):.2f}", f"{fmean(error for _, error in equal):.1e}",
                     f"{fmean(one for one, _ in better):.1f} of 20"])  # fmt: skip
    print(f"\nThe ladder: {PROBES:,} probes that are no better than the seed; 20 commits that gain 0.003 each.\n")
    print(format_table(("rule", "numbers let out", "too good by", "true gains let out"), rows))


if __name__ == "__main__":
    main()
