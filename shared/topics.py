"""Topics: what the swarm knows along one axis. Computed, not written."""

import re

from shared.experiments import AxisDirection, Standing, Verdict
from shared.findings import FindingSummary
from shared.protocol import Message, Timestamp

MAX_TOPIC = 80


def name_topic(axis: str) -> str:
    """An axis as it stands in addresses: `weight-decay` for WEIGHT_DECAY and for "Weight decay"."""
    return "-".join(re.findall(r"[^\W_]+", axis.casefold()))[:MAX_TOPIC].strip("-") or "other"


class TopicSummary(Message):
    """An axis in the list: how much was tried along it, and what came of that. `slug` names it in addresses."""

    project: str
    slug: str
    axis: str
    experiments: int
    improved: int
    no_change: int
    worse: int
    unresolved: int
    failed: int
    newest_at: Timestamp


class TopicEffect(Message):
    """One experiment's effect against its parent, in one hardware class."""

    experiment_id: int
    finding_id: int
    title: str
    direction: AxisDirection
    value: str
    hardware_class: str
    mean: float
    sd: float
    runs: int
    verdict: Verdict | None
    standing: Standing


class TopicPool(Message):
    """Effects in one direction taken together, in a hardware class or (None) in all of them.

    A random-effects mean that few effects cannot move far: the steps differ, so their true effects may, too.
    `between_sd` is how much they do; `outliers` of the experiments lie so far off that they count for nothing.
    """

    direction: AxisDirection
    hardware_class: str | None
    experiments: int
    mean: float
    sd: float
    between_sd: float
    outliers: int


class UntestedValue(Message):
    """A value, or a hardware class for a value, that nobody tried yet, and why it is worth a look."""

    value: str
    hardware_class: str | None
    why: str


class OpenFollowUp(Message):
    """What a finding proposes as next, and nobody did."""

    finding_id: int
    experiment_id: int
    text: str


class Topic(Message):
    """All that is known along an axis."""

    summary: TopicSummary
    effects: list[TopicEffect]
    pools: list[TopicPool]
    findings_for: list[FindingSummary]
    findings_against: list[FindingSummary]
    open_findings: list[FindingSummary]
    untested: list[UntestedValue]
    follow_ups: list[OpenFollowUp]
    as_of: Timestamp
