"""Questions about volunteers' records, and about results that are due for a replication."""

from datetime import datetime

from sqlalchemy import bindparam, delete, insert, select, text
from sqlalchemy.orm import Session

from coordinator.models import DueReplication, Volunteer, table_of
from coordinator.models.base import UtcDateTime

MAX_DUE = 8

_DUE, _VOLUNTEERS = table_of(DueReplication), table_of(Volunteer)
_NOTE_OUTCOME = text(
    "INSERT INTO trust_records "
    "(project_id, volunteer_id, agreements, contradictions, claims, replications_due, updated_at) "
    "VALUES (:project_id, :volunteer_id, :agrees, :contradicts, 0, 0, :moment) "
    "ON CONFLICT (project_id, volunteer_id) DO UPDATE SET "
    "agreements = trust_records.agreements * :agrees + :agrees, "
    "contradictions = trust_records.contradictions + :contradicts, updated_at = :moment"
).bindparams(bindparam("moment", type_=UtcDateTime()))
_NOTE_CLAIM = text(
    "INSERT INTO trust_records "
    "(project_id, volunteer_id, agreements, contradictions, claims, replications_due, updated_at) "
    "VALUES (:project_id, :volunteer_id, 0, 0, 1, :due, :moment) "
    "ON CONFLICT (project_id, volunteer_id) DO UPDATE SET claims = trust_records.claims + 1, "
    "replications_due = trust_records.replications_due + :due, updated_at = :moment"
).bindparams(bindparam("moment", type_=UtcDateTime()))
_ADD_DUE = insert(_DUE)
_REMOVE_DUE = delete(_DUE).where(
    _DUE.c.commit_sha == bindparam("sha"), _DUE.c.hardware_class == bindparam("hardware_class")
)
_LIST_DUE = (
    select(_DUE.c.commit_sha)
    .where(
        _DUE.c.project_id == bindparam("project_id"),
        _DUE.c.hardware_class == bindparam("hardware_class"),
        _DUE.c.volunteer_id != bindparam("volunteer_id"),
    )
    .order_by(_DUE.c.created_at)
    .limit(MAX_DUE)
)


def note_outcome(session: Session, project_id: int, volunteer_id: int, moment: datetime, *, agrees: bool) -> None:
    """Count an agreement, or a contradiction, which begins the count of agreements anew."""
    given = {"project_id": project_id, "volunteer_id": volunteer_id, "moment": moment}
    session.execute(_NOTE_OUTCOME, given | {"agrees": int(agrees), "contradicts": int(not agrees)})


def note_claim(session: Session, project_id: int, volunteer_id: int, moment: datetime, *, is_due: bool) -> None:
    """Count a claim of a gain."""
    given = {"project_id": project_id, "volunteer_id": volunteer_id, "moment": moment, "due": int(is_due)}
    session.execute(_NOTE_CLAIM, given)


def add_due(
    session: Session, project_id: int, sha: str, hardware_class: str, volunteer_id: int, moment: datetime
) -> None:
    session.execute(
        _ADD_DUE,
        {
            "commit_sha": sha,
            "hardware_class": hardware_class,
            "project_id": project_id,
            "volunteer_id": volunteer_id,
            "created_at": moment,
        },
    )


def remove_due(session: Session, sha: str, hardware_class: str) -> None:
    session.execute(_REMOVE_DUE, {"sha": sha, "hardware_class": hardware_class})


def list_due(session: Session, project_id: int, hardware_class: str, volunteer_id: int) -> list[str]:
    """Commits of other volunteers that are to be replicated in the class, the longest waiting first, at most 8."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "volunteer_id": volunteer_id}
    return list(session.scalars(_LIST_DUE, given))


def get_volunteer_name(session: Session, volunteer_id: int) -> str:
    return session.get_one(Volunteer, volunteer_id).name
