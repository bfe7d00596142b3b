"""Whether less or more of a metric is better: by its name, and by what a session kept. Pure."""

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from coordinator.autoresearch.tables import ResultsInvalidError
from shared.contract import Direction

LESS = frozenset((
    "bpb", "bpc", "bpw", "loss", "losses", "nll", "ppl", "perplexity", "rmse", "mse", "mae", "mape", "smape", "rmsle",
    "error", "err", "errors", "wer", "cer", "eer", "ece", "latency", "ms", "us", "ns", "sec", "secs", "second",
    "seconds", "minutes", "time", "runtime", "duration", "bits", "regret", "fid", "kl", "entropy", "brier", "misses",
    "drawdown", "distance", "deviation", "cost", "delay", "ttft", "itl", "failures", "violations", "bytes", "size",
    "gap",
))  # fmt: skip
MORE = frozenset((
    "acc", "accuracy", "psnr", "ssim", "sharpe", "sortino", "calmar", "tps", "toks", "throughput", "score", "reward",
    "return", "returns", "f1", "auc", "auroc", "auprc", "map", "mrr", "ndcg", "precision", "recall", "iou", "miou",
    "dice", "bleu", "rouge", "meteor", "r2", "speedup", "mfu", "flops", "tflops", "gflops", "qps", "fps", "rps",
    "bandwidth", "coverage", "roi", "pnl", "profit", "elo", "corr", "correlation", "spearman", "pearson", "likelihood",
    "kappa", "mcc", "hits", "wins", "passed", "solved", "top1", "top5", "em", "snr", "sdr", "quality", "fitness",
))  # fmt: skip
RATES = frozenset({"win", "pass", "hit", "success", "solve", "accept", "acceptance", "correct"})
TIMES = frozenset({"s", "sec", "secs", "second", "seconds", "min", "minute", "hour", "h"})
COUNTED = frozenset((
    "tok", "toks", "token", "tokens", "it", "its", "img", "imgs", "images", "samples", "req", "reqs", "requests", "ops",
    "gb", "mb", "gib", "mib", "words", "chars", "frames", "steps", "rows", "nodes", "generations", "games", "queries",
))  # fmt: skip
"""Words before a time that make a rate: `tok_s` are tokens per second."""

SIGNED = frozenset((
    "sharpe", "sortino", "calmar", "reward", "return", "returns", "roi", "pnl", "profit", "gain", "margin", "alpha",
    "snr", "sdr", "r2", "corr", "correlation", "spearman", "pearson", "likelihood", "kappa", "mcc",
))  # fmt: skip
"""Words of metrics that may be below zero."""

SHARES = frozenset((
    "acc", "accuracy", "auc", "auroc", "auprc", "f1", "precision", "recall", "iou", "miou", "dice", "map", "mrr",
    "ndcg", "top1", "top5", "em", "ssim", "bleu", "rouge",
))  # fmt: skip
"""Words of metrics that are one at most, or a hundred where they are written in percent."""

NEGATIONS = frozenset({"neg", "negative", "minus"})
SURE, NEARLY_ALL = 2 / 3, 0.9
"""Share of rows that must speak for a direction where the metric's name says nothing; and where all rows count as
kept, as those that only say that they ended."""


class MeasuredRow(Protocol):
    """A row with what its log says of it. `before` is the metric that it started from, where the file says it."""

    @property
    def metric(self) -> float | None: ...
    @property
    def before(self) -> float | None: ...
    @property
    def is_kept(self) -> bool: ...
    @property
    def is_baseline(self) -> bool: ...
    @property
    def is_repeat(self) -> bool: ...
    @property
    def group(self) -> str: ...


class FoundDirection(NamedTuple):
    """A direction, and the reason for it as a clause."""

    direction: Direction
    reason: str


def read_name(metric: str) -> Direction | None:
    """The direction of a metric with a known name."""
    words = words_of_name(metric)
    is_negated = bool(NEGATIONS.intersection(words[:1])) and not {"log", "ln"}.intersection(words[1:2])
    if words[:2] in (["neg", "log"], ["negative", "log"]):
        return Direction.MINIMIZE
    if is_rate(metric):
        found: Direction | None = Direction.MAXIMIZE
    elif "per" in words:
        above, below = words[: words.index("per")], words[words.index("per") + 1 :]
        is_less = LESS.intersection(above)
        found = Direction.MINIMIZE if is_less else Direction.MAXIMIZE if TIMES.intersection(below) else None
    else:
        found = next((_read_word(word, words) for word in reversed(words) if _read_word(word, words)), None)
    if found and is_negated:
        return Direction.MINIMIZE if found == Direction.MAXIMIZE else Direction.MAXIMIZE
    return found


def words_of_name(metric: str) -> list[str]:
    """The words of a metric's name, in lower case."""
    return re.findall(r"[a-z]+\d*", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", metric).lower().replace("_", " "))


def is_rate(metric: str) -> bool:
    """Whether a metric counts something per time, as `tok_s` and `generations_per_s` do."""
    words = re.findall(r"[a-z]+", metric.lower())
    is_counted = len(words) > 1 and words[-2] in COUNTED | {"per"}
    return is_counted and words[-1] in TIMES and not LESS.intersection(words[:-1])


def _read_word(word: str, words: Sequence[str]) -> Direction | None:
    if word == "rate" and RATES.intersection(words):
        return Direction.MAXIMIZE
    return Direction.MINIMIZE if word in LESS else Direction.MAXIMIZE if word in MORE else None


def read_goal(text: str) -> Direction | None:
    """The direction that a word names, as `max` and `lower` do."""
    found = re.match(r"(min|low|less|down)|(max|high|more|up)", text.strip().lower())
    return None if found is None else Direction.MINIMIZE if found[1] else Direction.MAXIMIZE


_GOAL = re.compile(
    r"\s*[(\[]?\s*(?:(?P<less>\N{DOWNWARDS ARROW}|\b(?:lower|less|smaller)(?: is|=)? ?better|\bminimi[sz]e\b)|"
    r"\N{UPWARDS ARROW}|\b(?:higher|more|larger|bigger|greater)(?: is|=)? ?better|\bmaximi[sz]e\b)\s*[)\]]?",
    re.IGNORECASE,
)


def split_goal(name: str) -> tuple[str, Direction | None]:
    """A metric's name without what it says of its direction, as `score (lower is better)` does, and that direction."""
    found = _GOAL.search(name)
    if found is None:
        return name, None
    return _GOAL.sub("", name).strip(), Direction.MINIMIZE if found["less"] else Direction.MAXIMIZE


def find_direction(
    metric: str, rows: Sequence[MeasuredRow], given: Direction | None, said: Direction | None = None
) -> FoundDirection:
    """The direction that was given, that the log `said`, that the name says, or that the rows show.

    Raises ResultsInvalidError where the rows contradict the log (clearly) or the name, or nothing says anything.
    """
    if given is not None:
        return FoundDirection(given, "as --direction says")
    less, more = count_votes(rows)
    named, votes = said or read_name(metric), less + more
    source = "the log" if said is not None else f"the name {metric}"
    has_discarded = any(not row.is_kept for row in rows if row.metric is not None)
    is_telling = max(less, more) >= (SURE if has_discarded else NEARLY_ALL) * votes
    shown = Direction.MINIMIZE if less > more else Direction.MAXIMIZE
    counted = f"{max(less, more)} of {votes} comparisons with what was kept before show it"
    if named is not None:
        if less != more and shown is not named and (is_telling or (has_discarded and said is None)):
            by = "its name" if said is None else source
            raise ResultsInvalidError(
                f"By {by} {metric} is better when it is {_adjective(named)}, but by what was kept when it is "
                f"{_adjective(shown)}: {counted}. Say which with --direction minimize or --direction maximize, or name "
                "another column with --column metric=NAME."
            )
        is_agreed = less != more and shown is named and is_telling
        return FoundDirection(named, f"as {source} says{f'; {counted}' if is_agreed else ''}")
    if votes == 0 or not is_telling:
        says = "nothing was kept or discarded beside it that would show it" if votes == 0 else f"only {counted}"
        raise ResultsInvalidError(
            f"It is not known whether less or more {metric} is better: {says}. Say it with --direction minimize or "
            "--direction maximize."
        )
    return FoundDirection(shown, f"as {counted.removesuffix(' it')}")


def _adjective(direction: Direction) -> str:
    return "lower" if direction == Direction.MINIMIZE else "higher"


def count_votes(rows: Sequence[MeasuredRow]) -> tuple[int, int]:
    """How many rows speak for less and for more, compared with the last that was kept beside them."""
    less = more = 0
    kept: dict[str, float] = {}
    for row in rows:
        if row.metric is None:
            continue
        above = row.before if row.before is not None else kept.get(row.group)
        if above is not None and row.metric != above and not row.is_baseline and not row.is_repeat:
            is_less = (row.metric < above) == row.is_kept
            less, more = less + is_less, more + (not is_less)
        if row.is_kept:
            kept[row.group] = row.metric
    return less, more
