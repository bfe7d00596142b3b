"""Topics: all that is known along one axis of a project, from its findings and their effects."""

import re
from enum import StrEnum
from functools import lru_cache

from pydantic import Field, StrictBool

from shared.experiments import AxisDirection, Standing, Verdict
from shared.findings import FindingSummary
from shared.formatting import count_noun
from shared.protocol import Count, Message, Number, Text, Timestamp

MAX_TOPIC_CHARACTERS = 80


@lru_cache(maxsize=4_096)
def name_topic(axis: str) -> str:
    """An axis as it stands in addresses: `weight-decay` for WEIGHT_DECAY and for "Weight decay"."""
    return "-".join(re.findall(r"[^\W_]+", axis.casefold()))[:MAX_TOPIC_CHARACTERS].strip("-") or "other"


class GainFates(Message):
    """Gains seen in one run, and what became of them. Of `seen`, other volunteers `measured_again` so many; `held` of
    these are improvements still. Counted among a project's newest 4,000 findings, or all of a topic's."""

    seen: Count
    measured_again: Count
    held: Count

    @property
    def sentence(self) -> str:
        gains = count_noun(self.seen, "gain")
        again = f"{self.measured_again:,} {'was' if self.measured_again == 1 else 'were'} measured again by others"
        return f"Of {gains} seen in one run, {again}: {self.held:,} held."


class TopicSort(StrEnum):
    """Orders of a list of topics: by the newest experiment, by the latest date on which one was done (without those
    whose dates are not known), or by a number of experiments, highest first."""

    NEWEST = "newest"
    DONE = "done"
    EXPERIMENTS = "experiments"
    IMPROVED = "improved"
    WORSE = "worse"
    FAILED = "failed"


class TopicSummary(Message):
    """An axis in the list, with counts of its experiments by outcome. `slug` names it in addresses."""

    project: Text
    slug: Text
    axis: Text
    experiments: Count
    improved: Count
    no_change: Count
    worse: Count
    unresolved: Count
    failed: Count
    newest_at: Timestamp | None


class TopicEffect(Message):
    """`old_value` is the parent's; empty where it is not known."""

    experiment_id: Count
    finding_id: Count
    title: Text
    direction: AxisDirection
    old_value: Text = ""
    value: Text
    hardware_class: Text
    mean: Number
    sd: Number
    runs: Count
    verdict: Verdict | None
    standing: Standing


class TopicPool(Message):
    """A random-effects mean of the effects in one direction, in a hardware class or (None) in all of them.

    `between_sd` is the sd of the true effects, which differ as the steps do; `outliers` are left out of the mean. What
    is pooled is what the runs tell, while each `TopicEffect` is drawn towards what is expected of any effect.
    """

    direction: AxisDirection
    hardware_class: Text | None
    experiments: Count
    mean: Number
    sd: Number
    between_sd: Number
    outliers: Count


class TopicLevel(Message):
    """The metric at a value of the axis minus that at the value whose `mean` and `sd` are 0, by all steps
    together that lead from value to value, in a hardware class or (None) in all of them. `steps` begin or end there."""

    hardware_class: Text | None
    value: Number
    mean: Number
    sd: Number
    steps: Count


class TopicElsewhere(Message):
    """The same axis in another project, whose metric may be another one."""

    summary: TopicSummary
    metric: Text
    is_lower_better: StrictBool
    pools: list[TopicPool]


class UntestedValue(Message):
    value: Text
    hardware_class: Text | None
    why: Text


class OpenFollowUp(Message):
    finding_id: Count
    experiment_id: Count
    text: Text


class Topic(Message):
    summary: TopicSummary
    effects: list[TopicEffect]
    pools: list[TopicPool]
    levels: list[TopicLevel] = Field(default_factory=list)
    elsewhere: list[TopicElsewhere] = Field(default_factory=list)
    gains: GainFates = GainFates(seen=0, measured_again=0, held=0)
    findings_for: list[FindingSummary]
    findings_against: list[FindingSummary]
    open_findings: list[FindingSummary]
    untested: list[UntestedValue]
    follow_ups: list[OpenFollowUp]
    as_of: Timestamp
