"""Registering workers: a worker is known from its first claim."""

from datetime import timedelta
from enum import StrEnum
from typing import Any

from coordinator.accounts.permissions import AccountQuarantinedError
from coordinator.db.engine import Conn
from coordinator.http.errors import must_find
from coordinator.http.pagination import cut_page, decode_id_cursor, decode_moment_cursor, encode_moment_cursor
from coordinator.workers import queries
from coordinator.workers.lookup import WorkerRow, lock_worker
from coordinator.workers.queries import Seen, VolunteerFilters, WorkerFilters
from shared.protocol import Page, now
from shared.runs import Hardware
from shared.workers import MessageReceipt, VolunteerView, WorkerNotice, WorkerState, WorkerView

SEEN_AGAIN = timedelta(seconds=60)
"""Shortest interval between two updates of `last_seen_at`."""


def register_worker(
    session: Conn, volunteer_id: int, name: str, agent: str, hardware: Hardware, version: str = "", trouble: str = ""
) -> WorkerRow:
    """The volunteer's worker of that name, made or brought up to date, and locked. Raises AccountQuarantinedError.

    `trouble` is what is wrong with its agent, although it works."""
    known = _lock_free_worker(session, volunteer_id, name)
    moment = now()
    described: dict[str, Any] = {
        "agent": agent,
        "hardware": hardware.model_dump(mode="json"),
        "hardware_class": hardware.hardware_class,
        "state": WorkerState.WORKING,
        "state_reason": trouble,
        "last_seen_at": moment,
        "version": version or (known.version if known else ""),
    }
    began = {"state_at": moment}
    if known is None:
        key: dict[str, Any] = {"volunteer_id": volunteer_id, "name": name}
        worker_id = queries.add_worker(session, key | described | began | {"is_anchor": False, "created_at": moment})
        return WorkerRow(id=worker_id, **key, **described)
    names = "agent", "hardware", "state", "state_reason", "version"
    is_same = all(getattr(known, name) == described[name] for name in names)
    if not is_same or abs(moment - known.last_seen_at) >= SEEN_AGAIN:
        is_back = known.state != WorkerState.WORKING
        queries.change_worker(session, known.id, described | (began if is_back else {}))
    return known._replace(**described)


def _lock_free_worker(session: Conn, volunteer_id: int, name: str) -> WorkerRow | None:
    """As `lock_worker`. Raises AccountQuarantinedError for a worker in quarantine."""
    known = lock_worker(session, volunteer_id, name)
    if known is not None and known.quarantine is not None:
        raise AccountQuarantinedError(f"A maintainer has put {name} in quarantine: {known.quarantine}")
    return known


def take_notice(session: Conn, volunteer_id: int, notice: WorkerNotice) -> WorkerView:
    """Store what a worker is about to do. Raises NotFoundError before its first job, and AccountQuarantinedError."""
    known = must_find(_lock_free_worker(session, volunteer_id, notice.worker), "A worker is known from its first job.")
    moment = now()
    columns = {"state": notice.state, "state_reason": notice.reason, "last_seen_at": moment}
    is_new = known.state != notice.state
    queries.change_worker(session, known.id, columns | ({"state_at": moment} if is_new else {}))
    return get_view(session, known.id)


def take_receipt(session: Conn, volunteer_id: int, receipt: MessageReceipt) -> WorkerView:
    """Note that a worker has shown its message. Another one may wait by now. Raises NotFoundError."""
    known = must_find(lock_worker(session, volunteer_id, receipt.worker), "A worker is known from its first job.")
    queries.mark_shown(session, known.id, receipt.number, now())
    return get_view(session, known.id)


class VolunteerOrder(StrEnum):
    """The order of a list of volunteers: by when they joined, or by name."""

    NEWEST = "newest"
    NAME = "name"


def view_volunteers(
    session: Conn, filters: VolunteerFilters, order: VolunteerOrder, cursor: str | None, limit: int, *, ascending: bool
) -> Page[VolunteerView]:
    """A page of volunteers. Raises CursorInvalidError."""
    after_id = decode_id_cursor(cursor) if cursor is not None else None
    by_name = order == VolunteerOrder.NAME
    rows = queries.view_volunteers(session, filters, after_id, limit + 1, by_name=by_name, ascending=ascending)
    return cut_page(rows, limit, lambda view: view.id)


class WorkerOrder(StrEnum):
    """The order of a list of workers: the one heard of last first, or the newest first."""

    SEEN = "seen"
    NEWEST = "newest"


def get_project_id(session: Conn, name: str) -> int:
    """The id of a project. Raises NotFoundError."""
    return must_find(queries.find_project_id(session, name), f"There is no project {name!r}.")


class WorkerMark(StrEnum):
    """A mark of a worker, as a filter."""

    ANCHOR = "anchor"
    PAUSED = "paused"
    QUARANTINE = "quarantine"


def list_workers(
    session: Conn,
    filters: WorkerFilters,
    order: WorkerOrder,
    cursor: str | None,
    limit: int,
    *,
    ascending: bool = False,
) -> Page[WorkerView]:
    """A page of workers. Raises CursorInvalidError."""
    if order == WorkerOrder.NEWEST:
        after_id = decode_id_cursor(cursor) if cursor else None
        rows = queries.list_newest(session, filters, after_id, limit + 1, ascending=ascending)
        return cut_page(rows, limit, lambda view: view.id)
    seen = Seen(*decode_moment_cursor(cursor)) if cursor else None
    rows = queries.list_seen(session, filters, seen, limit + 1, ascending=ascending)
    page, last = rows[:limit], rows[limit - 1 : limit]
    more = encode_moment_cursor(last[0].last_seen_at, last[0].id) if len(rows) > limit else None
    return Page(items=page, next_cursor=more)


def get_view(session: Conn, worker_id: int) -> WorkerView:
    """A worker. Raises NotFoundError."""
    return must_find(queries.find_view(session, worker_id), f"There is no worker {worker_id}.")
