"""Charts of intervals: the evidence of one experiment, and all effects of one topic.

Positions are in percent of the chart's width; intervals are two sd to each side and end at the chart's edge.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from coordinator.selection.combinations import Importance
from shared.experiments import AxisDirection, Standing
from shared.findings import FindingSummary
from shared.formatting import count_noun, format_effect, format_measure, list_ticks
from shared.records import Estimate, ExperimentEvidence, ExperimentSummary, LineageStep
from shared.topics import Topic, TopicEffect, TopicPool

SPREAD = 2.0
"""Half the length of an interval in sd."""

MARGIN = 0.04
"""Empty part of the chart at each side, as a share of the values' range."""

TICKS = 4
KEPT_SHARE = 0.9
"""Share of a topic's effects that the scale must hold; a few bad ones must not flatten all others."""

_TO = {AxisDirection.UP: "up to", AxisDirection.DOWN: "down to", AxisDirection.CHANGE: "to"}


class Scale(NamedTuple):
    """The value at the chart's left edge, and the range of its width."""

    start: float
    width: float

    @classmethod
    def around(cls, values: Sequence[float]) -> "Scale":
        """The scale that holds all values."""
        low, high = min(values), max(values)
        margin = MARGIN * (high - low) or 1.0
        return cls(low - margin, high - low + 2 * margin)

    def place(self, value: float) -> float:
        """The value's position in percent, or that of the nearer edge."""
        return round(min(100.0, max(0.0, 100 * (value - self.start) / self.width)), 2)

    def draw(
        self, name: str, value: str, role: str, mean: float, sd: float, *, detail: str = "", experiment_id: int = 0
    ) -> "Bar":
        """The bar of an interval, with the number that is printed beside it."""
        low, middle, high = (self.place(mean + side * SPREAD * sd) for side in (-1, 0, 1))
        return Bar(name, value, role, low, middle, high, detail, experiment_id)


class Bar(NamedTuple):
    """One interval. A bar of many experiments has the `experiment_id` 0.

    `role` is `before`, `run`, `aside` (a run that is left out) or `after` in the chart of an experiment, and a verdict
    or `pool` in the chart of a topic.
    """

    name: str
    value: str
    role: str
    low: float
    middle: float
    high: float
    detail: str
    experiment_id: int


class EvidenceChart(NamedTuple):
    """The expected value, each run's, and the posterior as rows; ticks as (position, number)."""

    rows: list[Bar]
    ticks: list[tuple[float, str]]


def draw_evidence(evidence: ExperimentEvidence) -> EvidenceChart | None:
    """The chart of an experiment's evidence, None where no run counts."""
    rows = list(_list_estimates(evidence))
    shown = [value for _, role, value in rows if role != "before"]
    if evidence.after is None or not shown:
        return None
    # The scale is that of the measurements: the interval of an expectation may reach far beyond, and is cut.
    ends = [value.mean + side * SPREAD * value.sd for value in shown for side in (-1, 1)]
    scale = Scale.around(ends + ([evidence.before.mean] if evidence.before else []))
    drawn = [
        scale.draw(name, format_measure(value.mean, value.sd), role, value.mean, value.sd) for name, role, value in rows
    ]
    return EvidenceChart(drawn, _list_ticks(scale))


def _list_estimates(evidence: ExperimentEvidence) -> Iterator[tuple[str, str, Estimate]]:
    if evidence.before is not None:
        yield "expected", "before", evidence.before
    for run in evidence.runs:
        if run.counts and run.read_as is not None:
            name = f"run {run.run_id}, {'author' if run.is_authors else 'checked'}"
            sd = (evidence.noise_sd**2 + run.offset.sd**2) ** 0.5
            yield name, "run" if run.is_in_posterior else "aside", Estimate(mean=run.read_as, sd=sd)
    if evidence.after is not None:
        yield "together", "after", Estimate(mean=evidence.after.metric_mean, sd=evidence.after.metric_sd)


def _list_ticks(scale: Scale) -> list[tuple[float, str]]:
    inside = 0.03 * scale.width  # a tick's number is centred below it
    found = list_ticks(scale.start + inside, scale.start + scale.width - inside, TICKS)
    return [(scale.place(value), text) for value, text in found]


class TopicChart(NamedTuple):
    """A topic's effects on one scale: of each hardware class all at once as a path of ticks for each verdict, with its
    pools as bars; and some effects as bars. `zero` is the position of no effect, `better` the side of gains."""

    strips: dict[str, dict[str, str]]
    pools: dict[str, list[Bar]]
    rows: list[Bar]
    zero: float
    better: str
    effects: int


TOGETHER = "All hardware classes together"


def draw_topic(topic: Topic, sign: float, shown: Sequence[TopicEffect]) -> TopicChart | None:
    """The chart of a topic, in which the effects of `shown` have bars of their own; None without measurements.

    `sign` is 1 where a lower metric is better, else -1.
    """
    if not topic.effects:
        return None
    scale = _choose_scale(topic.effects)
    classes = sorted({effect.hardware_class for effect in topic.effects})
    pools = {
        name or TOGETHER: [_draw_pool(pool, scale) for pool in topic.pools if pool.hardware_class == name]
        for name in (*classes, *([None] if len(classes) > 1 else []))
    }
    return TopicChart(
        {name: _draw_strip([one for one in topic.effects if one.hardware_class == name], scale) for name in classes},
        pools,
        [_draw_effect(effect, scale) for effect in shown],
        scale.place(0.0),
        "left" if sign > 0 else "right",
        len(topic.effects),
    )


class EffectsChart(NamedTuple):
    """Effects of several experiments on one scale. `zero` is the position of no effect, `better` the side of gains."""

    rows: list[Bar]
    zero: float
    better: str


def draw_effects(found: Sequence[ExperimentSummary], sign: float) -> EffectsChart | None:
    """The chart of those experiments that have an effect; None where none has. `sign` is as in `draw_topic`."""
    effects = [
        (one, one.posterior.effect_mean, one.posterior.effect_sd or 0.0)
        for one in found
        if one.posterior is not None and one.posterior.effect_mean is not None
    ]
    if not effects:
        return None
    scale = Scale.around([0.0, *(mean + side * SPREAD * sd for _, mean, sd in effects for side in (-1, 1))])
    rows = [
        scale.draw(
            one.title, format_effect(mean, sd), (one.posterior and one.posterior.verdict) or "unresolved", mean, sd,
            experiment_id=one.id,
        )
        for one, mean, sd in effects
    ]  # fmt: skip
    return EffectsChart(rows, scale.place(0.0), "left" if sign > 0 else "right")


class FloatingBar(NamedTuple):
    """A step of a waterfall: the bar of the metric after it, with an interval of two sd of its effect, and the stretch
    between that and the metric before it."""

    bar: Bar
    start: float
    width: float

    @classmethod
    def spanning(cls, bar: Bar, before: float) -> "FloatingBar":
        """The step that leads from a position to that of a bar."""
        start, end = sorted((before, bar.middle))
        return cls(bar, start, round(end - start, 2))


class Waterfall(NamedTuple):
    """The steps to a commit on one scale, the oldest first; ticks as (position, number)."""

    rows: list[FloatingBar]
    ticks: list[tuple[float, str]]


def draw_waterfall(steps: Sequence[LineageStep], sign: float) -> Waterfall | None:
    """The chart of a line of descent; None without a measured step. `sign` is as in `draw_topic`.

    Effects are those that all pages give. Their sum is not the last commit's metric, as a step's runs tell of earlier
    ones, too: the last bar leads from the one to the other. A rejected commit is what no effect is counted from.
    """
    found: list[tuple[LineageStep, str, float, float, float]] = []
    before: float | None = None
    whole: tuple[float, float] | None = None
    for step in steps:
        posterior = step.posterior
        if posterior is None or posterior.standing == Standing.REJECTED:
            continue
        metric = format_measure(posterior.metric_mean, posterior.metric_sd)
        text = format_effect(posterior.effect_mean, posterior.effect_sd, unknown=metric)
        effect, sd = posterior.effect_mean or 0.0, posterior.effect_sd or 0.0
        start = before if before is not None else posterior.metric_mean - effect
        before = start + effect
        found.append((step, text, start, before, sd))
        whole = posterior.metric_mean, posterior.metric_sd
    if whole is None or before is None:
        return None
    spans = [(start, end, sd) for _, _, start, end, sd in found] + [(before, *whole)]
    scale = Scale.around([value for start, end, sd in spans for value in (start, end - SPREAD * sd, end + SPREAD * sd)])
    rows = []
    for step, text, start, end, sd in found:
        role = "before" if start == end else "improved" if sign * (end - start) < 0 else "worse"
        bar = scale.draw(step.title, text, role, end, sd, experiment_id=step.experiment_id or 0)
        rows.append(FloatingBar.spanning(bar, scale.place(start)))
    if len(found) > 1:
        bar = scale.draw("as all runs tell it", format_measure(*whole), "before", *whole)
        rows.append(FloatingBar.spanning(bar, scale.place(before)))
    return Waterfall(rows, _list_ticks(scale))


def draw_importances(found: Sequence[Importance]) -> EffectsChart | None:
    """The chart of what settings do at their best values; None without one."""
    if not found:
        return None
    scale = Scale.around([0.0, *(one.effect + side * SPREAD * one.sd for one in found for side in (-1, 1))])
    rows = [scale.draw(one.name, format_effect(one.effect, one.sd), "improved", one.effect, one.sd) for one in found]
    return EffectsChart(rows, scale.place(0.0), "")


class SmallInterval(NamedTuple):
    """An interval of two sd on the scale of its list, where `zero` is no effect."""

    low: float
    middle: float
    high: float
    zero: float


def draw_small(findings: Sequence[FindingSummary]) -> dict[int, SmallInterval]:
    """The effects of findings as small pictures on one scale, by the finding's number; those far off are cut."""
    effects = {
        one.id: (one.posterior.effect_mean, one.posterior.effect_sd or 0.0)
        for one in findings
        if one.posterior is not None and one.posterior.effect_mean is not None
    }
    if not effects:
        return {}
    reach = sorted(abs(mean) + SPREAD * sd for mean, sd in effects.values())
    most = reach[min(len(reach) - 1, int(KEPT_SHARE * len(reach)))]
    scale = Scale.around([-most, most])
    return {
        number: SmallInterval(
            scale.place(mean - SPREAD * sd), scale.place(mean), scale.place(mean + SPREAD * sd), scale.place(0.0)
        )
        for number, (mean, sd) in effects.items()
    }


def _draw_strip(effects: Sequence[TopicEffect], scale: Scale) -> dict[str, str]:
    """A path of ticks for each verdict. Neighbours stand at different heights, so that many can be told apart."""
    paths: dict[str, list[str]] = {}
    for number, effect in enumerate(effects):
        tick = f"M{scale.place(effect.mean)} {number * 7 % 13}v3"
        paths.setdefault(str(effect.verdict or "unresolved"), []).append(tick)
    return {verdict: "".join(ticks) for verdict, ticks in sorted(paths.items())}


def _choose_scale(effects: Sequence[TopicEffect]) -> Scale:
    """A scale with zero that holds most effects."""
    ends = [(effect.mean - SPREAD * effect.sd, effect.mean + SPREAD * effect.sd) for effect in effects]
    reach = sorted(max(abs(low), abs(high)) for low, high in ends)
    limit = reach[min(len(reach) - 1, int(KEPT_SHARE * len(reach)))]
    return Scale.around([0.0, *(max(-limit, low) for low, _ in ends), *(min(limit, high) for _, high in ends)])


def _draw_effect(effect: TopicEffect, scale: Scale) -> Bar:
    name, value = f"{_TO[effect.direction]} {effect.value}".strip(), format_effect(effect.mean, effect.sd)
    return scale.draw(
        name, value, effect.verdict or "unresolved", effect.mean, effect.sd,
        detail=effect.title, experiment_id=effect.experiment_id,
    )  # fmt: skip


def _draw_pool(pool: TopicPool, scale: Scale) -> Bar:
    differ = f"; their true effects differ by about {pool.between_sd:.2g}" if pool.between_sd else ""
    outliers = f"; {count_noun(pool.outliers, 'outlier')} without weight" if pool.outliers else ""
    detail = f"{count_noun(pool.experiments, 'experiment')} together{differ}{outliers}"
    return scale.draw(
        f"all {pool.direction}", format_effect(pool.mean, pool.sd), "pool", pool.mean, pool.sd, detail=detail
    )
