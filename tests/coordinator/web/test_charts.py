"""The charts of an experiment's evidence and of a topic's effects."""

from coordinator.web.charts import draw_evidence, draw_topic, draw_waterfall
from shared.experiments import AxisDirection, JobKind, Posterior, Standing, Verdict
from shared.protocol import now
from shared.records import Estimate, EvidenceRun, ExperimentEvidence, LineageStep, Trust
from shared.topics import Topic, TopicEffect, TopicSummary


def make_evidence(before: Estimate | None, *values: float, is_checked: bool = False) -> ExperimentEvidence:
    runs = [
        EvidenceRun(
            run_id=number, worker="w", kind=JobKind.IMPROVE if number == 1 else JobKind.REPLICATE,
            is_authors=number == 1, trust=Trust.NEWCOMER, counts=True, metric=value + 0.1,
            is_in_posterior=number > 1 or not is_checked, offset=Estimate(mean=0.1, sd=0.003), read_as=value,
        )
        for number, value in enumerate(values, 1)
    ]  # fmt: skip
    after = Posterior(metric_mean=3.25, metric_sd=0.002, runs=len(runs)) if runs else None
    return ExperimentEvidence(
        experiment_id=1, sha="a" * 40, hardware_class="cpu", epoch=0, noise_sd=0.004, effect_sd=0.05,
        ancestor_sha="b" * 40, runs=runs, before=before, runs_say=None, after=after, effect_probability=None,
        milestone_probability=None, is_claim_confirmed=False, story=[], would_change=[],
    )  # fmt: skip


def test_intervals_are_two_sd_and_are_cut_at_the_edge() -> None:
    chart = draw_evidence(make_evidence(Estimate(mean=3.28, sd=0.05), 3.25, 3.26))
    assert chart is not None
    before, first, second, together = chart.rows
    assert [row.role for row in chart.rows] == ["before", "run", "run", "after"]
    assert (before.low, before.high) == (0, 100) and before.value == "3.280 ± 0.050"
    assert first.name == "run 1, author" and first.value == "3.2500 ± 0.0050", "noise and what is unknown of the offset"
    assert 0 < first.low < together.low < first.middle == together.middle < second.middle < before.middle < 100
    assert [label for _, label in chart.ticks] == sorted(label for _, label in chart.ticks)


def test_without_runs_there_is_no_picture_and_without_an_ancestor_no_expectation() -> None:
    assert draw_evidence(make_evidence(Estimate(mean=3.28, sd=0.05))) is None
    chart = draw_evidence(make_evidence(None, 3.25))
    assert chart is not None and [row.role for row in chart.rows] == ["run", "after"]


def test_a_run_that_the_number_does_not_rest_on_is_set_aside() -> None:
    chart = draw_evidence(make_evidence(None, 3.2, 3.25, 3.26, is_checked=True))
    assert chart is not None and [row.role for row in chart.rows] == ["aside", "run", "run", "after"]


def test_a_topic_is_one_strip_for_each_class_and_bars_for_some() -> None:
    effects = [
        TopicEffect(
            experiment_id=number, finding_id=number, title="wider", direction=AxisDirection.UP, value=str(number),
            hardware_class="cpu" if number % 2 else "gpu", mean=0.001 * number - 0.01, sd=0.002, verdict=Verdict.WORSE,
            standing=Standing.PROVISIONAL, runs=1,
        )
        for number in range(1, 31)
    ]  # fmt: skip
    summary = TopicSummary(
        project="tiny", slug="width", axis="WIDTH", experiments=30, improved=0, no_change=0, worse=30, unresolved=0,
        failed=0, newest_at=now(),
    )  # fmt: skip
    topic = Topic(
        summary=summary, effects=effects, pools=[], findings_for=[], findings_against=[], open_findings=[], untested=[],
        follow_ups=[], as_of=now(),
    )  # fmt: skip
    chart = draw_topic(topic, 1.0, effects[:5])
    assert chart is not None and len(chart.rows) == 5 and chart.effects == 30
    assert {name: strip["worse"].count("M") for name, strip in chart.strips.items()} == {"cpu": 15, "gpu": 15}
    assert 0 < chart.zero < 100 and chart.better == "left"


def make_step(number: int, metric: float, effect: float | None, standing: Standing = Standing.VERIFIED) -> LineageStep:
    posterior = Posterior(
        metric_mean=metric, metric_sd=0.004, effect_mean=effect, effect_sd=effect and 0.005, runs=3, standing=standing
    )
    return LineageStep(
        sha=str(number) * 40, parent_sha=None, depth=number, project="tiny", experiment_id=number or None, title="t",
        axis="", value="", worker="w", hardware_class="cpu", posterior=posterior, created_at=now(),
    )  # fmt: skip


def test_a_waterfall_ends_at_the_metric_whatever_its_steps_add_up_to() -> None:
    rejected = make_step(2, 3.9, 0.7, Standing.REJECTED)
    chart = draw_waterfall([make_step(0, 3.3, None), make_step(1, 3.2, -0.1), rejected, make_step(3, 3.12, -0.09)], 1.0)
    assert chart is not None
    root, first, last, whole = chart.rows
    assert [row.bar.experiment_id for row in chart.rows] == [0, 1, 3, 0], "no effect is counted from what was rejected"
    assert root.bar.middle == first.start + first.width and first.bar.middle == last.start + last.width
    assert (whole.bar.name, whole.bar.value) == ("as all runs tell it", "3.1200 \u00b1 0.0040")
    assert whole.start == last.bar.middle < whole.bar.middle == round(whole.start + whole.width, 2)
    alone = draw_waterfall([make_step(0, 3.3, None)], 1.0)
    assert alone is not None and [row.bar.value for row in alone.rows] == ["3.3000 \u00b1 0.0040"]
    first = draw_waterfall([make_step(1, 3.2, None)], 1.0)
    assert first is not None and [row.bar.value for row in first.rows] == ["3.2000 \u00b1 0.0040"], (
        "no effect of nothing"
    )
