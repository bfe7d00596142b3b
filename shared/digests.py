"""Digests: what a project found in one ISO week, in UTC."""

from typing import Annotated

from pydantic import StrictBool, StringConstraints

from shared.experiments import Standing, Verdict
from shared.protocol import Count, Message, Number, Sha, Slug, Text, Timestamp
from shared.topics import OpenFollowUp

Week = Annotated[str, StringConstraints(max_length=8, pattern=r"^20\d\d-W(0[1-9]|[1-4]\d|5[0-3])$")]


class LeaderStep(Message):
    """A commit that came to lead a hardware class in the week, with its metric as it was known then."""

    hardware_class: Text
    is_record: StrictBool
    sha: Sha
    experiment_id: Count | None
    title: Text
    volunteer: Text
    metric_mean: Number
    metric_sd: Number
    changed_at: Timestamp


class DigestClaim(Message):
    """An experiment whose effect the digest tells, as it was known when the digest was made. `effect` is
    metric(commit) − metric(parent)."""

    experiment_id: Count
    title: Text
    volunteer: Text
    hardware_class: Text
    predicted_effect: Number | None
    effect_mean: Number | None
    effect_sd: Number | None
    verdict: Verdict | None
    standing: Standing


class DigestPerson(Message):
    """A volunteer's work in the week. `improved` counts those of the experiments that are better than their parent as
    far as is known, by provisional verdicts, too; `checks` are runs of commits that the coordinator chose to have
    measured again."""

    name: Text
    experiments: Count
    improved: Count
    runs: Count
    checks: Count


class DigestSummary(Message):
    """A week of a project. It is made again while the week lasts, and once after its end; then it stays."""

    project: Slug
    week: Week
    starts_at: Timestamp
    ends_at: Timestamp
    made_at: Timestamp
    is_final: StrictBool
    runs: Count
    experiments: Count


class Digest(DigestSummary):
    """The lists hold the most telling entries, the counts beside them all of the week. `withheld` counts entries that
    are left out: of people in quarantine, of retracted papers, or called refuted by one measurement. `improved`,
    `no_change` and `worse` count provisional verdicts, too. `milestones` are gains that others measured, too; what is
    `refuted` was predicted to be better, and is not, as others measured, too."""

    improved: Count
    no_change: Count
    worse: Count
    unresolved: Count
    failed: Count
    records: list[LeaderStep]
    milestones: list[DigestClaim]
    milestones_in_all: Count
    refuted: list[DigestClaim]
    refuted_in_all: Count
    contradicted: list[DigestClaim]
    contradicted_in_all: Count
    open_questions: list[OpenFollowUp]
    open_questions_in_all: Count
    people: list[DigestPerson]
    people_in_all: Count
    withheld: Count = 0
