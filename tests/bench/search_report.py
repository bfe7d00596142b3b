"""Summarizes trials: a table, the goals and whether they are reached, and a figure."""

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import mean, stdev
from typing import NamedTuple

from tests.bench.landscape import START
from tests.bench.search_trial import Trial

STUDENT_T = {2: 12.7, 3: 4.3, 4: 3.2, 5: 2.8, 6: 2.6, 8: 2.4, 10: 2.3, 20: 2.1}
"""The 97.5 % quantile of Student's t for a mean of so many, rounded; between them the larger one counts."""

HEADINGS = (
    "workers", "seeds", "times faster than one thread", "strict", "independent", "gain / keep-if-lower's",
    "measurements aside", "record too good by, × 10⁻⁴", "keep-if-lower's", "false / verified",
    "records on made-up results", "records by fabricators",
    "wasted %", "measuring %",
)  # fmt: skip


class Estimate(NamedTuple):
    """A mean with half of its 95 % interval, not a number where one trial alone is known."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.2f}" + (f" ± {self.half:.2f}" if self.half == self.half else "")


class Goal(NamedTuple):
    """A goal and its result. `is_least` says that more is better."""

    text: str
    asked: float
    found: Estimate | None
    is_least: bool = True

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.text}: not measured"
        is_reached = self.found.mean >= self.asked if self.is_least else self.found.mean <= self.asked
        bound = "at least" if self.is_least else "at most"
        found = f"{self.found.mean:.4g}" + (f" ± {self.found.half:.2g}" if self.found.half == self.found.half else "")
        return f"{self.text}: {found}, asked {bound} {self.asked:g}: {'reached' if is_reached else 'NOT reached'}"


def average(values: Sequence[float], scale: float = 1.0) -> Estimate | None:
    """The mean over seeds, which are independent."""
    if not values:
        return None
    half = float("nan")
    if len(values) > 1:
        known = max(count for count in STUDENT_T if count <= len(values))
        half = STUDENT_T[known] * stdev(values) / sqrt(len(values))
    return Estimate(scale * mean(values), abs(scale) * half)


def compare_times(trials: Sequence[Trial], time: Callable[[Trial], float]) -> Estimate | None:
    """How many times faster than one thread: the ratio of mean times, its interval by the jackknife.

    Ratios of single landscapes are not averaged: a lucky short time would count more than an unlucky long one.
    """

    def ratio(some: Sequence[Trial]) -> float:
        return mean(trial.one_thread for trial in some) / mean(time(trial) for trial in some)

    if not trials:
        return None
    if len(trials) == 1:
        return Estimate(ratio(trials), float("nan"))
    whole = ratio(trials)
    parts = [ratio([*trials[:left], *trials[left + 1 :]]) for left in range(len(trials))]
    known = max(count for count in STUDENT_T if count <= len(trials))
    spread = sum((part - mean(parts)) ** 2 for part in parts) * (len(trials) - 1) / len(trials)
    return Estimate(whole, STUDENT_T[known] * sqrt(spread))


def describe(workers: int, trials: Sequence[Trial]) -> tuple[str, ...]:
    """A row of the table."""
    verified = sum(trial.verified for trial in trials)
    cells = [
        compare_times(trials, lambda trial: trial.swarm_time) if workers > 1 else None,
        compare_times(trials, lambda trial: trial.strict),
        compare_times(trials, lambda trial: trial.independent),
        _gain(trials),
        _search_gain(trials),
        _record_error(trials),
        average([trial.keep_if_lower_error for trial in trials], -1e4),
        f"{sum(trial.false for trial in trials)} / {verified}",
        str(sum(trial.fabricated_records for trial in trials)),
        str(sum(trial.records_by_fabricators for trial in trials)),
        average([trial.wasted / trial.runs for trial in trials], 100),
        average([trial.measurements / trial.runs for trial in trials], 100),
    ]
    return (str(workers), str(len(trials)), *("–" if cell is None else str(cell) for cell in cells))


def list_goals(trials: Sequence[Trial]) -> list[Goal]:
    """The goals, set before anything was tuned, with their results."""
    by_size = {size: [trial for trial in trials if trial.workers == size] for size in (1, 16, 64, 256)}
    goals = [
        Goal("1 worker, gain after as many runs / keep-if-lower's", 0.95, _gain(by_size[1])),
        Goal("1 worker, the same with measurements not counted", 1.0, _search_gain(by_size[1])),
    ]
    for size, asked in ((16, 12.0), (64, 25.0), (256, 45.0)):
        found = compare_times(by_size[size], lambda trial: trial.swarm_time)
        goals.append(Goal(f"{size} workers, times faster to the target", asked, found))
    faster = compare_times(by_size[64], lambda trial: trial.swarm_time)
    alone = compare_times(by_size[64], lambda trial: trial.independent)
    beside = Estimate(faster.mean / alone.mean, float("nan")) if faster and alone else None
    false, verified = sum(trial.false for trial in trials), sum(trial.verified for trial in trials)
    share = Estimate(100 * false / verified, float("nan")) if verified else None
    fabricated = sum(trial.fabricated_records for trial in trials)
    measuring = average([trial.measurements / trial.runs for trial in trials], 100)
    return [
        *goals,
        Goal("64 workers, times faster than independent threads", 2.0, beside),
        Goal("record too good by, in 10^-4", 2.0, _record_error(trials), is_least=False),
        Goal(f"false among {verified} verified claims, %", 1.0, share, is_least=False),
        Goal("records that rest on fabricated results", 0.0, Estimate(fabricated, float("nan")), is_least=False),
        Goal("wasted runs, %", 3.0, average([t.wasted / t.runs for t in trials], 100), is_least=False),
        Goal("replications and controls, % of all runs", 25.0, measuring, is_least=False),
    ]


def _gain(trials: Sequence[Trial]) -> Estimate | None:
    return average([trial.gain / (START - trial.target) for trial in trials if trial.gain is not None])


def _search_gain(trials: Sequence[Trial]) -> Estimate | None:
    return average([trial.search_gain / (START - trial.target) for trial in trials if trial.search_gain is not None])


def _record_error(trials: Sequence[Trial]) -> Estimate | None:
    """How much too good records are, in 10⁻⁴: the mean of each trial's records, then over trials."""
    return average([mean(trial.record_errors) for trial in trials if trial.record_errors], -1e4)
