"""Errors of requests to the coordinator, by the status and problem of its answer."""

import importlib.metadata
import platform
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from pydantic import ValidationError

from shared.protocol import PROBLEM_MEDIA_TYPE, PROTOCOL_VERSION, Problem, Versions, now

UPGRADE_REQUIRED = 426
UPDATE_COMMAND = "pip install --upgrade 'research-swarm[worker]'"
MAX_RETRY_AFTER_SECONDS = 3600.0

Headers = Mapping[str, str]
"""Headers of an answer; names are case-insensitive."""


class ClientError(Exception):
    """A request to the coordinator failed; the message says why."""


class Unreachable(ClientError):
    """No answer, or "not now": another attempt can help, after `retry_after_seconds` if given."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Unauthorized(ClientError):
    """The coordinator does not know the token, or the account may not do this. A foreign lease is Rejected instead."""


class Rejected(ClientError):
    """The coordinator rejects this request and would reject it again. `code` is the problem's short name."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({code})")
        self.status = status
        self.code = code


class Outdated(ClientError):
    """The coordinator does not support this worker's version: it gives no more jobs, but accepts results."""


class UnexpectedReply(ClientError):
    """The answer does not follow the protocol: another program, a proxy, or another version."""


def program_version() -> str:
    """This program's own version."""
    return importlib.metadata.version("research-swarm")


def user_agent() -> str:
    """The User-Agent header: this program's version and Python's."""
    return f"research-swarm-worker/{program_version()} Python/{platform.python_version()}"


def raise_for_problem(url: str, status: int, headers: Headers, content: bytes) -> None:
    """Raise the ClientError for an answer with this status, if it is an error."""
    if 200 <= status < 300:
        return
    problem = _problem(headers, content)
    said = f"{problem.title}: {problem.detail}".rstrip(": ") if problem else f"HTTP {status}"
    if status == UPGRADE_REQUIRED and problem is not None:
        raise Outdated(_explain_versions(problem, url))
    if status in (401, 403) and problem is not None and not problem.code.startswith("lease-"):
        raise Unauthorized(said)
    if status in (408, 425, 429) or status >= 500:
        raise Unreachable(f"{url} cannot answer now: {said}", _retry_after(headers))
    if status >= 400 and problem is not None:
        raise Rejected(status, problem.code, said)
    raise UnexpectedReply(f"{url} answered with HTTP {status} and no reason; is it a coordinator?")


def answered_at(headers: Headers) -> datetime | None:
    """The time of an answer by the server's clock."""
    return _parse_date(headers.get("Date", ""))


def explain(error: Exception) -> str:
    """The error's message without an errno prefix, with a hint if one is known."""
    words = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
    if "certificate is not yet valid" in words or "certificate has expired" in words:
        words += " (is this machine's clock right?)"
    return words


def _explain_versions(problem: Problem, url: str) -> str:
    """One line that says which side must be updated."""
    ours = f"this worker is of version {program_version()} and speaks protocol {PROTOCOL_VERSION}"
    try:
        theirs = Versions.model_validate((problem.model_extra or {})["versions"])
    except (KeyError, ValidationError):
        return f"{ours}, and does not fit {url}: {problem.detail}"
    if theirs.protocol < PROTOCOL_VERSION:
        return f"{ours}, {url} only {theirs.protocol}: ask its maintainers to update it, or install an older worker"
    wanted = f"protocol {theirs.oldest_protocol} and version {theirs.oldest_worker}, or newer"
    return f"{ours}; {url} gives jobs to {wanted}. Update it: {UPDATE_COMMAND}"


def _problem(headers: Headers, content: bytes) -> Problem | None:
    if headers.get("Content-Type", "").partition(";")[0].strip() != PROBLEM_MEDIA_TYPE:
        return None
    try:
        return Problem.model_validate_json(content)
    except ValidationError:
        return None


def _retry_after(headers: Headers) -> float | None:
    """The seconds of `Retry-After`. A date is read by the server's clock, because ours may be wrong."""
    text = headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    until = _parse_date(text)
    if until is None:
        return None
    seconds = (until - (answered_at(headers) or now())).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def _parse_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
