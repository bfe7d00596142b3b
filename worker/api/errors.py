"""What the coordinator's answers mean: what can go wrong with a request, by name, and what a person may do about it."""

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
"""Of an answer; however a name is written, it is found."""


class ClientError(Exception):
    """A request to the coordinator did not succeed; the message says why, for a person."""


class Unreachable(ClientError):
    """No answer, or one that says "not now": trying again later can help, not before `retry_after_seconds`."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Unauthorized(ClientError):
    """The coordinator does not know the token, or the account may not do this. A foreign lease is Rejected instead."""


class Rejected(ClientError):
    """The coordinator refuses this request and would refuse it again. `code` is the problem's short name."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({code})")
        self.status = status
        self.code = code


class Outdated(ClientError):
    """This worker's version and the coordinator's do not fit: no more jobs, while results are still taken."""


class UnexpectedReply(ClientError):
    """The answer is not of the protocol: another program, a proxy's page, or another version."""


def program_version() -> str:
    """This program's own version."""
    return importlib.metadata.version("research-swarm")


def user_agent() -> str:
    """Who is calling: the distribution and its version, and Python's."""
    return f"research-swarm-worker/{program_version()} Python/{platform.python_version()}"


def raise_for_problem(url: str, status: int, headers: Headers, content: bytes) -> None:
    """Raise the ClientError that an answer of this status means; none for a success."""
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
    """The moment at which the server says that it answered."""
    return _parse_date(headers.get("Date", ""))


def explain(error: Exception) -> str:
    """The error's own words, without the number that some systems put before them, and with a hint if one is known."""
    words = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
    if "certificate is not yet valid" in words or "certificate has expired" in words:
        words += " (is this machine's clock right?)"
    return words


def _explain_versions(problem: Problem, url: str) -> str:
    """Who has to update what, in a line."""
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
    """The seconds of `Retry-After`. A date, its other form, is read by the server's clock, for ours may be wrong."""
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
