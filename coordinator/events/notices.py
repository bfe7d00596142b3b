"""Tells webhooks and mail of records, held results and contradictions, once for all replicas.

Each target has a position: the last event that it was told of. Who claims it by one atomic statement tells it the
next ones, outside any transaction, and moves the position after each; a claim ends by itself if that process dies.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.events import queries
from coordinator.events.targets import DeliveryFailedError, Target, list_targets
from coordinator.models import Event, Experiment, NoticePosition, Project, table_of
from coordinator.settings import CoordinatorSettings
from shared.events import EventKind, EventNotice
from shared.formatting import format_measure
from shared.protocol import now

log = structlog.get_logger()

NOTICE_SECONDS = 2.0
TOLD = (EventKind.RECORD_SET, EventKind.RESULT_HELD, EventKind.RESULT_CONTRADICTED)
AT_ONCE = 5
CLAIMED_FOR = timedelta(minutes=3)
"""Longest time that telling one event takes, and more: after that a claim's process is taken for dead."""

DROPPED_AFTER = timedelta(days=1)
LONGEST_BACKOFF_SECONDS = 900.0
SKIPPED_AT_ONCE = 1_000
"""Events of other kinds after which a position is moved, so that they are not read again."""

_POSITIONS, _EVENTS = table_of(NoticePosition), table_of(Event)
_NEVER = datetime.fromisoformat("2000-01-01T00:00:00+00:00")


class Notifier:
    """Tells the targets of one coordinator's settings."""

    def __init__(self, database: Database, settings: CoordinatorSettings) -> None:
        self._database, self._base_url, self._targets = database, settings.base_url, list_targets(settings)

    def send_due(self) -> None:
        """Tell each target what happened since its position."""
        for target in self._targets:
            self._tell(target)

    def _tell(self, target: Target) -> None:
        with self._database.read_one() as session:
            oldest_writer = queries.find_oldest_writer(session)
        with self._database.read() as session:
            row = session.get(NoticePosition, target.key)
            position = row.event_id if row else None
            last = queries.get_last_event_id(session, oldest_writer)
            has_news = position is not None and bool(self._list_notices(session, position, last))
        if position is None:
            self._begin(target, last)
        elif not has_news:
            if last - position > SKIPPED_AT_ONCE:
                self._move(target, position, last)
        elif (claimed := self._claim(target)) is not None:
            self._send(target, claimed, last)

    def _begin(self, target: Target, last: int) -> None:
        """A new target is told of what comes after it."""
        row = {"target": target.key, "event_id": last, "claimed_until": _NEVER, "failures": 0, "next_at": _NEVER}
        try:
            with self._database.write() as session:
                session.execute(insert(_POSITIONS), row)
        except IntegrityError:
            log.debug("another process made the position", target=target.name)

    def _move(self, target: Target, position: int, last: int) -> None:
        is_same = (_POSITIONS.c.target == target.key) & (_POSITIONS.c.event_id == position)
        with self._database.write() as session:
            session.execute(update(_POSITIONS).where(is_same).values(event_id=last))

    def _claim(self, target: Target) -> tuple[int, int] | None:
        """The position and the failures of a target that is now this process's; None where it is another's, or is left
        in peace."""
        moment, place = now(), _POSITIONS.c
        is_free = (place.target == target.key) & (place.claimed_until < moment) & (place.next_at <= moment)
        claim = update(_POSITIONS).where(is_free).values(claimed_until=moment + CLAIMED_FOR)
        with self._database.write() as session:
            row = session.execute(claim.returning(place.event_id, place.failures)).first()
        return (row.event_id, row.failures) if row else None

    def _send(self, target: Target, claimed: tuple[int, int], last: int) -> None:
        position, failures = claimed
        with self._database.read() as session:
            notices = self._list_notices(session, position, last)
        for notice in notices:
            try:
                target.send(notice)
            except DeliveryFailedError as error:
                if now() - notice.created_at < DROPPED_AFTER:
                    seconds = min(LONGEST_BACKOFF_SECONDS, 2.0 ** min(failures + 1, 10))
                    log.warning("a notice failed and is tried again", target=target.name, error=str(error))
                    next_at = now() + timedelta(seconds=seconds)
                    self._set(target, event_id=position, failures=failures + 1, next_at=next_at, claimed_until=_NEVER)
                    return
                log.error("a notice failed for a day and is dropped", target=target.name, event_id=notice.event)
            position, failures = notice.event, 0
            self._set(target, event_id=position, failures=0, claimed_until=now() + CLAIMED_FOR)
        self._set(target, event_id=position, failures=failures, claimed_until=_NEVER)

    def _set(self, target: Target, **columns: object) -> None:
        with self._database.write() as session:
            session.execute(update(_POSITIONS).where(_POSITIONS.c.target == target.key).values(**columns))

    def _list_notices(self, session: Session, position: int, last: int) -> Sequence[EventNotice]:
        query = (
            select(_EVENTS, table_of(Project).c.name.label("project"))
            .outerjoin(Project, Project.id == _EVENTS.c.project_id)
            .where(_EVENTS.c.id > position, _EVENTS.c.id <= last, _EVENTS.c.kind.in_(TOLD))
            .order_by(_EVENTS.c.id)
            .limit(AT_ONCE)
        )
        rows = session.execute(query).all()
        shas = [row.data["commit"] for row in rows]
        found = select(Experiment.commit_sha, Experiment.id, Experiment.title).where(Experiment.commit_sha.in_(shas))
        titles = {sha: (number, title) for sha, number, title in session.execute(found)} if rows else {}
        return [_make_notice(row, titles.get(row.data["commit"]), self._base_url) for row in rows]


def _make_notice(row: Any, experiment: tuple[int, str] | None, base_url: str) -> EventNotice:
    path = f"/experiments/{experiment[0]}" if experiment else f"/projects/{row.project}"
    name = f"#{experiment[0]} {experiment[1]}" if experiment else f"commit {row.data['commit'][:12]}"
    words = {
        EventKind.RECORD_SET: "New record",
        EventKind.RESULT_HELD: "Result held as too good to be believed",
        EventKind.RESULT_CONTRADICTED: "Result contradicted",
    }[EventKind(row.kind)]
    details = f" on {row.data['hardware_class']}" if "hardware_class" in row.data else ""
    if row.kind == EventKind.RECORD_SET:
        details += f": {format_measure(row.data['metric'], row.data['metric_sd'])}"
    if row.kind == EventKind.RESULT_CONTRADICTED:
        details = f", a measurement by {row.data['volunteer']}"
    return EventNotice(
        event=row.id, kind=EventKind(row.kind), project=row.project, text=f"{words} in {row.project}: {name}{details}",
        url=base_url + path, data=row.data, created_at=row.created_at,
    )  # fmt: skip


def make_test_notice(base_url: str) -> EventNotice:
    """A message that says that messages arrive."""
    text = "This is a test: the swarm's notices arrive here."
    return EventNotice(event=0, kind=None, project=None, text=text, url=base_url, data={}, created_at=now())
