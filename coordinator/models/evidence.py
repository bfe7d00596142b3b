"""Runs, and what they say together: a commit's posterior in a hardware class."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, and_, text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base, LargeCount, Sha
from shared.experiments import Dispute, Verdict

REPORT = "report"
"""The group of a run's large columns, which only its own page needs: `undefer_group(REPORT)` loads them."""

_FAILED, _HAS_METRICS = text("outcome <> 'ok'"), text("metrics IS NOT NULL")
IS_FAILED = text("runs.outcome <> 'ok'")
HAS_METRICS = text("runs.metrics IS NOT NULL")
"""That a run failed, or has further metrics, as SQLite must read it to use the index."""


class Run(Base):
    """One measurement of one commit by one worker with one seed. Seconds are wall time.

    `kind` is that of its lease. `is_check`: it may verify its commit. `counts` is false while a maintainer's quarantine
    keeps it out of the evidence. `trust` is what was known of its worker when it came (`shared.records.Trust`).
    `pace`, `seed_throughput` and `rung` are its lease's. Nobody is shown `holdout_metric`. What an imported session
    does not say is None; `metrics` are the further ones that it says.
    """

    __tablename__ = "runs"
    __table_args__ = (
        Index("ix_runs_commit_sha_hardware_class", "commit_sha", "hardware_class"),
        Index("ix_runs_project_id_id", "project_id", "id"),
        Index("ix_runs_experiment_id_id", "experiment_id", "id"),
        Index("ix_runs_class", "project_id", "hardware_class", "id"),
        Index("ix_runs_done", "project_id", "finished_at", "id"),
        Index("ix_runs_metric", "project_id", "hardware_class", "metric", "id"),
        *(
            Index(f"ix_runs_{name}", "project_id", name, "id")
            for name in ("training_seconds", "peak_memory_mib", "steps", "tokens", "parameters")
        ),
        Index("ix_runs_metrics", "project_id", "id", sqlite_where=_HAS_METRICS, postgresql_where=_HAS_METRICS),
        Index("ix_runs_outcome", "project_id", "outcome", "id", sqlite_where=_FAILED, postgresql_where=_FAILED),
        Index("ix_runs_failed", "worker_id", "id", sqlite_where=_FAILED, postgresql_where=_FAILED),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    uuid: Mapped[UUID] = mapped_column(unique=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    commit_sha: Mapped[str] = mapped_column(ForeignKey("commits.sha"))
    experiment_id: Mapped[int | None] = mapped_column(ForeignKey("experiments.id"))
    worker_id: Mapped[int] = mapped_column(ForeignKey("workers.id"), index=True)
    lease_id: Mapped[UUID] = mapped_column(ForeignKey("leases.id"))
    kind: Mapped[str] = mapped_column(String(20))
    is_check: Mapped[bool]
    counts: Mapped[bool]
    trust: Mapped[str] = mapped_column(String(20))
    hardware_class: Mapped[str] = mapped_column(String(200))
    hardware: Mapped[dict[str, Any]] = mapped_column(deferred=True, deferred_group=REPORT)
    seed: Mapped[int | None]
    outcome: Mapped[str] = mapped_column(String(20))
    metric: Mapped[float | None]
    holdout_metric: Mapped[float | None] = mapped_column(deferred=True)
    reason: Mapped[str] = mapped_column(Text)
    frame: Mapped[str] = mapped_column(Text)
    starting_seconds: Mapped[float | None]
    training_seconds: Mapped[float | None]
    scoring_seconds: Mapped[float | None]
    total_seconds: Mapped[float | None]
    budget_seconds: Mapped[float | None]
    before_start_seconds: Mapped[float | None]
    pace: Mapped[float] = mapped_column(default=1.0)
    seed_throughput: Mapped[float | None]
    rung: Mapped[str | None] = mapped_column(String(63))
    steps: Mapped[int | None] = mapped_column(LargeCount)
    tokens: Mapped[int | None] = mapped_column(LargeCount)
    parameters: Mapped[int | None] = mapped_column(LargeCount)
    scored_bytes: Mapped[int | None] = mapped_column(LargeCount)
    peak_memory_mib: Mapped[int | None] = mapped_column(LargeCount)
    curve: Mapped[list[Any]] = mapped_column(deferred=True, deferred_group=REPORT)
    metrics: Mapped[dict[str, Any] | None] = mapped_column(deferred=True, deferred_group=REPORT)
    log_tail: Mapped[str] = mapped_column(Text, deferred=True, deferred_group=REPORT)
    hopeless_at: Mapped[float | None]
    usage: Mapped[dict[str, Any] | None] = mapped_column(deferred=True, deferred_group=REPORT)
    sandbox: Mapped[str] = mapped_column(String(40))
    limits: Mapped[list[Any] | None] = mapped_column(deferred=True, deferred_group=REPORT)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


_VERIFIED, IS_VERIFIED = text("standing = 'verified'"), text("commit_posteriors.standing = 'verified'")
FAILING = 3  # failures in a row from which a worker is failing
_HELD, _DISPUTED, _FAILING = text("standing = 'held'"), text("dispute <> 'none'"), text(f"failures_in_row >= {FAILING}")
IS_HELD, IS_DISPUTED = text("commit_posteriors.standing = 'held'"), text("commit_posteriors.dispute <> 'none'")
IS_FAILING = text(f"calibrations.{_FAILING}")
"""Conditions of the indexes of what waits for moderators, as SQLite must read them to use these indexes."""


_OF_CLASS, _FILTERED = ("project_id", "hardware_class"), ("verdict", "standing")
"""Columns of indexes by which lists are ordered, before and behind the number: filters read nothing else."""


class CommitPosterior(Base):
    """Mean and sd of a commit's metric and effect in a hardware class, given all runs.

    `rank_score` orders the frontier: the metric's mean, its sign turned so that lower is better. `milestone_*` is the
    difference to the anchor (the nearest verified ancestor, else the root), whose own sd is `anchor_sd`. `measured_*`
    is the metric as the commit's own runs tell it, whatever was expected.
    """

    __tablename__ = "commit_posteriors"
    __table_args__ = (
        Index("ix_commit_posteriors_frontier", "project_id", "hardware_class", "standing", "rank_score", "commit_sha"),
        Index("ix_commit_posteriors_verified", "commit_sha", sqlite_where=_VERIFIED, postgresql_where=_VERIFIED),
        Index("ix_commit_posteriors_effect", *_OF_CLASS, "effect_mean", "commit_sha", *_FILTERED, "metric_mean"),
        Index("ix_commit_posteriors_metric", *_OF_CLASS, "metric_mean", "commit_sha", *_FILTERED, "effect_mean"),
        Index("ix_commit_posteriors_standing", "project_id", "standing", "commit_sha"),
        Index("ix_commit_posteriors_verdict", "project_id", "verdict", "commit_sha"),
        Index("ix_commit_posteriors_held", "updated_at", sqlite_where=_HELD, postgresql_where=_HELD),
        Index("ix_commit_posteriors_disputed", "updated_at", sqlite_where=_DISPUTED, postgresql_where=_DISPUTED),
    )

    commit_sha: Mapped[str] = mapped_column(ForeignKey("commits.sha"), primary_key=True)
    hardware_class: Mapped[str] = mapped_column(String(200), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    metric_mean: Mapped[float]
    metric_sd: Mapped[float]
    measured_mean: Mapped[float | None]
    measured_sd: Mapped[float | None]
    effect_mean: Mapped[float | None]
    effect_sd: Mapped[float | None]
    milestone_mean: Mapped[float | None]
    milestone_sd: Mapped[float | None]
    anchor_sd: Mapped[float | None]
    runs: Mapped[int]
    checkers: Mapped[int]
    verdict: Mapped[str | None] = mapped_column(String(20))
    standing: Mapped[str] = mapped_column(String(20))
    dispute: Mapped[str] = mapped_column(String(20))
    caches_emptied: Mapped[bool] = mapped_column(default=False)
    rank_score: Mapped[float]
    updated_at: Mapped[datetime]


IS_MEASURED_AGAIN = CommitPosterior.checkers >= 1
"""That another volunteer than its author measured a commit."""

HOLDS_AGAIN = and_(
    IS_MEASURED_AGAIN, CommitPosterior.verdict == Verdict.IMPROVED, CommitPosterior.dispute == Dispute.NONE
)
"""That a commit was measured again, and is an improvement still."""


class EvidenceEpoch(Base):
    """Estimates of a hardware class from the runs up to `through_run_id`, frozen until the next epoch.

    Every change of the class's evidence locks this row first. `rules` is the version of the program's rules
    (`epochs.RULES`) by which its posteriors were derived. `disputed_noise_sd` is the noise that the runs give, if it is
    so large that a maintainer should look at them. Workers' offsets have the sd `offset_sd` and change by
    `throughput_slope` with the logarithm of their throughput; their gains, counted from the metric `centre`, are
    multiplied by a factor that has the sd `gain_sd`. None until they are learnt. `seed_throughput` is the class's
    reference, by which budgets are normalised. `effects` are the learnt priors of effects by kind of job, `all` for the
    others: what `statistics.EffectPrior` holds, in its order.

    Since `ended_at` the next epoch is due, which a background task begins; None while none is. `underived_sha` is the
    first commit, by depth and name, whose posterior that task has still to derive by these estimates. When it comes to
    the end it begins again at `again_sha`, the first commit above from which on a result changed posteriors meanwhile.
    """

    __tablename__ = "evidence_epochs"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    hardware_class: Mapped[str] = mapped_column(String(200), primary_key=True)
    number: Mapped[int]
    noise_sd: Mapped[float]
    through_run_id: Mapped[int]
    runs: Mapped[int]
    rules: Mapped[int]
    disputed_noise_sd: Mapped[float | None]
    offset_sd: Mapped[float | None]
    gain_sd: Mapped[float | None]
    throughput_slope: Mapped[float | None]
    centre: Mapped[float | None]
    seed_throughput: Mapped[float | None]
    effects: Mapped[dict[str, Any] | None]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    underived_sha: Mapped[str | None] = mapped_column(Sha)
    again_sha: Mapped[str | None] = mapped_column(Sha)


class Calibration(Base):
    """A worker in a project and hardware class: its offset in this epoch, and the outcomes of its jobs.

    `through_run_id` is the newest run that the offset was estimated from, above the epoch's own for a newcomer.
    `parent_sha` is the commit that its last experiment started from. `gain_mean` and `gain_sd` are of the factor by
    which this worker's gains exceed the class's, less one; the offset is that at the metric `pivot`.
    `seed_throughput` is the newest that it measured.
    """

    __tablename__ = "calibrations"
    __table_args__ = (Index("ix_calibrations_failing", "updated_at", sqlite_where=_FAILING, postgresql_where=_FAILING),)

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    hardware_class: Mapped[str] = mapped_column(String(200), primary_key=True)
    worker_id: Mapped[int] = mapped_column(ForeignKey("workers.id"), primary_key=True)
    volunteer_id: Mapped[int] = mapped_column(ForeignKey("volunteers.id"))
    offset_mean: Mapped[float | None]
    offset_sd: Mapped[float | None]
    gain_mean: Mapped[float | None]
    gain_sd: Mapped[float | None]
    pivot: Mapped[float | None]
    seed_throughput: Mapped[float | None]
    through_run_id: Mapped[int | None]
    jobs_done: Mapped[int]
    seed_measured: Mapped[int]
    seed_failed: Mapped[int]
    failures_in_row: Mapped[int]
    parent_sha: Mapped[str | None] = mapped_column(Sha)
    updated_at: Mapped[datetime]


class PastOffset(Base):
    """A worker's offset in an earlier or the present epoch of a hardware class, as it was estimated when it began."""

    __tablename__ = "past_offsets"

    worker_id: Mapped[int] = mapped_column(ForeignKey("workers.id"), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    hardware_class: Mapped[str] = mapped_column(String(200), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    offset_mean: Mapped[float]
    offset_sd: Mapped[float]
    started_at: Mapped[datetime]


class TrustRecord(Base):
    """Replications of a volunteer's measurements in a project; `agreements` counts since the last contradiction.

    Of the volunteer's `claims` of a gain, `replications_due` had to be replicated.
    """

    __tablename__ = "trust_records"
    __table_args__ = (Index("ix_trust_records_volunteer", "volunteer_id", "agreements"),)

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    volunteer_id: Mapped[int] = mapped_column(ForeignKey("volunteers.id"), primary_key=True)
    agreements: Mapped[int]
    contradictions: Mapped[int]
    claims: Mapped[int]
    replications_due: Mapped[int]
    updated_at: Mapped[datetime]


class TrustAgreement(Base):
    """A volunteer's check of a commit that agrees with a check by an anchor or a vouched volunteer in the same class.

    They are what vouches for the volunteer. A contradiction removes all of a volunteer's in the project.
    """

    __tablename__ = "trust_agreements"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    hardware_class: Mapped[str] = mapped_column(String(200), primary_key=True)
    volunteer_id: Mapped[int] = mapped_column(ForeignKey("volunteers.id"), primary_key=True)
    commit_sha: Mapped[str] = mapped_column(ForeignKey("commits.sha"), primary_key=True)
    by_volunteer_id: Mapped[int] = mapped_column(ForeignKey("volunteers.id"), primary_key=True)
    is_by_anchor: Mapped[bool]
    agreed_at: Mapped[datetime]


class DueReplication(Base):
    """A result that somebody other than its volunteer is to replicate, because of the share that its trust demands; or,
    `for_anchors`, that anchors are to, because a maintainer sent it to them."""

    __tablename__ = "due_replications"
    __table_args__ = (Index("ix_due_replications_class", "project_id", "hardware_class", "created_at"),)

    commit_sha: Mapped[str] = mapped_column(ForeignKey("commits.sha"), primary_key=True)
    hardware_class: Mapped[str] = mapped_column(String(200), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    volunteer_id: Mapped[int] = mapped_column(ForeignKey("volunteers.id"))
    for_anchors: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]


class HeldDecision(Base):
    """A maintainer's decision (a `shared.experiments.HeldDecisionKind`) on a commit's results in a hardware class."""

    __tablename__ = "held_decisions"

    commit_sha: Mapped[str] = mapped_column(ForeignKey("commits.sha"), primary_key=True)
    hardware_class: Mapped[str] = mapped_column(String(200), primary_key=True)
    decision: Mapped[str] = mapped_column(String(20))
    decided_by: Mapped[str] = mapped_column(String(80))
    reason: Mapped[str] = mapped_column(Text)
    decided_at: Mapped[datetime]


class HoldoutSecret(Base):
    """The secret of a project's sealed windows, in hexadecimal digits.

    In a table of its own, so that nothing that reads a project holds it.
    """

    __tablename__ = "holdout_secrets"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    secret: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]


class HoldoutCheck(Base):
    """Outcome of a confirmed commit's check on sealed windows in a class. A commit is checked once.

    `released` is its number, rounded to `step`; None if it is not better than the last one released by `step`, and then
    `gap_*`, by how much the gain is smaller on sealed windows, is empty, too. All are in the metric's unit.
    """

    __tablename__ = "holdout_checks"
    __table_args__ = (Index("ix_holdout_checks_class", "project_id", "hardware_class"),)

    commit_sha: Mapped[str] = mapped_column(ForeignKey("commits.sha"), primary_key=True)
    hardware_class: Mapped[str] = mapped_column(String(200), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    released: Mapped[float | None]
    step: Mapped[float]
    gap_mean: Mapped[float | None]
    gap_sd: Mapped[float | None]
    is_alarm: Mapped[bool]
    created_at: Mapped[datetime]


class Promotion(Base):
    """A record of a class, run on a rung of the contract beside `base_sha`, the last promoted commit or the root.

    It is closed once it settled or was given up. What its pairs of runs say is derived again with each of them: the
    `effect`, commit minus base, on the rung; `budget_effect` with the contract's budget; and `ratio`, the first over
    the second, with its interval. `holds` is None until enough pairs agree.
    """

    __tablename__ = "promotions"
    __table_args__ = (
        UniqueConstraint("project_id", "hardware_class", "rung", "commit_sha"),
        Index("ix_promotions_commit", "commit_sha"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    hardware_class: Mapped[str] = mapped_column(String(200))
    rung: Mapped[str] = mapped_column(String(63))
    commit_sha: Mapped[str] = mapped_column(ForeignKey("commits.sha"))
    base_sha: Mapped[str] = mapped_column(ForeignKey("commits.sha"))
    pairs: Mapped[int] = mapped_column(default=0)
    volunteers: Mapped[int] = mapped_column(default=0)
    left_out: Mapped[int] = mapped_column(default=0)
    effect_mean: Mapped[float | None]
    effect_sd: Mapped[float | None]
    budget_effect_mean: Mapped[float | None]
    budget_effect_sd: Mapped[float | None]
    ratio: Mapped[float | None]
    ratio_low: Mapped[float | None]
    ratio_high: Mapped[float | None]
    holds: Mapped[bool | None]
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class PromotionLease(Base):
    """A lease that runs a promotion's commit or its base. The two leases of a pair are of one worker and one seed."""

    __tablename__ = "promotion_leases"
    __table_args__ = (Index("ix_promotion_leases_promotion", "promotion_id"),)

    lease_id: Mapped[UUID] = mapped_column(ForeignKey("leases.id"), primary_key=True)
    promotion_id: Mapped[int] = mapped_column(ForeignKey("promotions.id"))
