"""The queue of what waits for moderators, the form by which they act, readers' reports, and retractions."""

from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Form, Query, Request, Response

from coordinator.accounts.permissions import Caller, Permission, check
from coordinator.background import TaskHealth
from coordinator.db.database import CurrentDatabase, ReadSession, WriteSession
from coordinator.events import audit
from coordinator.events.audit import AuditFilters
from coordinator.findings import revisions
from coordinator.findings.papers import view_words
from coordinator.http.addresses import ClientAddress
from coordinator.http.errors import RequestInvalidError
from coordinator.http.pagination import RowId
from coordinator.moderation import queue
from coordinator.moderation.queue_evidence import view_evidence
from coordinator.web.rendering import render
from coordinator.web.sessions import Contributor, CsrfChecked, Moderator, Visitor, act_as, read_next, redirect
from shared.findings import NoteDraft, NoteKind
from shared.formatting import count_noun
from shared.moderation import MAX_AT_ONCE, ActionSource, ItemName, QueueAction, QueueKind, QueueRequest, Reason

router = APIRouter(include_in_schema=False)

ROWS, LATELY = 50, 5
Why = Annotated[Reason, Form(alias="reason")]
Items = Annotated[list[ItemName], Form(max_length=MAX_AT_ONCE)]
NOBODY, MINE = "nobody", "me"


def _list_tasks(request: Request) -> list[TaskHealth]:
    health: list[TaskHealth] = request.app.state.background.list_health()
    return health


@router.get("/admin/queue")
def show_queue(
    request: Request,
    session: ReadSession,
    moderator: Moderator,
    kind: QueueKind | None = None,
    assigned: Annotated[str | None, Query(max_length=63)] = None,
    item: Annotated[str | None, Query(max_length=400)] = None,
    skip: Annotated[int, Query(ge=0, le=10_000)] = 0,
) -> Response:
    """The things that wait, and the evidence on the chosen one, by default the first."""
    page = queue.view_queue(session, kind, _list_tasks(request))
    items = [one for one in page.items if _is_assigned(one.assigned_to, assigned, moderator)]
    first = items[skip] if len(items) > skip else None
    chosen = first if item is None else next((one for one in items if one.name == item), None)
    return render(
        "moderation/queue.html",
        page={
            "items": items[skip : skip + ROWS], "total": len(items), "counts": page.counts, "skip": skip, "rows": ROWS,
            "kind": kind, "assigned": assigned, "chosen": chosen, "is_gone": item is not None and chosen is None,
            "evidence": view_evidence(session, chosen) if chosen else None,
            "lately": audit.view_page(session, AuditFilters(), None, LATELY).items,
        },
    )  # fmt: skip


def _is_assigned(to: str | None, wanted: str | None, moderator: Caller) -> bool:
    if wanted == NOBODY:
        return to is None
    return not wanted or to == (moderator.name if wanted == MINE else wanted)


@router.post("/admin/queue", dependencies=[CsrfChecked])
def act_on_queue(
    request: Request,
    database: CurrentDatabase,
    moderator: Moderator,
    action: Annotated[QueueAction, Form()],
    reason: Why,
    items: Items = [],  # noqa: B006  a form's field, never changed
    assignee: Annotated[str, Form(max_length=63)] = "",
    following: Annotated[str, Form(alias="next", max_length=2_000)] = "/admin/queue",
) -> Response:
    """Do the same about all chosen things, or, where that fails for one, about none."""
    following = read_next(following)
    if not items:
        raise RequestInvalidError("Choose what to act upon first.")
    asked = QueueRequest(items=items, action=action, reason=reason, assignee=assignee or None)
    with database.write() as session:
        done = queue.act(session, act_as(moderator), asked, _list_tasks(request))
        numbers = ", ".join(str(entry.id) for entry in done)
    said = f"Done: {action.value} {count_noun(len(items), 'thing')}. In the audit log: {numbers}."
    return redirect(request, following, said)


@router.get("/findings/{finding_id}/report")
def show_report(finding_id: RowId, session: ReadSession) -> Response:
    """The form by which a reader reports a finding."""
    return render("moderation/report.html", finding=view_words(session, finding_id))


@router.post("/findings/{finding_id}/report", dependencies=[CsrfChecked])
def report_finding(
    request: Request,
    finding_id: RowId,
    database: CurrentDatabase,
    visitor: Visitor,
    address: ClientAddress,
    text: Annotated[Reason, Form()],
) -> Response:
    """Tell the moderators that something is wrong with a finding. Raises AccountStoppedError."""
    if visitor is not None:
        check(visitor, Permission.WORK)
    with database.write() as session:
        queue.report_finding(session, finding_id, text, visitor.id if visitor else None, address)
    return redirect(request, f"/findings/{finding_id}", "Thank you. The moderators will look at it.")


@router.post("/findings/{finding_id}/retraction", dependencies=[CsrfChecked])
@router.post("/findings/{finding_id}/restoration", dependencies=[CsrfChecked])
def change_finding(
    request: Request, finding_id: RowId, author: Contributor, session: WriteSession, reason: Why
) -> Response:
    """Retract a finding or take that back, as its author or as a moderator."""
    kind = NoteKind(request.url.path.rpartition("/")[2])
    revisions.annotate(session, author, finding_id, uuid4(), kind, NoteDraft(text=reason), ActionSource.PAGE)
    again = " no longer" if kind == NoteKind.RESTORATION else ""
    return redirect(request, f"/findings/{finding_id}", f"It is retracted{again}.")
