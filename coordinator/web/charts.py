"""The picture of an experiment's evidence: what was expected, what each run said, and what follows, as intervals.

Positions are in percent of the picture's width; intervals are two sd to each side.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from shared.evidence import Estimate, EvidenceRun, ExperimentEvidence
from shared.formatting import decimals_for, format_measure

SPREAD = 2.0
MARGIN = 0.04
TICKS = 3


class Interval(NamedTuple):
    """A row: `role` is `before`, `run`, `aside` (a run that is left out) or `after`.

    `low` and `high` end where the picture ends, if they are outside.
    """

    name: str
    words: str
    role: str
    low: float
    middle: float
    high: float


class Picture(NamedTuple):
    """Rows, and ticks as (position, number)."""

    intervals: list[Interval]
    ticks: list[tuple[float, str]]


def draw_evidence(evidence: ExperimentEvidence) -> Picture | None:
    """The picture, None where no run counts."""
    rows = list(_list_rows(evidence))
    shown = [value for _, role, value in rows if role != "before"]
    if evidence.after is None or not shown:
        return None
    # The scale is that of what was measured: an expectation may reach far beyond, and then ends at the edge.
    ends = [value.mean + side * SPREAD * value.sd for value in shown for side in (-1, 1)]
    ends += [evidence.before.mean] if evidence.before else []
    low, high = min(ends), max(ends)
    width = (high - low) * (1 + 2 * MARGIN) or 1.0
    start = low - width * MARGIN

    def place(value: float) -> float:
        return round(min(100.0, max(0.0, 100 * (value - start) / width)), 2)

    intervals = [
        Interval(
            name, format_measure(value.mean, value.sd), role, place(value.mean - SPREAD * value.sd), place(value.mean),
            place(value.mean + SPREAD * value.sd),
        )
        for name, role, value in rows
    ]  # fmt: skip
    return Picture(intervals, list(_list_ticks(start, width, [value.sd for value in shown])))


def _list_rows(evidence: ExperimentEvidence) -> Iterator[tuple[str, str, Estimate]]:
    if evidence.before is not None:
        yield "expected", "before", evidence.before
    for run in evidence.runs:
        if run.counts and run.read_as is not None:
            role = "run" if run.is_in_posterior else "aside"
            yield _name(run), role, Estimate(mean=run.read_as, sd=(evidence.noise_sd**2 + run.offset.sd**2) ** 0.5)
    if evidence.after is not None:
        yield "together", "after", Estimate(mean=evidence.after.metric_mean, sd=evidence.after.metric_sd)


def _name(run: EvidenceRun) -> str:
    return f"run {run.run_id}, {'author' if run.is_authors else 'checked'}"


def _list_ticks(start: float, width: float, spreads: Sequence[float]) -> Iterator[tuple[float, str]]:
    places = decimals_for(min((sd for sd in spreads if sd > 0), default=0.0))
    for number in range(TICKS):
        position = 100 * (number + 0.5) / TICKS
        yield round(position, 2), f"{start + width * position / 100:.{places}f}"
