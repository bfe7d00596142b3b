"""Tells webhooks and mail of records, held results and contradictions, once for all replicas.

A webhook is signed, or in Slack's form. Each target has a deadline and a position: the last event that it was told of.
Who claims it by one atomic statement tells it the next ones, outside any transaction, and moves the position after
each; a claim ends by itself if that process dies.
"""

import asyncio
import hmac
import json
import smtplib
import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta
from email.message import EmailMessage
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import httpx
import structlog
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.events import queries
from coordinator.models import Event, Experiment, NoticePosition, Project, table_of
from coordinator.settings import CoordinatorSettings, split_list
from shared.events import EventKind, EventNotice
from shared.formatting import format_measure
from shared.protocol import now

DEADLINE_SECONDS = 5.0
"""Longest time that a webhook may take in all, and a mail server for each step."""

SLACK = "slack+"
SLACK_HOST = "hooks.slack.com"
SIGNATURE_HEADER = "Swarm-Signature"


class DeliveryFailedError(Exception):
    """A target did not take a notice; says why, without its address, which may hold a secret."""


class Target(Protocol):
    """A receiver of notices. `name` may stand in logs; `key` is the same for the same address."""

    name: str
    key: str

    def send(self, notice: EventNotice) -> None:
        """Raises DeliveryFailedError."""


def list_targets(settings: CoordinatorSettings) -> list[Target]:
    """All targets of the settings."""
    targets: list[Target] = [
        Webhook(address, settings.webhook_secret_file) for address in dict.fromkeys(split_list(settings.webhooks))
    ]
    if settings.smtp_url:
        targets.append(Mail(settings.smtp_url, settings.mail_from, split_list(settings.mail_to)))
    return targets


def sign(secret: str, seconds: int, body: bytes) -> str:
    """The value of `Swarm-Signature`: the HMAC-SHA256 of time and body."""
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, sha256).hexdigest()
    return f"t={seconds},v1={digest}"


class Webhook:
    """An address that takes a notice as JSON. Redirects are not followed."""

    def __init__(self, address: str, secret_file: Path | None) -> None:
        self._url = address.removeprefix(SLACK)
        host = urlsplit(self._url).hostname
        self._is_slack = address.startswith(SLACK) or host == SLACK_HOST
        self._secret_file = secret_file
        self.name, self.key = f"webhook at {host}", sha256(address.encode()).hexdigest()

    def send(self, notice: EventNotice) -> None:
        body = json.dumps({"text": _write_for_slack(notice)}) if self._is_slack else notice.model_dump_json()
        headers = {"Content-Type": "application/json"}
        try:
            if self._secret_file is not None and not self._is_slack:
                secret = self._secret_file.read_text(encoding="utf-8").strip()
                headers[SIGNATURE_HEADER] = sign(secret, int(time()), body.encode())
            status = asyncio.run(self._post(body.encode(), headers))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise DeliveryFailedError(type(error).__name__) from error
        if not 200 <= status < 300:
            raise DeliveryFailedError(f"answered {status}")

    async def _post(self, body: bytes, headers: dict[str, str]) -> int:
        async with (
            asyncio.timeout(DEADLINE_SECONDS),
            httpx.AsyncClient() as client,
            client.stream("POST", self._url, content=body, headers=headers) as answer,
        ):
            return answer.status_code


def _write_for_slack(notice: EventNotice) -> str:
    text = notice.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{text}\n{notice.url}"


class Mail:
    """People who get notices by mail. A password is sent only over TLS."""

    def __init__(self, url: str, sender: str, receivers: list[str]) -> None:
        self._address, self._sender, self._receivers = urlsplit(url), sender, receivers
        whole = json.dumps([url, sender, receivers])
        self.name, self.key = f"mail by {self._address.hostname}", sha256(whole.encode()).hexdigest()

    def send(self, notice: EventNotice) -> None:
        message = EmailMessage()
        message["Subject"] = " ".join(notice.text.split())[:150]
        message["From"], message["To"] = self._sender, ", ".join(self._receivers)
        message["Message-ID"] = f"<{notice.event}.{self.key[:16]}.{int(notice.created_at.timestamp())}@swarm.invalid>"
        message["Date"] = notice.created_at
        message.set_content(f"{notice.text}\n\n{notice.url}\n")
        try:
            self._deliver(message)
        except (smtplib.SMTPException, OSError) as error:
            raise DeliveryFailedError(type(error).__name__) from error

    def _deliver(self, message: EmailMessage) -> None:
        host, port, secure = self._address.hostname or "", self._address.port, ssl.create_default_context()
        is_tls = self._address.scheme == "smtps"
        server = (
            smtplib.SMTP_SSL(host, port or 465, timeout=DEADLINE_SECONDS, context=secure)
            if is_tls
            else smtplib.SMTP(host, port or 587, timeout=DEADLINE_SECONDS)
        )
        with server:
            server.ehlo()
            if not is_tls and server.has_extn("starttls"):
                server.starttls(context=secure)
                server.ehlo()
                is_tls = True
            if self._address.username:
                if not is_tls:
                    raise DeliveryFailedError("offers no TLS, so no password was sent")
                server.login(unquote(self._address.username), unquote(self._address.password or ""))
            server.send_message(message)


log = structlog.get_logger()

NOTICE_SECONDS = 2.0
TOLD = (EventKind.RECORD_SET, EventKind.RESULT_HELD, EventKind.RESULT_CONTRADICTED)
AT_ONCE = 5
CLAIMED_FOR = timedelta(minutes=3)
"""Longest time that telling one event takes, and more: after that a claim's process is taken for dead."""

DROPPED_AFTER = timedelta(days=1)
LONGEST_BACKOFF_SECONDS = 900.0
LONGEST_CLAIM = timedelta(hours=1)
"""Longest time, and more, for which a target is claimed or left in peace, where clocks differ a little."""

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
        longest = moment + LONGEST_CLAIM  # later ones are from when a clock was ahead
        is_free = (place.target == target.key) & ~place.claimed_until.between(moment, longest)
        is_free &= ~((place.next_at > moment) & (place.next_at <= longest))
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
