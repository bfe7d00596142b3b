"""Questions about one finding: its evidence in every hardware class, what bears on it, and who read it."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import and_, distinct, func, select
from sqlalchemy.orm import Session, aliased

from coordinator.db.engine import Conn, LabelledRow
from coordinator.models import (
    AssembledStep,
    AuditEntry,
    Citation,
    CommitPosterior,
    Experiment,
    Finding,
    FindingNote,
    FindingVersion,
    Lease,
    Run,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.models.base import is_of_commit
from coordinator.models.evidence import HOLDS_AGAIN, IS_MEASURED_AGAIN
from coordinator.models.findings import IS_SHOWN
from shared.experiments import Assignment, JobKind, StepFate, Verdict
from shared.findings import ClassEvidence
from shared.moderation import AuditAction, SubjectKind
from shared.runs import RunOutcome
from shared.topics import GainFates

MAX_RIVALS = 20
_IS_DONE = AssembledStep.fate == StepFate.DONE


def list_classes(session: Conn, sha: str) -> list[ClassEvidence]:
    """The hardware classes that a commit was measured in, the one with the most runs first."""
    volunteers = func.count(distinct(Worker.volunteer_id)).label("volunteers")
    runs = (
        select(Run.hardware_class, func.count().label("runs"), volunteers)
        .join(Worker, Worker.id == Run.worker_id)
        .where(Run.commit_sha == sha, Run.outcome == RunOutcome.OK)
        .group_by(Run.hardware_class)
        .subquery()
    )
    posterior = aliased(CommitPosterior, name="posterior")
    is_same = is_of_commit(posterior, sha, runs.c.hardware_class)
    query = select(runs, posterior).outerjoin(posterior, is_same).order_by(runs.c.runs.desc(), runs.c.hardware_class)
    return [ClassEvidence.model_validate(row, from_attributes=True) for row in session.execute(query)]


def count_volunteers(session: Conn, sha: str) -> int:
    """Of all classes together."""
    query = select(func.count(distinct(Worker.volunteer_id))).join(Run, Run.worker_id == Worker.id)
    return session.scalar(query.where(Run.commit_sha == sha, Run.outcome == RunOutcome.OK)) or 0


def map_run_times(session: Conn, sha: str) -> dict[int, datetime]:
    """When each run of a commit came, by its number."""
    query = select(Run.id, Run.created_at).where(Run.commit_sha == sha)
    return {row.id: row.created_at for row in session.execute(query)}


def find_first_metric(session: Conn, experiment_id: int) -> float | None:
    """The metric of an experiment's first run."""
    query = select(Run.metric).where(Run.experiment_id == experiment_id).order_by(Run.id).limit(1)
    return session.scalar(query)


def find_assignment(session: Conn, lease_id: UUID) -> Assignment:
    """The assignment of an experiment's job."""
    return Assignment.model_validate(session.scalar(select(Lease.assignment).where(Lease.id == lease_id)) or {})


def list_done_steps(session: Conn, experiment_id: int) -> set[int]:
    """The experiments whose steps this one was put together from."""
    query = select(AssembledStep.step_id).where(AssembledStep.experiment_id == experiment_id, _IS_DONE)
    return set(session.scalars(query))


RivalRow = tuple[Experiment, CommitPosterior]


def list_ablations(session: Session, experiment_id: int, hardware_class: str) -> list[RivalRow]:
    """Experiments that took this one's step out of a line, measured in the class."""
    query = (
        _measured(hardware_class)
        .join(AssembledStep, AssembledStep.experiment_id == Experiment.id)
        .where(AssembledStep.step_id == experiment_id, Experiment.kind == JobKind.ABLATE, _IS_DONE)
    )
    return [(experiment, posterior) for experiment, posterior in session.execute(query)]


def list_same_steps(session: Session, experiment: Experiment, hardware_class: str) -> list[RivalRow]:
    """Later experiments that changed the same thing to the same value, measured in the class."""
    if not experiment.value:
        return []
    query = _measured(hardware_class).where(
        Experiment.project_id == experiment.project_id,
        Experiment.topic == experiment.topic,
        Experiment.value == experiment.value,
        Experiment.direction == experiment.direction,
        Experiment.id > experiment.id,
        Experiment.kind != JobKind.ABLATE,
    )
    return [(other, posterior) for other, posterior in session.execute(query)]


def _measured(hardware_class: str) -> Any:
    is_its = is_of_commit(CommitPosterior, Experiment.commit_sha, hardware_class)
    return select(Experiment, CommitPosterior).join(CommitPosterior, is_its).order_by(Experiment.id).limit(MAX_RIVALS)


def find_parent_id(session: Conn, parent_sha: str) -> int | None:
    """The experiment that made a commit; None for the root."""
    return session.scalar(select(Experiment.id).where(Experiment.commit_sha == parent_sha))


def count_all_citations(session: Conn, finding_id: int) -> tuple[int, int]:
    """Experiments whose agents had a finding to read, and those of them that are improvements which others measured."""
    is_confirmed = and_(CommitPosterior.commit_sha == Experiment.commit_sha, HOLDS_AGAIN)
    of_it = Citation.finding_id == finding_id
    every = session.scalar(select(func.count()).select_from(Citation).where(of_it)) or 0
    confirmed = (
        select(func.count(distinct(Experiment.id)))
        .select_from(Citation)
        .join(Experiment, Experiment.id == Citation.experiment_id)
        .join(CommitPosterior, is_confirmed)
        .where(of_it)
    )
    return every, session.scalar(confirmed) or 0


def list_notes(session: Session, finding_id: int) -> list[tuple[FindingNote, Volunteer]]:
    """The notes on a finding, oldest first."""
    query = (
        select(FindingNote, Volunteer)
        .join(Volunteer, Volunteer.id == FindingNote.volunteer_id)
        .where(FindingNote.finding_id == finding_id)
    )
    return [(note, volunteer) for note, volunteer in session.execute(query.order_by(FindingNote.id))]


def find_note_by_key(session: Session, key: UUID) -> tuple[FindingNote, Volunteer] | None:
    query = select(FindingNote, Volunteer).join(Volunteer, Volunteer.id == FindingNote.volunteer_id)
    row = session.execute(query.where(FindingNote.key == key)).one_or_none()
    return (row[0], row[1]) if row else None


def find_version_by_key(session: Session, key: UUID) -> FindingVersion | None:
    return session.scalar(select(FindingVersion).where(FindingVersion.key == key))


def find_author(session: Conn, finding: Finding) -> int:
    """The volunteer whose worker left a finding."""
    query = select(Worker.volunteer_id).join(Experiment, Experiment.worker_id == Worker.id)
    return session.scalars(query.where(Experiment.id == finding.experiment_id)).one()


def find_last_retractor(session: Session, finding_id: int) -> int | None:
    """The volunteer who retracted a finding that is retracted; None where a command did, or it was one of many."""
    of_finding = AuditEntry.subject == SubjectKind.FINDING, AuditEntry.key == str(finding_id)
    last = session.scalar(select(AuditEntry).where(*of_finding).order_by(AuditEntry.id.desc()).limit(1))
    is_retraction = last is not None and last.action == AuditAction.RETRACT_FINDING and last.undoes_id is None
    return last.volunteer_id if last is not None and is_retraction else None


def map_settings(session: Conn, shas: Collection[str]) -> dict[str, dict[str, Any]]:
    """The settings of the experiments that made some commits."""
    rows = session.execute(select(Experiment.commit_sha, Experiment.settings).where(Experiment.commit_sha.in_(shas)))
    return {row[0]: row[1] for row in rows}


MAX_COUNTED = 4_000
"""Number of newest findings of a project whose gains are followed up."""


def count_gains(session: Conn, project_id: int) -> GainFates:
    """The fates of gains that were seen in one run."""
    newest = (
        select(Finding.experiment_id, Finding.hardware_class, Finding.written_verdict)
        .where(~Finding.is_hidden, Finding.project_id == project_id)
        .order_by(Finding.id.desc())
        .limit(MAX_COUNTED)
    )
    claims = newest.subquery()
    is_its = is_of_commit(CommitPosterior, Experiment.commit_sha, claims.c.hardware_class)
    query = (
        select(func.count(), func.count().filter(IS_MEASURED_AGAIN), func.count().filter(HOLDS_AGAIN))
        .select_from(claims)
        .join(Experiment, Experiment.id == claims.c.experiment_id)
        .outerjoin(CommitPosterior, is_its)
        .where(claims.c.written_verdict == Verdict.IMPROVED)
    )
    seen, measured_again, held = session.execute(query).one()
    return GainFates(seen=seen, measured_again=measured_again, held=held)


_ABOVE = aliased(CommitPosterior)  # made once: that takes as long as to read the effects of a small topic


def list_effects(
    session: Conn, project_id: int, topic: str, limit: int, before_id: int | None = None
) -> Sequence[LabelledRow]:
    """The newest effects along a topic in all hardware classes, as `TopicEffect` names their columns, with their
    commits and parents, retracted and hidden findings' left out; of experiments before `before_id`, if given.

    `measured_*` is what the runs tell of a commit, `parent_*` what is believed of its parent in the class.
    """
    posterior, above = CommitPosterior, _ABOVE
    query = (
        select(
            *(Experiment.id.label("experiment_id"), Finding.id.label("finding_id")),
            *(Experiment.title, Experiment.direction, Experiment.value, posterior.hardware_class),
            *(posterior.effect_mean.label("mean"), posterior.effect_sd.label("sd"), posterior.runs),
            *(posterior.verdict, posterior.standing, Experiment.commit_sha, Experiment.parent_sha),
            *(posterior.measured_mean, posterior.measured_sd, above.standing.label("parent_standing")),
            *(above.metric_mean.label("parent_mean"), above.metric_sd.label("parent_sd")),
        )
        .join(Finding, Finding.experiment_id == Experiment.id)
        .join(CommitPosterior, CommitPosterior.commit_sha == Experiment.commit_sha)
        .outerjoin(above, is_of_commit(above, Experiment.parent_sha, posterior.hardware_class))
        .where(Experiment.project_id == project_id, Experiment.topic == topic)
        .where(CommitPosterior.effect_mean.is_not(None), IS_SHOWN)
    )
    if before_id is not None:
        query = query.where(Experiment.id < before_id)
    return session.execute(query.order_by(Experiment.id.desc(), posterior.hardware_class).limit(limit)).all()


def list_outcomes(session: Conn, project_id: int, topic: str, limit: int) -> Sequence[LabelledRow]:
    """The outcomes of a topic's newest findings: `finding_id`, the `failure` that its run showed, the `verdict` as of
    now in the finding's own hardware class, and the `value` that was tried."""
    own = is_of_commit(CommitPosterior, Experiment.commit_sha, Finding.hardware_class)
    query = (
        select(Finding.id.label("finding_id"), Finding.failure, CommitPosterior.verdict, Experiment.value)
        .join(Experiment, Experiment.id == Finding.experiment_id)
        .outerjoin(CommitPosterior, own)
        .where(Experiment.project_id == project_id, Experiment.topic == topic, IS_SHOWN)
    )
    return session.execute(query.order_by(Experiment.id.desc()).limit(limit)).all()


_LATER = table_of(Experiment).alias("later")


def list_open_follow_ups(session: Session, project_id: int, topic: str, limit: int) -> Sequence[int]:
    """The newest findings of a topic that propose something, and from which nobody went on along this topic.

    Somebody did if an experiment on the topic started from their commit, or read them.
    """
    later = _LATER
    own = and_(later.c.project_id == project_id, later.c.topic == topic)
    # As a condition by itself PostgreSQL would compare each finding with all experiments of the topic.
    below = later.c.parent_sha == Experiment.commit_sha, later.c.topic == topic
    built_on = select(later.c.id).where(*below).limit(1).scalar_subquery()
    read = (
        select(later.c.id)
        .join(Citation, Citation.experiment_id == later.c.id)
        .where(own, Citation.finding_id == Finding.id)
        .exists()
    )
    query = (
        select(Finding.id)
        .join(Experiment, Experiment.id == Finding.experiment_id)
        .where(Experiment.project_id == project_id, Experiment.topic == topic, Finding.follow_ups != "")
        .where(IS_SHOWN, built_on.is_(None), ~read)
    )
    return session.scalars(query.order_by(Experiment.id.desc()).limit(limit)).all()
