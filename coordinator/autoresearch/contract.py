"""The `swarm.toml` of an imported session: its repository has none, so it is written from what the session shows."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from coordinator.autoresearch.results_file import ResultRow
from shared.contract import Direction

MAX_EDITABLE = 16
MIN_FILE_BYTES = 65_536
MAX_TEXT = 180
NORMAL_MAD = 1.4826
"""The sd of a normal distribution over its median absolute deviation."""

LARGEST_GAIN_SD = 5.0
"""Largest gain of a session, in sd of effects: far from the 10 beyond which one is held as too good."""

NOISE_SHARE = 0.1
"""A session has no replications, so its noise is a guess, a tenth of its effects: small enough that its curve is shown
as it was measured. The swarm's own replications replace it."""

FLOOR_SD = 20.0


@dataclass(frozen=True)
class Priors:
    """In the metric's unit: sd of noise and of effects, and the value beyond which a result is held."""

    noise_sd: float
    effect_sd: float
    plausible_floor: float


def estimate_priors(rows: Sequence[ResultRow], direction: Direction) -> Priors:
    """The noise and effects that a session reports. It has at least one row."""
    sign = 1.0 if direction is Direction.MINIMIZE else -1.0
    scores = [sign * row.metric for row in rows if row.metric is not None]
    changes = list(_list_changes(rows, sign))
    typical = NORMAL_MAD * median(map(abs, changes)) if changes else 0.0
    largest_gain = max((-change for change in changes), default=0.0)
    size = max(map(abs, scores), default=1.0) or 1.0
    effect_sd = max(typical, largest_gain / LARGEST_GAIN_SD) or 0.01 * size
    best, first = min(scores, default=0.0), scores[0] if scores else 0.0
    floor = best - max(first - best, FLOOR_SD * effect_sd)
    return Priors(_round(NOISE_SHARE * effect_sd), _round(effect_sd), sign * _round(floor))


def _list_changes(rows: Sequence[ResultRow], sign: float) -> Iterator[float]:
    """Differences to the best that was kept before, below zero where it is better."""
    best: float | None = None
    for row in rows:
        if row.metric is None:
            continue
        score = sign * row.metric
        if best is not None and score != best:
            yield score - best
        if row.is_kept:
            best = score if best is None else min(best, score)


def _round(number: float) -> float:
    """To three digits: more would pretend to be known."""
    return float(f"{number:.3g}")


def write_contract(
    name: str, source: str, metric: str, direction: Direction, priors: Priors, editable: Sequence[str], script: str,
    largest_file: int, budget_seconds: float,
) -> str:  # fmt: skip
    """The text of the contract. `source` says in words where the session is from."""
    better = "lowers" if direction is Direction.MINIMIZE else "raises"
    return f"""\
# Written when the session was imported. The project scores itself: the metric is the one that {script} prints.

[project]
name = {_quote(name)}
title = {_quote(f"{name}, an imported session")}
question = {_quote(f"What {better} {metric}? Imported from {source}.")}
version = 1

[objective]
metric = {_quote(metric)}
unit = {_quote("bits per byte" if metric.endswith("bpb") else metric)}
direction = {_quote(direction.value)}
min_effect = {priors.noise_sd!r}
plausible_floor = {priors.plausible_floor!r}
result = "summary"

[budget]
training_seconds = {budget_seconds!r}
handover_seconds = 1.0
starting_seconds = 60
scoring_seconds = 60

[limits]
memory_mib = 16384
processes = 512
disk_mib = 4096
weights_mib = 1

[files]
editable = {json.dumps(list(editable))}
max_bytes = {max(MIN_FILE_BYTES, 2 * largest_file)}

[commands]
prepare = "swarm_harness.prepare"
trainer = "swarm_harness.trainer"
host = "swarm_harness.host"
scorer = "swarm_harness.scorer"

[data.settings]
script = {_quote(script)}
metric = {_quote(metric)}

[evidence]
noise_sd = {priors.noise_sd!r}
effect_sd = {priors.effect_sd!r}
"""


def _quote(text: str) -> str:
    """A string of TOML; its escapes are those of JSON."""
    return json.dumps(" ".join(text.split())[:MAX_TEXT], ensure_ascii=False)
