"""The swarm's rivals: three ways to search the same landscapes, simulated without a coordinator.

Each gives the true value of what it would build upon, by the time that passed (one run lasts 1 on average), and what
it reports of its best. They have it easier than the swarm: all their machines measure alike, nobody lies, nothing is
proposed twice on purpose, and there is one class of hardware.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from tests.bench.landscape import CRASH_SHARE, NOISE_SD, Landscape, Levels, propose


class Progress(NamedTuple):
    """The state of a search after some runs: its time, the true value of its best, and the value it reports."""

    time: float
    runs: int
    true: float
    reported: float


def measure(landscape: Landscape, levels: Levels, draw: Random) -> float | None:
    """One run on a machine that is the reference; None if it crashed."""
    return None if draw.random() < CRASH_SHARE else landscape.value(levels) + draw.gauss(0, NOISE_SD)


def keep_if_lower(landscape: Landscape, draw: Random) -> Iterator[Progress]:
    """One thread that keeps what measured lower than what it has."""
    at = landscape.start
    reported = landscape.value(at) + draw.gauss(0, NOISE_SD)
    runs = 1
    while True:
        tried = propose(at, draw)
        measured = measure(landscape, tried, draw)
        if measured is not None and measured < reported:
            at, reported = tried, measured
        runs += 1
        yield Progress(runs, runs, landscape.value(at), reported)


def independent_threads(landscape: Landscape, workers: int, draw: Random) -> Iterator[Progress]:
    """Threads of keep-if-lower that share nothing; the best one reports the largest gain."""
    threads = [keep_if_lower(landscape, Random(draw.random())) for _ in range(workers)]
    while True:
        steps = [next(thread) for thread in threads]
        best = min(steps, key=lambda step: step.reported)
        yield Progress(best.time, best.runs * workers, best.true, best.reported)


def strict_replication(landscape: Landscape, workers: int, draw: Random) -> Iterator[Progress]:
    """Workers that share one best commit, and build upon another only once its mean of three runs is lower.

    Each round every worker makes a run: first those that replicate what measured lower, then new ideas.
    """
    at, mean, time, runs = landscape.start, landscape.value(landscape.start) + draw.gauss(0, NOISE_SD), 0.0, 0
    waiting: list[tuple[Levels, list[float]]] = []
    while True:
        for _ in range(workers):
            if waiting:
                levels, values = waiting[0]
                value = measure(landscape, levels, draw)
                if value is not None:
                    values.append(value)
                if len(values) == 3:
                    waiting.pop(0)
                    if sum(values) / 3 < mean:
                        at, mean = levels, sum(values) / 3
            else:
                levels = propose(at, draw)
                value = measure(landscape, levels, draw)
                if value is not None and value < mean:
                    waiting.append((levels, [value]))
            runs += 1
        time += 1
        yield Progress(time, runs, landscape.value(at), mean)
