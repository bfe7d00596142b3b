"""Summarizes trials: tables by world, who is ahead, the goals and whether they are reached.

A goal is compared with the bound of an interval, never with the mean. Intervals of means and ratios are two-sided 95 %;
bounds of shares are one-sided 95 % (Clopper and Pearson 1934), so that of no false claim among 299 is 1 %.
"""

from collections.abc import Iterator, Sequence
from math import exp, isnan, lgamma, log, log1p, nan, sqrt
from statistics import mean, median, stdev
from typing import NamedTuple

from shared.experiments import Standing
from tests.bench.landscape import START
from tests.bench.search_rivals import LINEAR, RIVALS
from tests.bench.search_swarm import IMPROVED, Fate
from tests.bench.search_trial import HORIZONS, RivalTrials, Trial
from tests.bench.worlds import MIXED, WORLDS

STUDENT_T = {2: 12.7, 3: 4.3, 4: 3.2, 5: 2.8, 6: 2.6, 8: 2.4, 10: 2.3, 20: 2.1}
"""The 97.5 % quantile of Student's t for a mean of so many, rounded; between them the larger one counts."""

CONFIDENCE = 0.95
SIZES = (16, 64, 256)
ASKED = dict(zip(SIZES, (14.0, 32.0, 55.0), strict=True))
"""How many times faster than one thread a fleet of each size is to be in the mixed world."""

EVEN, FLAT = "even", "nothing to find"
SPEEDS = ("world", "workers", "swarm", *RIVALS, "ahead of the swarm", "not told apart")
FATES = ("claim", "ever made", "false when made", "false, % (95 % interval)", "withdrawn by the end")
TIMES = ("world", "workers", "asked on average", "swarm", LINEAR)
ERRORS = ("world", "workers", "swarm's records", *RIVALS)
CLAIMS = (
    "world", "workers", "seeds", "gain / keep-if-lower's", "measurements aside", "record too good by, × 10⁻⁴",
    "keep-if-lower's", "false / verified at the end", "records on made-up results", "records by fabricators",
    "wasted %", "measuring %", "false / ever `improved`",
)  # fmt: skip


class Estimate(NamedTuple):
    """A mean with half of its 95 % interval, not a number where one trial alone is known."""

    mean: float
    half: float

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def __str__(self) -> str:
        return f"{self.mean:.4g}" if isnan(self.half) else f"{self.mean:.2f} ± {self.half:.2f}"


class Range(NamedTuple):
    """A number with the bounds of its interval, where these are not as far above it as below."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f}" + ("" if isnan(self.low) else f" ({self.low:.2f} to {self.high:.2f})")


class Goal(NamedTuple):
    """A goal and its result, as the bounds of its interval. `is_least` says that more is better."""

    text: str
    asked: float
    found: Estimate | Range | None
    is_least: bool = True

    @property
    def is_reached(self) -> bool:
        if self.found is None:
            return False
        return self.found.low >= self.asked if self.is_least else self.found.high <= self.asked

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.text}: not measured"
        bound = "at least" if self.is_least else "at most"
        is_single = isnan(self.found.low)
        verdict = "reached" if self.is_reached else "one trial shows nothing" if is_single else "NOT shown"
        return f"{self.text}: {self.found}, asked {bound} {self.asked:g}: {verdict}"


def bound_share(bad: int, known: int, confidence: float = CONFIDENCE) -> float:
    """The one-sided upper bound of a share of which `bad` of `known` were seen (Clopper and Pearson)."""
    if bad >= known:
        return 1.0
    low, high = bad / known, 1.0
    for _ in range(60):
        share = (low + high) / 2
        seen = sum(
            exp(_log_choose(known, count) + count * log(share) + (known - count) * log1p(-share))
            for count in range(bad + 1)
        )
        low, high = (share, high) if seen > 1 - confidence else (low, share)
    return high


def _log_choose(known: int, count: int) -> float:
    return lgamma(known + 1) - lgamma(count + 1) - lgamma(known - count + 1)


def bound_share_twice(bad: int, known: int) -> tuple[float, float]:
    """Both bounds of a share's 95 % interval (Clopper and Pearson)."""
    if not known:
        return 0.0, 1.0
    confidence = (1 + CONFIDENCE) / 2
    return 1 - bound_share(known - bad, known, confidence), bound_share(bad, known, confidence)


def average(values: Sequence[float], scale: float = 1.0) -> Estimate | None:
    """The mean over seeds, which are independent."""
    if not values:
        return None
    half = find_quantile(len(values)) * stdev(values) / sqrt(len(values)) if len(values) > 1 else nan
    return Estimate(scale * mean(values), abs(scale) * half)


def find_quantile(count: int) -> float:
    return STUDENT_T[max(known for known in STUDENT_T if known <= count)]


def compare(slow: Sequence[float], fast: Sequence[float]) -> Estimate | None:
    """How many times faster: the ratio of mean times on the same seeds, its interval by the jackknife.

    Ratios of single landscapes are not averaged: a lucky short time would count more than an unlucky long one.
    """
    if not slow:
        return None
    whole = mean(slow) / mean(fast)
    if len(slow) == 1:
        return Estimate(whole, nan)
    pairs = list(zip(slow, fast, strict=True))
    parts = []
    for left in range(len(pairs)):
        kept = pairs[:left] + pairs[left + 1 :]
        parts.append(mean(one for one, _ in kept) / mean(other for _, other in kept))
    spread = sum((part - mean(parts)) ** 2 for part in parts) * (len(parts) - 1) / len(parts)
    return Estimate(whole, find_quantile(len(parts)) * sqrt(spread))


class Results:
    """The swarm's trials and the rivals', by world and size."""

    def __init__(self, trials: Sequence[Trial], rivals: Sequence[RivalTrials]) -> None:
        self.trials, self.rivals = trials, rivals

    def of_swarm(self, world: str, workers: int) -> list[Trial]:
        return [one for one in self.trials if (one.world, one.workers) == (world, workers)]

    def of_rivals(self, world: str, workers: int) -> list[RivalTrials]:
        return [one for one in self.rivals if (one.world, one.workers) == (world, workers)]

    def speed(self, world: str, workers: int) -> Estimate | None:
        """How many times faster the swarm is than one thread."""
        some = self.of_swarm(world, workers)
        return compare([one.one_thread for one in some], [one.swarm_time for one in some])

    def speed_of(self, world: str, workers: int, rival: str) -> Estimate | None:
        some = [one for one in self.of_rivals(world, workers) if rival in one.rivals]
        return compare([one.one_thread for one in some], [one.rivals[rival].time for one in some])

    def compare_with(self, world: str, workers: int, rival: str) -> Range | None:
        """How many times faster the swarm is than a rival, on the seeds that both searched."""
        theirs = {one.seed: one.rivals[rival].time for one in self.of_rivals(world, workers) if rival in one.rivals}
        targets = {one.seed: one.target for one in self.of_rivals(world, workers)}
        both = [one for one in self.of_swarm(world, workers) if one.seed in theirs]
        if any(one.target != targets[one.seed] for one in both):
            raise ValueError(f"{world}, {workers} workers: the swarm and its rivals searched for different targets")
        found = compare([theirs[one.seed] for one in both], [one.swarm_time for one in both])
        if found is None:
            return None
        factor = exp(found.half / found.mean)  # on the scale of logarithms, the same whoever is in the denominator
        return Range(found.mean, found.mean / factor, found.mean * factor)

    def list_speeds(self) -> Iterator[tuple[str, ...]]:
        """Rows of SPEEDS."""
        for world in WORLDS:
            for workers in SIZES:
                if world == FLAT or not (self.of_swarm(world, workers) or self.of_rivals(world, workers)):
                    continue
                known = {name: self.compare_with(world, workers, name) for name in RIVALS}
                found = {name: one for name, one in known.items() if one is not None and not isnan(one.low)}
                ahead = [name for name, one in found.items() if one.high < 1]
                behind = [name for name, one in found.items() if one.low > 1]
                level = [name for name in found if name not in ahead and name not in behind]
                seeds = len(self.of_swarm(world, workers))
                own = f"{self.speed(world, workers)} ({seeds})" if seeds else "–"
                speeds = [show(self.speed_of(world, workers, name)) for name in RIVALS]
                names = [", ".join(some) or "–" for some in (ahead, level)]
                yield (world, str(workers), own, *speeds, *names)

    def list_times(self) -> Iterator[tuple[str, ...]]:
        """Rows of TIMES: the fewest, the median and the most runs' time to the target, over landscapes."""
        for world in (EVEN, MIXED.name):
            for workers, asked in ASKED.items():
                rivals = [one for one in self.of_rivals(world, workers) if LINEAR in one.rivals]
                if rivals:
                    own = _spread([one.swarm_time for one in self.of_swarm(world, workers)])
                    theirs = _spread([one.rivals[LINEAR].time for one in rivals])
                    yield world, str(workers), f"{mean(one.one_thread for one in rivals) / asked:.2f}", own, theirs

    def list_errors(self) -> Iterator[tuple[str, ...]]:
        """Rows of ERRORS: how much too good what is reported is, in 10⁻⁴, at the horizon."""
        for world in WORLDS:
            for workers in SIZES:
                rivals = self.of_rivals(world, workers)
                cells = [
                    average([one.rivals[name].error for one in rivals if name in one.rivals], -1e4) for name in RIVALS
                ]
                if rivals:
                    yield (world, str(workers), show(_record_error(self.of_swarm(world, workers))), *map(show, cells))

    def list_claims(self) -> Iterator[tuple[str, ...]]:
        """Rows of CLAIMS."""
        for world in WORLDS:
            for workers in HORIZONS:
                if trials := self.of_swarm(world, workers):
                    yield (world, *_describe(workers, trials))

    def sum_fates(self) -> dict[str, Fate]:
        """Fates of all trials' claims, by kind."""
        kinds = dict.fromkeys(kind for one in self.trials for kind in one.fates)
        known = {kind: [one.fates[kind] for one in self.trials if kind in one.fates] for kind in kinds}
        return {kind: Fate(*map(sum, zip(*fates, strict=True))) for kind, fates in known.items()}

    def list_fates(self) -> Iterator[tuple[str, ...]]:
        """Rows of FATES."""
        for kind, fate in self.sum_fates().items():
            low, high = (100 * bound for bound in bound_share_twice(fate.false, fate.made))
            share = f"{low:.1f} to {high:.1f}" if fate.made else "–"
            yield kind.replace("_", " "), str(fate.made), str(fate.false), share, str(fate.withdrawn)

    def list_goals(self) -> list[Goal]:
        """The goals, set before anything was tuned, with their results in the mixed world; claims in all worlds."""
        trials = [one for one in self.trials if one.world == MIXED.name]
        alone = self.of_swarm(MIXED.name, 1)
        verified = self.sum_fates().get(Standing.VERIFIED, Fate(0, 0, 0))
        goals = [
            Goal("1 worker, gain after as many runs / keep-if-lower's", 0.95, _gain(alone)),
            Goal("1 worker, the same with measurements not counted", 1.0, _search_gain(alone)),
        ]
        for size, asked in ASKED.items():
            goals.append(Goal(f"{size} workers, times faster to the target", asked, self.speed(MIXED.name, size)))
        for size in SIZES:
            for name in RIVALS:
                found = self.compare_with(MIXED.name, size, name)
                goals.append(Goal(f"{size} workers, times the speed of {name}", 1.0, found))
        records = [len(one.record_errors) for one in self.trials]
        return [
            *goals,
            Goal("record too good by, in 10^-4", 2.0, _record_error(trials), is_least=False),
            bound_goal("false among {} that were ever verified, %", verified.false, verified.made),
            bound_goal("of {} records, rest on made-up results, %", _sum_made_up(self.trials), sum(records)),
            Goal("wasted runs, %", 3.0, average([t.wasted / t.runs for t in trials], 100), is_least=False),
            Goal("replications and controls, % of all runs", 25.0,
                 average([one.measurements / one.runs for one in trials], 100), is_least=False),
        ]  # fmt: skip


def _spread(times: Sequence[float]) -> str:
    return f"{min(times):.2f} · {median(times):.2f} · {max(times):.2f}" if times else "–"


def show(found: Estimate | None) -> str:
    return "–" if found is None else str(found)


def bound_goal(text: str, bad: int, known: int) -> Goal:
    """A share that should be at most 1 %; its interval's upper end is the one-sided bound."""
    if not known:
        return Goal(text.format(known), 1.0, None, is_least=False)
    return Goal(text.format(known), 1.0, Range(100 * bad / known, 0.0, 100 * bound_share(bad, known)), is_least=False)


def _sum_made_up(trials: Sequence[Trial]) -> int:
    return sum(one.fabricated_records for one in trials)


def _describe(workers: int, trials: Sequence[Trial]) -> tuple[str, ...]:
    improved = [one.fates[IMPROVED] for one in trials if IMPROVED in one.fates]
    cells = [
        _gain(trials),
        _search_gain(trials),
        _record_error(trials),
        average([trial.keep_if_lower_error for trial in trials], -1e4),
        f"{sum(trial.false for trial in trials)} / {sum(trial.verified for trial in trials)}",
        str(_sum_made_up(trials)),
        str(sum(trial.records_by_fabricators for trial in trials)),
        average([trial.wasted / trial.runs for trial in trials], 100),
        average([trial.measurements / trial.runs for trial in trials], 100),
        f"{sum(fate.false for fate in improved)} / {sum(fate.made for fate in improved)}",
    ]
    return (str(workers), str(len(trials)), *("–" if cell is None else str(cell) for cell in cells))


def _gain(trials: Sequence[Trial]) -> Estimate | None:
    return average([trial.gain / (START - trial.target) for trial in trials if trial.gain is not None])


def _search_gain(trials: Sequence[Trial]) -> Estimate | None:
    return average([trial.search_gain / (START - trial.target) for trial in trials if trial.search_gain is not None])


def _record_error(trials: Sequence[Trial]) -> Estimate | None:
    """How much too good records are, in 10⁻⁴: the mean of each trial's records, then over trials."""
    return average([mean(trial.record_errors) for trial in trials if trial.record_errors], -1e4)
