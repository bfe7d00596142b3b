"""Writes the contract of an imported session: its metric, and how large noise and effects are in it."""

import json
from collections.abc import Sequence
from math import inf, sqrt
from statistics import fmean, median
from typing import NamedTuple

from coordinator.autoresearch.plan import ImportPlan, list_changes
from shared.contract import SMALLEST_SPREAD, Direction
from shared.formatting import count_noun
from shared.protocol import MAX_READING

MIN_FILE_BYTES, MAX_FILE_BYTES = 65_536, 1_048_576
MAX_TEXT = 180
NORMAL_MAD = 1.4826  # the sd of a normal distribution over its median absolute deviation
LARGEST_GAIN_SD = 5.0  # largest gain of a session, in sd of effects; beyond 10 one is held as too good

BPB_NOISE = 0.0007
"""Noise of bits per byte in five-minute runs: docs/data and the sessions that were measured again show it."""

NOISE_SHARE = 0.5
"""Assumed noise of a metric of which nothing is known, over the typical difference between a session's experiments."""

FLOOR_SD = 20.0


class Priors(NamedTuple):
    """In the metric's unit: sd of noise and of effects, and the value beyond which a result is held. The noise is
    learnt from what was measured again, or it `is_assumed`; `why` says how, in a sentence."""

    noise_sd: float
    effect_sd: float
    plausible_floor: float
    is_assumed: bool
    why: str


def estimate_priors(plan: ImportPlan, direction: Direction, metric: str) -> Priors:
    """The noise and effects that a session reports. It has at least one row."""
    sign = 1.0 if direction == Direction.MINIMIZE else -1.0
    rows = [step.row for step in plan.steps]
    again = set(plan.repeats)
    scores = [sign * row.metric for row in rows if row.metric is not None]
    changes = list(list_changes([row for row in rows if row.line not in again], sign))
    typical = NORMAL_MAD * median(map(abs, changes)) if changes else 0.0
    largest_gain = max((-change for change in changes), default=0.0)
    size = max(map(abs, scores), default=1.0) or 1.0
    effect_sd = max(typical, largest_gain / LARGEST_GAIN_SD) or 0.01 * size
    spread = sqrt(fmean(change**2 for change in changes)) if changes else inf
    noise_sd, is_assumed, why = _find_noise(plan, metric, typical or effect_sd, spread)
    effect_sd = min(MAX_READING, max(effect_sd, noise_sd))
    best, first = min(scores, default=0.0), scores[0] if scores else 0.0
    floor_ = best - max(first - best, FLOOR_SD * effect_sd)
    floor_ = max(-MAX_READING, min(MAX_READING, floor_))
    return Priors(_round(noise_sd), _round(effect_sd), sign * _round(floor_), is_assumed, why)


def _find_noise(plan: ImportPlan, metric: str, typical: float, spread: float) -> tuple[float, bool, str]:
    """The sd of one run: pooled over commits that were measured again; assumed without any, or where it is above the
    `spread` of the session's effects: what differs by more than all experiments do was not the same code."""
    by_key: dict[str, list[float]] = {}
    for step in plan.steps:
        if step.row.metric is not None:
            by_key.setdefault(step.key, []).append(step.row.metric)
    repeated = [values for values in by_key.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in repeated)
    reason = "nothing was measured twice"
    if freedom:
        squares = sum((value - fmean(values)) ** 2 for values in repeated for value in values)
        resolution = 0.5 * 10.0 ** -max(_count_decimals(value) for values in repeated for value in values)
        noise_sd = max(sqrt(squares / freedom), resolution, SMALLEST_SPREAD)
        measured = f"{count_noun(freedom, 'repetition')} of {count_noun(len(repeated), 'commit')}"
        if noise_sd <= spread:
            return noise_sd, False, f"Noise: sd {noise_sd:.3g}, learnt from {measured}."
        reason = f"sd {noise_sd:.3g} of {measured} is more than experiments differ by ({spread:.3g}), and not believed"
    if "bpb" in metric:
        return BPB_NOISE, True, f"Noise: sd {BPB_NOISE:g} is assumed, as of other runs of bits per byte: {reason}."
    noise_sd = max(NOISE_SHARE * typical, SMALLEST_SPREAD)
    return noise_sd, True, f"Noise: sd {noise_sd:.3g} is assumed, half of the typical difference: {reason}."


def _count_decimals(value: float) -> int:
    return max(0, len(repr(value).partition(".")[2].partition("e")[0]) - (repr(value).endswith(".0")))


def _round(number: float) -> float:
    """The number to three significant digits."""
    return float(f"{number:.3g}")


def write_contract(
    name: str, source: str, metric: str, unit: str, direction: Direction, priors: Priors, editable: Sequence[str],
    script: str, largest_file: int, budget_seconds: float,
) -> str:  # fmt: skip
    """The text of the contract. `source` says in words where the session is from."""
    better = "lowers" if direction == Direction.MINIMIZE else "raises"
    return f"""\
# Written when the session was imported. The project scores itself: the metric is the one that {script} prints.

[project]
name = {_quote(name)}
title = {_quote(f"{name}, an imported session")}
question = {_quote(f"What {better} {metric}? Imported from {source}.")}
version = 1

[objective]
metric = {_quote(metric)}
unit = {_quote(unit or ("bits per byte" if metric.endswith("bpb") else metric))}
direction = {_quote(direction.value)}
min_effect = {priors.noise_sd!r}
plausible_floor = {priors.plausible_floor!r}
result = "summary"

[budget]
training_seconds = {budget_seconds!r}
may_end_early = true
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
max_bytes = {min(MAX_FILE_BYTES, max(MIN_FILE_BYTES, 2 * largest_file))}

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
noise_is_assumed = {"true" if priors.is_assumed else "false"}
"""


def _quote(text: str) -> str:
    """A string of TOML; its escapes are those of JSON."""
    return json.dumps(" ".join(text.split())[:MAX_TEXT], ensure_ascii=False)
