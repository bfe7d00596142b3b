"""Progress of projects, kept as runs come: counts, bins of runs, who led, and what each week brought."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base, Sha


class ClassProgress(Base):
    """Counts of a project's runs in a hardware class up to `through_run_id`, of which `experiments` made their commit.

    The bins hold `width` runs each, a power of two, in the order of their ids, in which they were committed. They
    are to be made again where `is_stale`: a maintainer changed what counts.
    """

    __tablename__ = "class_progress"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    hardware_class: Mapped[str] = mapped_column(String(200), primary_key=True)
    runs: Mapped[int]
    experiments: Mapped[int]
    through_run_id: Mapped[int]
    width: Mapped[int]
    is_stale: Mapped[bool] = mapped_column(default=False)


class StoredBin(Base):
    """A bin of a class's runs, counted from 0: counts by outcome, and the best measurement that counts.

    `leading` is the leader's metric when the last of its runs had come.
    """

    __tablename__ = "progress_bins"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    hardware_class: Mapped[str] = mapped_column(String(200), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    first_run_id: Mapped[int]
    last_run_id: Mapped[int]
    runs: Mapped[int]
    ok: Mapped[int]
    crashed: Mapped[int]
    timeout: Mapped[int]
    stopped_early: Mapped[int]
    invalid: Mapped[int]
    best: Mapped[float | None]
    best_run_id: Mapped[int | None]
    leading: Mapped[float | None]


class LeaderChange(Base):
    """A commit that came to lead a class, by the posterior that it had then: as its record, or provisionally."""

    __tablename__ = "leader_changes"
    __table_args__ = (
        Index("ix_leader_changes_class", "project_id", "hardware_class", "is_record", "id"),
        Index("ix_leader_changes_week", "project_id", "changed_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    hardware_class: Mapped[str] = mapped_column(String(200))
    is_record: Mapped[bool]
    run_number: Mapped[int]
    commit_sha: Mapped[str] = mapped_column(Sha)
    metric_mean: Mapped[float]
    metric_sd: Mapped[float]
    changed_at: Mapped[datetime]


class Contribution(Base):
    """A volunteer's runs in a class that its progress counts: of the `month` in which they ended (`2026-11`, UTC),
    or of all time (empty).

    Runs that a quarantine keeps from counting are left out. `checks` are measurements of commits that the coordinator
    chose; `seconds` is the wall time of runs, whatever came of them.
    """

    __tablename__ = "contributions"
    __table_args__ = (Index("ix_contributions_month", "month"), Index("ix_contributions_volunteer", "volunteer_id"))

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    hardware_class: Mapped[str] = mapped_column(String(200), primary_key=True)
    volunteer_id: Mapped[int] = mapped_column(ForeignKey("volunteers.id"), primary_key=True)
    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    runs: Mapped[int]
    experiments: Mapped[int]
    checks: Mapped[int]
    seconds: Mapped[float]


class TopicCount(Base):
    """Counts of a topic's experiments, those whose first run is counted in their class's progress and whose author is
    in no quarantine.

    `axis` is as one of them wrote it; `newest_at` is the latest date on which one was done, None where none is known.
    Verdicts, and what became of the gains that were seen in one run, are those of `counted_at`; the other counts are
    kept as runs come.
    """

    __tablename__ = "topic_counts"
    __table_args__ = (
        Index("ix_topic_counts_newest", "project_id", "newest_id"),
        Index("ix_topic_counts_counted", "counted_at"),
    )

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    topic: Mapped[str] = mapped_column(String(80), primary_key=True)
    axis: Mapped[str] = mapped_column(String(200))
    experiments: Mapped[int]
    improved: Mapped[int]
    no_change: Mapped[int]
    worse: Mapped[int]
    unresolved: Mapped[int]
    failed: Mapped[int]
    gains_seen: Mapped[int] = mapped_column(default=0)
    gains_measured_again: Mapped[int] = mapped_column(default=0)
    gains_held: Mapped[int] = mapped_column(default=0)
    newest_id: Mapped[int]
    newest_at: Mapped[datetime | None]
    counted_at: Mapped[datetime]


class StoredDigest(Base):
    """A project's digest of an ISO week, as `2026-W48`: a `shared.digests.Digest`. One that `is_final` is not made
    again."""

    __tablename__ = "digests"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    week: Mapped[str] = mapped_column(String(8), primary_key=True)
    runs: Mapped[int]
    is_final: Mapped[bool]
    content: Mapped[dict[str, Any]]
    made_at: Mapped[datetime]
