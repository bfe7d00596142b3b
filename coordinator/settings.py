"""All settings of the coordinator, from the environment (`SWARM_*`)."""

import os
import re
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.environment import COORDINATOR_NAMES, find_unknown

MIB = 1024 * 1024
SHORTEST_TOKEN = 16

RESERVED_PATHS = frozenset({
    "admin", "api", "audit", "audit.csv", "branches", "compare", "desk", "docs", "experiments", "feeds", "findings",
    "git", "healthz", "join", "leaderboard", "live", "me", "metrics", "openapi.json", "people", "problems", "projects",
    "readyz", "records", "robots.txt", "runs", "sign-in", "sign-out", "static", "status", "topics", "volunteers",
    "workers",
})  # fmt: skip
"""First parts of the coordinator's own paths, today's and planned ones. With such a prefix an address could mean two
pages: one with the prefix, and one from which a reverse proxy removed it."""

_PUBLIC_URL = re.compile(r"https?://[^/?#@\s]+((?:/[\w.~-]+)*)/?", re.ASCII)
_ORIGIN = re.compile(r"https?://[^/?#@\s]+", re.ASCII)
_WEBHOOK = re.compile(r"(?:slack\+)?https?://[^/?#@\s]+(?:[/?][^#\s]*)?", re.ASCII)
_SMTP_URL = re.compile(r"smtps?://(?:[^:/?#@\s]+:[^/?#@\s]*@)?[^:/?#@\s]+(?::\d{1,5})?/?", re.ASCII)


def split_list(text: str) -> list[str]:
    """The parts of a comma-separated setting."""
    return [part.strip() for part in text.split(",") if part.strip()]


class Joining(StrEnum):
    """The way in: anybody may make an account; a maintainer approves each; or an invitation is needed."""

    OPEN = "open"
    APPROVAL = "approval"
    INVITATION = "invitation"


class CoordinatorSettings(BaseSettings):
    """`database_url` is a SQLAlchemy address; sizes are in bytes, times in seconds.

    `pg_bin` is the folder of pg_dump and pg_restore, where those on PATH are not the server's. `joining` says who may
    make an account, and `sign_ups_per_hour` how many from one address; with 0, maintainers make them. The addresses of
    requests come from headers only where a proxy of `trusted_proxies` (addresses and networks, comma-separated) sent
    them. Without `public_reading` everything but the ways in asks for a token. `cors_origins` (comma-separated, or `*`)
    are the sites whose pages may read the API; None: all if reading is public. Workers of a version before
    `oldest_worker` get no jobs. `embeddings_*` name an endpoint that speaks OpenAI's embeddings protocol; without one
    texts are compared by a model that comes with the program. From the similarity `embeddings_near` on, proposals
    are shown to each other's agents. `access_log` writes a line for each request. `/metrics` wants the token in
    `metrics_token_file`; without that it is not there. `webhooks` (addresses, comma-separated) and `mail_to` are told
    of records, held results and contradictions.
    """

    model_config = SettingsConfigDict(env_prefix="SWARM_")

    database_url: str = "sqlite:///.swarm/coordinator.db"
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    public_url: str = ""
    pg_bin: Path | None = None
    joining: Joining = Joining.OPEN
    sign_ups_per_hour: int = Field(default=20, ge=0)
    listeners_per_address: int = Field(default=32, ge=1)
    trusted_proxies: str = "127.0.0.1,::1"
    oldest_worker: str = Field(default="0", pattern=r"^\d+(\.\d+)*$")
    embeddings_url: str = ""
    embeddings_model: str = ""
    embeddings_key_file: Path | None = None
    embeddings_near: float = Field(default=0.8, gt=0, le=1)
    public_reading: bool = True
    cors_origins: str | None = None
    log_format: Literal["text", "json"] = "text"
    access_log: bool = False
    metrics_token_file: Path | None = None
    webhooks: str = ""
    webhook_secret_file: Path | None = None
    smtp_url: str = ""
    mail_from: str = ""
    mail_to: str = ""
    max_body_bytes: int = Field(default=4 * MIB, ge=1)
    max_body_seconds: float = Field(default=120.0, gt=0)
    event_poll_seconds: float = Field(default=1.0, gt=0)
    epoch_check_seconds: float = Field(default=60.0, gt=0)
    progress_count_seconds: float = Field(default=2.0, gt=0)
    meaning_check_seconds: float = Field(default=5.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_names(cls, given: Any) -> Any:
        for name, meant in find_unknown(os.environ, COORDINATOR_NAMES):
            hint = f"Did you mean {meant}?" if meant else "docs/maintainers.md lists those there are."
            raise ValueError(f"{name} is no setting. {hint}")
        return given

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, url: str) -> str:
        found = _PUBLIC_URL.fullmatch(url)
        if url and not found:
            raise ValueError("must be an address as https://swarm.example.org or https://example.org/swarm")
        if found and (first := found[1].split("/")[1:2]) and first[0] in RESERVED_PATHS:
            raise ValueError(f"the coordinator's own addresses begin with /{first[0]}; choose another path, as /swarm")
        return url

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, proxies: str) -> str:
        """uvicorn takes others for names that no request comes from, so all volunteers would share one's limits."""
        for proxy in set(split_list(proxies)) - {"*"}:
            try:
                ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"must be addresses and networks as 10.0.0.0/24: {error}") from error
        return proxies

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: str | None) -> str | None:
        for origin in split_list(origins or ""):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError("must be * or origins as https://example.org, without a path")
        return origins

    @field_validator("webhooks")
    @classmethod
    def _check_webhooks(cls, addresses: str) -> str:
        for address in split_list(addresses):
            if not _WEBHOOK.fullmatch(address):
                raise ValueError("must be addresses as https://example.org/hook or slack+https://example.org/hook")
        return addresses

    @field_validator("smtp_url")
    @classmethod
    def _check_smtp_url(cls, url: str) -> str:
        if url and not _SMTP_URL.fullmatch(url):
            raise ValueError("must be an address as smtp://NAME:PASSWORD@mail.example.org:587, or smtps://")
        return url

    @model_validator(mode="after")
    def _check_mail(self) -> Self:
        if self.smtp_url and not (self.mail_from and split_list(self.mail_to)):
            raise ValueError("SWARM_SMTP_URL needs SWARM_MAIL_FROM and SWARM_MAIL_TO")
        return self

    @field_validator("metrics_token_file", "webhook_secret_file")
    @classmethod
    def _check_metrics_token(cls, path: Path | None) -> Path | None:
        try:
            if path is not None and len(path.read_text(encoding="utf-8").strip()) < SHORTEST_TOKEN:
                raise ValueError(f"{path} must hold a token of at least {SHORTEST_TOKEN} characters")
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        return path

    def read_metrics_token(self) -> str:
        """The token that `/metrics` wants; read each time, so that it may change."""
        assert self.metrics_token_file is not None
        return self.metrics_token_file.read_text(encoding="utf-8").strip()

    @property
    def path_prefix(self) -> str:
        """The path of `public_url`, as `/swarm`; empty without one."""
        found = _PUBLIC_URL.fullmatch(self.public_url)
        return found[1] if found else ""

    @property
    def readable_from(self) -> list[str]:
        """Origins whose pages may read the API: by default all where reading is public, else none."""
        return split_list(("*" if self.public_reading else "") if self.cors_origins is None else self.cors_origins)

    @property
    def base_url(self) -> str:
        """The address under which people reach this coordinator, without a slash at the end."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")
