"""Digests of a project's weeks, made from the evidence by a background task and stored.

The current week's is made again every few minutes; a past week's once after its end. Readers get what is stored,
without people who are in quarantine now.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.db.locks import AdvisoryLock, lock_until_commit
from coordinator.findings import service as findings
from coordinator.http.errors import NotFoundError, must_find
from coordinator.models import Project, StoredDigest
from coordinator.projects import service as projects
from coordinator.projects.lookup import list_projects
from coordinator.records import digest_queries as queries
from coordinator.records.digest_queries import Span
from shared.digests import Digest, DigestClaim, DigestPerson, DigestSummary, LeaderStep
from shared.protocol import Message, now

WEEK = timedelta(days=7)
FINAL_AFTER = timedelta(minutes=5)
"""Time after a week's end when its digest is made for good: by then, who led has been noted."""

MADE_AGAIN_AFTER = timedelta(minutes=10)
"""Age at which the current week's digest is made again."""

MAX_LEADERS = 30
MAX_CLAIMS = 10
MAX_QUESTIONS = 10
MAX_PEOPLE = 50
MAX_LISTED = 200


def name_week(moment: datetime) -> str:
    """`2026-W48`, by ISO 8601, in UTC."""
    year, week, _ = moment.astimezone(UTC).isocalendar()
    return f"{year}-W{week:02}"


def start_of(week: str) -> datetime:
    """Monday, 0:00 UTC. Raises NotFoundError for a week that its year does not have."""
    try:
        return datetime.combine(datetime.fromisoformat(f"{week}-1"), datetime.min.time(), UTC)
    except ValueError as error:
        raise NotFoundError(f"There is no week {week}.") from error


def make_due(database: Database) -> None:
    """Make the digests that are due, each in a transaction of its own."""
    with database.read() as session:
        due = [(project.id, week) for project in list_projects(session) for week in _list_due(session, project)]
    for project_id, week in due:
        with database.write() as session:
            lock_until_commit(session, AdvisoryLock.DIGESTS)
            project = session.get_one(Project, project_id)
            if week in _list_due(session, project):
                _store(session, project, week)


def _list_due(session: Session, project: Project) -> list[str]:
    """Weeks from the newest stored one on (or the project's first) that have no final digest, and are not fresh."""
    moment = now()
    # What was made while a clock was ahead does not count.
    newest = queries.find_newest(session, project.id, moment + FINAL_AFTER)
    start = start_of(newest.week if newest else name_week(project.created_at))
    if newest is not None and (newest.is_final or not _is_over(start, moment)):
        is_fresh = newest.is_final or moment - newest.made_at < MADE_AGAIN_AFTER
        start += WEEK if is_fresh else timedelta()
    due = []
    while start <= moment:
        due.append(name_week(start))
        start += WEEK
    return due


def _is_over(start: datetime, moment: datetime) -> bool:
    return moment >= start + WEEK + FINAL_AFTER


def _store(session: Session, project: Project, week: str) -> None:
    made = make(session, project, week)
    columns = {"runs": made.runs, "is_final": made.is_final, "made_at": made.made_at}
    queries.store(session, project, week, columns | {"content": made.model_dump(mode="json")})


def make(session: Session, project: Project, week: str) -> Digest:
    """A week's digest from the evidence as it stands now."""
    start, moment = start_of(week), now()
    span = Span(project.id, start, start + WEEK, projects.contract_of(project).objective.sign)
    verdicts = queries.count_verdicts(session, span)
    milestones = queries.list_claims(
        session, span, queries.is_milestone(session, span), queries.by_effect(span), MAX_CLAIMS
    )
    refuted = queries.list_claims(
        session, span, queries.is_refuted(session, span), queries.by_prediction(span), MAX_CLAIMS
    )
    disputed = queries.list_claims(session, span, queries.is_contradicted(span), queries.by_effect(span), MAX_CLAIMS)
    proposing, questions_in_all = queries.list_open_questions(session, span, MAX_QUESTIONS)
    work = queries.count_work(session, span)
    people = sorted(work.items(), key=lambda one: (-one[1].experiments - one[1].runs, one[0]))
    return Digest(
        project=project.name, week=week, starts_at=span.start, ends_at=span.end, made_at=moment,
        is_final=_is_over(start, moment), runs=queries.count_runs(session, span), experiments=verdicts.total(),
        **{name: verdicts[name] for name in ("improved", "no_change", "worse", "unresolved", "failed")},
        records=[LeaderStep.model_validate(row) for row in queries.list_leaders(session, span, MAX_LEADERS)],
        milestones=[DigestClaim.model_validate(row) for row in milestones[0]], milestones_in_all=milestones[1],
        refuted=[DigestClaim.model_validate(row) for row in refuted[0]], refuted_in_all=refuted[1],
        contradicted=[DigestClaim.model_validate(row) for row in disputed[0]], contradicted_in_all=disputed[1],
        open_questions=findings.view_follow_ups(session, proposing), open_questions_in_all=questions_in_all,
        people=[DigestPerson(name=name, **counts._asdict()) for name, counts in people[:MAX_PEOPLE]],
        people_in_all=len(people),
    )  # fmt: skip


def list_weeks(session: Session, project: Project) -> list[DigestSummary]:
    """The newest weeks with runs, newest first."""
    rows = queries.list_digests(session, project.id, MAX_LISTED)
    return [
        DigestSummary.model_validate({name: row.content[name] for name in DigestSummary.model_fields}) for row in rows
    ]


def list_final(session: Session, project: Project, limit: int) -> list[Digest]:
    """The newest weeks that are over, newest first."""
    rows = queries.list_digests(session, project.id, limit + 1)
    return [_view(session, row) for row in rows if row.is_final][:limit]


def get_digest(session: Session, project: Project, week: str) -> Digest:
    """A week's digest. Raises NotFoundError."""
    start_of(week)
    row = must_find(queries.find_digest(session, project.id, week), f"{project.name} has no digest of {week} (yet).")
    return _view(session, row)


def _view(session: Session, row: StoredDigest) -> Digest:
    """A stored digest, without those who came to be in quarantine since, and without papers that were taken back.

    Older ones hold among `refuted` what was measured once only: that is left out, too, and so is the count of it.
    """
    stored = Digest.model_validate(row.content)
    refuted = [one for one in stored.refuted if one.standing in queries.ESTABLISHED]
    in_all = stored.refuted_in_all if len(refuted) == len(stored.refuted) else len(refuted)
    claims = [*stored.milestones, *stored.refuted, *stored.contradicted]
    ids = {one.experiment_id for one in claims} | {one.experiment_id for one in stored.records if one.experiment_id}
    stopped = queries.list_stopped(session, ids)
    shown = queries.list_shown(session, [one.finding_id for one in stored.open_questions])
    absent = queries.list_quarantined(session, [one.name for one in stored.people])
    named: dict[str, Sequence[LeaderStep | DigestClaim]] = {
        "records": stored.records,
        "milestones": stored.milestones,
        "refuted": refuted,
        "contradicted": stored.contradicted,
    }
    kept: dict[str, Sequence[Message]] = {
        name: [one for one in rows if one.experiment_id not in stopped] for name, rows in named.items()
    }
    kept["open_questions"] = [one for one in stored.open_questions if one.finding_id in shown]
    kept["people"] = [one for one in stored.people if one.name not in absent]
    withheld = sum(len(getattr(stored, name)) - len(entries) for name, entries in kept.items())
    return stored.model_copy(update=kept | {"refuted_in_all": in_all, "withheld": withheld})
