"""The audit log as pages: who did what, why, before and after; filters, CSV, and undoing."""

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request, Response

from coordinator.db.database import CurrentDatabase, Database, ReadSession
from coordinator.events import audit
from coordinator.events.audit import AuditFilters
from coordinator.http.downloads import send_file, write_line
from coordinator.http.pagination import Cursor, RowId
from coordinator.lineage.branches import map_names
from coordinator.moderation import service
from coordinator.web.rendering import render
from coordinator.web.sessions import CsrfChecked, Moderator, act_as, read_next, redirect
from shared.moderation import AuditAction, AuditView, Reason, SubjectKind

router = APIRouter(include_in_schema=False)

ROWS, ROWS_OF_A_FILE = 50, 500
COLUMNS = (
    "id", "at", "by", "source", "action", "subject", "key", "reason", "before", "after", "undoes", "undone_by",
)  # fmt: skip


def _read_filters(
    by: Annotated[str, Query(max_length=80)] = "",
    action: AuditAction | str = "",
    subject: SubjectKind | str = "",
    key: Annotated[str, Query(max_length=400)] = "",
) -> AuditFilters:
    """The filters of a form, whose empty fields are none."""
    chosen = AuditAction(action) if action in set(AuditAction) else None
    kind = SubjectKind(subject) if subject in set(SubjectKind) else None
    return AuditFilters(by or None, chosen, kind, key or None)


Filters = Annotated[AuditFilters, Depends(_read_filters)]


@router.get("/audit")
def show_audit(session: ReadSession, _moderator: Moderator, filters: Filters, cursor: Cursor = None) -> Response:
    """Actions of people, newest first."""
    page = audit.view_page(session, filters, cursor, ROWS)
    ids = [int(entry.key.rpartition("/")[2]) for entry in page.items if entry.subject == SubjectKind.BRANCH]
    asked = {"by" if name == "actor" else name: value for name, value in filters._asdict().items() if value}
    return render(
        "moderation/audit.html",
        page={
            "entries": page, "filters": filters, "query": urlencode(asked),
            "here": "/audit" + (f"?{urlencode(asked)}" if asked else ""), "branches": map_names(session, ids),
            "actions": list(AuditAction), "subjects": list(SubjectKind), "cursor": cursor,
        },
    )  # fmt: skip


@router.get("/audit.csv")
def export_audit(database: CurrentDatabase, _moderator: Moderator, filters: Filters) -> Response:
    """All entries that fit the filters, newest first."""
    return send_file(_write_csv(database, filters), "audit.csv", "text/csv; charset=utf-8")


def _write_csv(database: Database, filters: AuditFilters) -> Iterator[str]:
    yield write_line(COLUMNS)
    cursor: int | None = None
    while True:
        with database.read() as session:
            page = audit.view_page(session, filters, cursor, ROWS_OF_A_FILE)
        for entry in page.items:
            yield write_line(_view_cells(entry))
        if page.next_cursor is None:
            return
        cursor = page.items[-1].id


def _view_cells(entry: AuditView) -> list[str]:
    values = entry.model_dump(mode="json")
    return ["" if values[name] is None else str(values[name]) for name in COLUMNS]


@router.post("/audit/{entry_id}/undo", dependencies=[CsrfChecked])
def undo_entry(
    request: Request,
    entry_id: RowId,
    database: CurrentDatabase,
    moderator: Moderator,
    reason: Annotated[Reason, Form()],
    following: Annotated[str, Form(alias="next", max_length=2_000)] = "/audit",
) -> Response:
    """Take an action back, with all that followed from it."""
    following = read_next(following)
    with database.write() as session:
        number = service.undo(session, act_as(moderator), entry_id, reason).id
    return redirect(request, following, f"Entry {entry_id} is undone, by entry {number}.")
