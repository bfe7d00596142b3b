"""Webhooks and mail: signed, tried again, and told once by several replicas, over real sockets."""

import json
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message
from aiosmtpd.smtp import AuthResult
from fastapi.testclient import TestClient
from sqlalchemy import select, update
from typer.testing import CliRunner

from coordinator.cli import app as command
from coordinator.db.database import Database
from coordinator.events import service
from coordinator.events.notices import (
    DROPPED_AFTER,
    SIGNATURE_HEADER,
    DeliveryFailedError,
    Mail,
    Notifier,
    Webhook,
    make_test_notice,
    sign,
)
from coordinator.models import Event, NoticePosition, Project, table_of
from coordinator.records.progress import follow_runs, rebuild
from coordinator.settings import CoordinatorSettings
from shared.events import EventKind
from shared.protocol import now
from tests.support.ports import choose_port
from tests.support.verified_record import VerifiedRecord

SECRET = "a secret of a length that is allowed"
PUBLIC_URL = "https://swarm.example.org/swarm"
Taken = list[tuple[dict[str, str], bytes]]


@contextmanager
def receive(failures: int = 0) -> Iterator[tuple[str, Taken]]:
    """An HTTP receiver on loopback that refuses its first requests; its address and what it took."""
    taken, left = Taken(), [failures]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            left[0] -= 1
            if left[0] < 0:
                taken.append((dict(self.headers), body))
            self.send_response(204 if left[0] < 0 else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", taken
    server.shutdown()
    server.server_close()


@contextmanager
def receive_mail() -> Iterator[tuple[int, list[str]]]:
    """An SMTP receiver on loopback without TLS; its port and all lines that it got."""
    lines: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 test\r\n")
            is_body = False
            while line := self.rfile.readline():
                text = line.decode().rstrip()
                lines.append(text)
                if is_body and text != ".":
                    continue
                answer = "354 go on" if text.upper() == "DATA" else "221 bye" if text.upper() == "QUIT" else "250 ok"
                is_body = text.upper() == "DATA"
                self.wfile.write(f"{answer}\r\n".encode())
                if answer.startswith("221"):
                    return

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], lines
    server.shutdown()
    server.server_close()


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    return path


@pytest.fixture
def begin(database: Database, settings: CoordinatorSettings) -> Callable[..., Notifier]:
    """Make a notifier whose targets are told of what comes next."""

    def make(address: str, secret_file: Path | None = None) -> Notifier:
        changed = {"webhooks": address, "webhook_secret_file": secret_file, "public_url": PUBLIC_URL}
        notifier = Notifier(database, settings.model_copy(update=changed))
        notifier.send_due()
        return notifier

    return make


def happen(database: Database, kind: EventKind = EventKind.RECORD_SET) -> None:
    with database.write() as session:
        project = session.scalars(select(Project)).one()
        place = {"commit": project.root_sha, "hardware_class": "cpu", "volunteer": "ada"}
        service.record(session, kind, project.id, **place, metric=3.2, metric_sd=0.01)


def let_time_pass(database: Database) -> None:
    with database.write() as session:
        session.execute(update(table_of(NoticePosition)).values(next_at=now()))


@pytest.mark.usefixtures("project")
def test_a_webhook_that_fails_twice_gets_a_signed_notice(
    database: Database, begin: Callable[..., Notifier], secret_file: Path
) -> None:
    with receive(failures=2) as (address, taken):
        happen(database)
        notifier = begin(address, secret_file)
        happen(database, EventKind.RESULT_HELD)
        happen(database, EventKind.RUN_STORED)
        for attempt in range(3):
            notifier.send_due()
            notifier.send_due()
            assert len(taken) == (attempt == 2), "at once it is not tried again"
            let_time_pass(database)
        notifier.send_due()
    ((headers, body),) = taken
    told = json.loads(body)
    assert (told["kind"], told["url"].partition("/projects")[0]) == ("result_held", PUBLIC_URL)
    seconds = int(headers[SIGNATURE_HEADER].partition(",")[0].removeprefix("t="))
    assert headers[SIGNATURE_HEADER] == sign(SECRET, seconds, body)
    assert sign(SECRET, seconds + 1, body).partition("v1=")[2] not in headers[SIGNATURE_HEADER]


@pytest.mark.usefixtures("project")
def test_replicas_tell_each_thing_once(database: Database, begin: Callable[..., Notifier]) -> None:
    with receive() as (address, taken):
        replicas = [begin(address), begin(address)]
        for _ in range(7):
            happen(database)
        for _ in range(3):
            threads = [threading.Thread(target=one.send_due) for one in replicas]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    told = [json.loads(body)["event"] for _, body in taken]
    assert (len(told), told) == (7, sorted(set(told)))


@pytest.mark.usefixtures("project")
def test_a_claim_or_a_pause_from_when_the_clock_was_ahead_holds_nothing_up(
    database: Database, begin: Callable[..., Notifier]
) -> None:
    with receive() as (address, taken):
        notifier = begin(address)
        for column in ("claimed_until", "next_at"):
            happen(database)
            with database.write() as session:
                session.execute(update(table_of(NoticePosition)).values({column: now() + timedelta(days=30)}))
            notifier.send_due()
    assert len(taken) == 2


@pytest.mark.usefixtures("project")
def test_what_failed_for_a_day_is_dropped(database: Database, begin: Callable[..., Notifier]) -> None:
    with receive(failures=1) as (address, taken):
        notifier = begin(address)
        happen(database)
        with database.write() as session:
            session.execute(update(table_of(Event)).values(created_at=now() - DROPPED_AFTER - timedelta(minutes=1)))
        happen(database, EventKind.RESULT_CONTRADICTED)
        notifier.send_due()
    assert [json.loads(body)["kind"] for _, body in taken] == ["result_contradicted"]


def test_a_record_is_an_event_once(database: Database, http: TestClient, tmp_path: Path) -> None:
    story = VerifiedRecord(database, http, tmp_path)
    follow_runs(database)
    story.set_trust("anchor")
    with database.write() as session:
        rebuild(session)
        told = session.scalars(select(Event).where(Event.kind == EventKind.RECORD_SET)).all()
        assert [event.data["commit"] for event in told] == [story.sha]


def test_slack_gets_its_form_and_an_absent_receiver_is_a_failure() -> None:
    notice = make_test_notice("https://swarm.example.org").model_copy(update={"text": "a <b> & c"})
    with receive() as (address, taken):
        Webhook(f"slack+{address}", None).send(notice)
    assert json.loads(taken[0][1]) == {"text": "a &lt;b&gt; &amp; c\nhttps://swarm.example.org"}
    with pytest.raises(DeliveryFailedError):
        Webhook(address, None).send(notice)


def test_mail_arrives_and_no_password_goes_without_tls() -> None:
    with receive_mail() as (port, lines):
        notice = make_test_notice("https://swarm.example.org").model_copy(update={"text": "one\nBcc: eve@example.org"})
        Mail(f"smtp://127.0.0.1:{port}", "swarm@example.org", ["a@example.org", "b@example.org"]).send(notice)
        assert [line for line in lines if line.lower().startswith("rcpt")] == [
            "rcpt TO:<a@example.org>", "rcpt TO:<b@example.org>",
        ]  # fmt: skip
        assert "Subject: one Bcc: eve@example.org" in lines
        with pytest.raises(DeliveryFailedError, match="no TLS"):
            Mail(f"smtp://ada:geheim@127.0.0.1:{port}", "swarm@example.org", ["a@example.org"]).send(notice)
        assert not any(line.upper().startswith("AUTH") for line in lines)


class Inbox(Message):
    """Keeps what a real SMTP server took."""

    def __init__(self) -> None:
        super().__init__()
        self.subjects: list[str] = []

    def handle_message(self, message: object) -> None:
        self.subjects.append(message["Subject"])  # type: ignore[index]


def test_a_password_goes_over_starttls_to_a_server_that_is_who_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secured.load_cert_chain(certificate, key)
    inbox, sign_ins = Inbox(), list[tuple[bytes, bytes]]()

    def authenticate(*given: object) -> AuthResult:
        sign_ins.append((given[-1].login, given[-1].password))  # type: ignore[attr-defined]
        return AuthResult(success=True)

    server = Controller(
        inbox, hostname="127.0.0.1", port=choose_port(), tls_context=secured, require_starttls=True, auth_required=True,
        authenticator=authenticate,
    )  # fmt: skip
    server.start()
    mail = Mail(f"smtp://ada:geheim@127.0.0.1:{server.port}", "swarm@example.org", ["a@example.org"])
    notice = make_test_notice("https://swarm.example.org")
    try:
        with pytest.raises(DeliveryFailedError, match="SSLCertVerificationError"):
            mail.send(notice)
        assert sign_ins == [], "nobody vouches for that certificate"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        mail.send(notice)
    finally:
        server.stop()
    assert sign_ins == [(b"ada", b"geheim")] and len(inbox.subjects) == 1


def test_the_command_sends_a_test_message(monkeypatch: pytest.MonkeyPatch) -> None:
    with receive() as (address, taken):
        monkeypatch.setenv("SWARM_WEBHOOKS", address)
        done = CliRunner().invoke(command, ["notify", "--test"])
    assert (done.exit_code, len(taken)) == (0, 1), done.output
    assert CliRunner().invoke(command, ["notify", "--test"]).exit_code == 1, "nobody is there any more"


@pytest.mark.parametrize("changes", [
    {"webhooks": "ftp://example.org"}, {"webhooks": "https://a.example.org, file:///etc/passwd"},
    {"smtp_url": "http://mail.example.org"}, {"smtp_url": "smtp://mail.example.org"},
])  # fmt: skip
def test_wrong_addresses_are_refused_at_the_start(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"must be|needs"):
        CoordinatorSettings(**changes)  # type: ignore[arg-type]


def test_the_command_says_that_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWARM_WEBHOOKS", raising=False)
    done = CliRunner().invoke(command, ["notify", "--test"])
    assert done.exit_code == 1 and "SWARM_WEBHOOKS" in done.output
