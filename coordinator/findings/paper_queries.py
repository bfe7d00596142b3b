"""Questions about one finding: its evidence in every hardware class, what bears on it, and who read it."""

from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import and_, distinct, func, select
from sqlalchemy.orm import Session

from coordinator.models import (
    AssembledStep,
    Citation,
    CommitPosterior,
    Experiment,
    Finding,
    FindingNote,
    FindingVersion,
    Run,
    Volunteer,
    Worker,
)
from shared.experiments import Dispute, JobKind, Verdict
from shared.runs import RunOutcome

MAX_RIVALS = 20


class ClassRow(NamedTuple):
    """Runs of a commit in a hardware class that measured something, and of how many volunteers they are."""

    hardware_class: str
    runs: int
    volunteers: int
    posterior: CommitPosterior | None


def list_classes(session: Session, sha: str) -> list[ClassRow]:
    """The hardware classes that a commit was measured in, the one with the most runs first."""
    runs = (
        select(
            Run.hardware_class, func.count().label("runs"), func.count(distinct(Worker.volunteer_id)).label("people")
        )
        .join(Worker, Worker.id == Run.worker_id)
        .where(Run.commit_sha == sha, Run.outcome == RunOutcome.OK)
        .group_by(Run.hardware_class)
        .subquery()
    )
    is_same = and_(CommitPosterior.commit_sha == sha, CommitPosterior.hardware_class == runs.c.hardware_class)
    query = select(runs.c.hardware_class, runs.c.runs, runs.c.people, CommitPosterior).outerjoin(
        CommitPosterior, is_same
    )
    return [ClassRow(*row) for row in session.execute(query.order_by(runs.c.runs.desc(), runs.c.hardware_class))]


def count_volunteers(session: Session, sha: str) -> int:
    """Of all classes together."""
    query = select(func.count(distinct(Worker.volunteer_id))).join(Run, Run.worker_id == Worker.id)
    return session.scalar(query.where(Run.commit_sha == sha, Run.outcome == RunOutcome.OK)) or 0


def map_run_times(session: Session, sha: str) -> dict[int, Any]:
    """When each run of a commit came, by its number."""
    return {
        row.id: row.created_at for row in session.execute(select(Run.id, Run.created_at).where(Run.commit_sha == sha))
    }


RivalRow = tuple[Experiment, CommitPosterior]


def list_ablations(session: Session, experiment_id: int, hardware_class: str) -> list[RivalRow]:
    """Experiments that took this one's step out of a line, measured in the class."""
    query = (
        _measured(hardware_class)
        .join(AssembledStep, AssembledStep.experiment_id == Experiment.id)
        .where(AssembledStep.step_id == experiment_id, Experiment.kind == JobKind.ABLATE)
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
    is_its = and_(CommitPosterior.commit_sha == Experiment.commit_sha, CommitPosterior.hardware_class == hardware_class)
    return select(Experiment, CommitPosterior).join(CommitPosterior, is_its).order_by(Experiment.id).limit(MAX_RIVALS)


def find_parent_id(session: Session, parent_sha: str) -> int | None:
    """The experiment that made a commit; None for the root."""
    return session.scalar(select(Experiment.id).where(Experiment.commit_sha == parent_sha))


def count_all_citations(session: Session, finding_id: int) -> tuple[int, int]:
    """Experiments whose agents had a finding to read, and those of them that are improvements which others measured."""
    is_confirmed = and_(
        CommitPosterior.commit_sha == Experiment.commit_sha,
        CommitPosterior.verdict == Verdict.IMPROVED,
        CommitPosterior.checkers >= 1,
        CommitPosterior.dispute == Dispute.NONE,
    )
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


def list_citing(session: Session, finding_id: int, limit: int) -> list[tuple[int, str]]:
    """The newest experiments whose agents had a finding to read: number and title."""
    query = (
        select(Experiment.id, Experiment.title)
        .join(Citation, Citation.experiment_id == Experiment.id)
        .where(Citation.finding_id == finding_id)
    )
    return [(row.id, row.title) for row in session.execute(query.order_by(Experiment.id.desc()).limit(limit))]


def list_notes(session: Session, finding_id: int) -> list[tuple[FindingNote, Volunteer]]:
    """What was written beside a finding, oldest first."""
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


def find_version(session: Session, finding_id: int, number: int) -> FindingVersion | None:
    return session.get(FindingVersion, (finding_id, number))


def find_version_by_key(session: Session, key: UUID) -> FindingVersion | None:
    return session.scalar(select(FindingVersion).where(FindingVersion.key == key))


def find_author(session: Session, finding: Finding) -> int:
    """The volunteer whose worker left a finding."""
    query = select(Worker.volunteer_id).join(Experiment, Experiment.worker_id == Worker.id)
    return session.scalars(query.where(Experiment.id == finding.experiment_id)).one()
