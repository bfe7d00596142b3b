"""Targets of notices: webhooks, signed or in Slack's form, and mail. Each has a deadline."""

import asyncio
import hmac
import json
import smtplib
import ssl
from email.message import EmailMessage
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Protocol
from urllib.parse import unquote, urlsplit

import httpx

from coordinator.settings import CoordinatorSettings, split_list
from shared.events import EventNotice

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
