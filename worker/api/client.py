"""The client of the coordinator's API: every request of a worker.

Nothing is repeated here: each error says whether another attempt can help.
"""

import importlib.metadata
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import TypeVar
from uuid import UUID

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from shared.experiments import ProposalReply, ProposalSubmission
from shared.findings import Question, Tried
from shared.leases import (
    ClaimReply,
    ClaimRequest,
    Heartbeat,
    HeartbeatReply,
    OfflineLease,
    ReleaseRequest,
    ResultReply,
    ResultUpload,
)
from shared.moderation import AuditView, NewSecret, TokenLabel, TokenRequest, TokenRevocation, TokenView
from shared.projects import CommitFiles, ProjectView
from shared.protocol import (
    API_PREFIX,
    PROBLEM_MEDIA_TYPE,
    PROTOCOL_HEADER,
    PROTOCOL_VERSION,
    VERSION_HEADER,
    Page,
    Problem,
    Versions,
    now,
)
from shared.workers import Account, MessageReceipt, OwnAccount, SignIn, SignUp, WorkerNotice, WorkerView
from worker.settings import SettingsError

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
UNAUTHORIZED = 401
SHORT_TIMEOUT = httpx.Timeout(5.0)  # for requests that must not delay a worker

Reply = TypeVar("Reply", bound=BaseModel)

WRONG_CLOCK_SECONDS = 300.0
"""Difference from the coordinator's clock from which on the volunteer is warned."""

UPGRADE_REQUIRED = 426
UPDATE_COMMAND = "pip install --upgrade 'research-swarm[worker]'"
MAX_RETRY_AFTER_SECONDS = 3600.0

Headers = Mapping[str, str]  # of an answer; names are case-insensitive


class ClientError(Exception):
    """A request to the coordinator failed; the message says why."""


class Unreachable(ClientError):
    """No answer, or "not now": another attempt can help, after `retry_after_seconds` if given."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Unauthorized(ClientError):
    """The coordinator does not know the token, or the account may not do this. A foreign lease is Rejected instead."""


class AccountStopped(Unauthorized):
    """The token is right, but its account may do nothing now: a maintainer has not approved it, or has stopped it."""


class Rejected(ClientError):
    """The coordinator rejects this request and would reject it again. `code` is the problem's short name."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({code})")
        self.status, self.code = status, code


class Outdated(ClientError):
    """The coordinator does not support this worker's version: it gives no more jobs, but accepts results."""


class UnexpectedReply(ClientError):
    """The answer does not follow the protocol: another program, a proxy, or another version."""


class CoordinatorClient:
    """A connection to one coordinator, safe to use from several threads. Every method raises ClientError.

    `clock_error_seconds` is how far this machine's clock was ahead of the coordinator's at the last answer. Public data
    can be read without a token.
    """

    def __init__(
        self,
        url: str,
        token: SecretStr | None,
        transport: httpx.BaseTransport | None = None,
        read_token: Callable[[], SecretStr] | None = None,
        advice: str = "",
    ) -> None:
        """`read_token` reads the token again when it is refused, because it may have changed; `advice` says what to do
        where it has not."""
        self.url = url.rstrip("/")
        self.clock_error_seconds = 0.0
        self._token, self._read_token, self._advice = token, read_token, advice
        self._lock = Lock()
        self._http = httpx.Client(
            base_url=self.url + API_PREFIX,
            headers={
                "User-Agent": f"research-swarm-worker/{program_version()} Python/{platform.python_version()}",
                PROTOCOL_HEADER: str(PROTOCOL_VERSION),
                VERSION_HEADER: program_version(),
            },
            timeout=TIMEOUT,
            transport=transport,
        )

    @property
    def wrong_clock(self) -> str | None:
        """How far this machine's clock is from the coordinator's, if that is too far for the dates of results."""
        error = self.clock_error_seconds
        if abs(error) < WRONG_CLOCK_SECONDS:
            return None
        return f"{abs(error) / 60:.0f} min {'ahead of' if error > 0 else 'behind'} the coordinator's"

    def close(self) -> None:
        self._http.close()

    def fetch_account(self) -> OwnAccount:
        """The account that the token belongs to. Raises Unauthorized, AccountStopped."""
        return self._get("/account", OwnAccount)

    def list_tokens(self, account: str) -> list[TokenView]:
        return self._get(f"/accounts/{account}/tokens", Page[TokenView]).items

    def create_token(self, account: str, asked: TokenRequest) -> NewSecret:
        return self._send("POST", f"/accounts/{account}/tokens", asked, NewSecret)

    def create_code(self) -> str:
        """A code by which another machine of the account's logs in."""
        return self._request(self._http.build_request("POST", "/login-codes"), NewSecret).secret

    def label_token(self, number: int, label: TokenLabel) -> None:
        self._send("POST", f"/tokens/{number}/label", label, AuditView)

    def revoke_token(self, number: int, asked: TokenRevocation) -> None:
        self._send("POST", f"/tokens/{number}/revocation", asked, AuditView)

    def sign_in(self, asked: SignIn) -> Account:
        """Exchange a code for a token; this needs no token."""
        return self._send("POST", "/sign-in", asked, Account)

    def claim(self, request: ClaimRequest) -> ClaimReply:
        """Claim a job. Raises Outdated."""
        return self._send("POST", "/leases", request, ClaimReply)

    def heartbeat(self, lease_id: UUID, beat: Heartbeat) -> HeartbeatReply:
        """Renew a lease. Raises Rejected where the lease is no longer held."""
        return self._send("POST", f"/leases/{lease_id}/heartbeat", beat, HeartbeatReply, timeout=SHORT_TIMEOUT)

    def propose(self, lease_id: UUID, submission: ProposalSubmission) -> ProposalReply:
        return self._send("POST", f"/leases/{lease_id}/proposal", submission, ProposalReply)

    def release(self, lease_id: UUID, request: ReleaseRequest) -> HeartbeatReply:
        return self._send("POST", f"/leases/{lease_id}/release", request, HeartbeatReply, timeout=SHORT_TIMEOUT)

    def register_own(self, lease_id: UUID, own: OfflineLease) -> HeartbeatReply:
        """Register a job that this worker gave itself; may be repeated."""
        return self._send("PUT", f"/leases/{lease_id}", own, HeartbeatReply)

    def upload_result(self, lease_id: UUID, upload: ResultUpload) -> ResultReply:
        """Deliver a result; the same result may be delivered again, and is stored once."""
        key = {"Idempotency-Key": str(upload.run.id)}
        reply = self._send("POST", f"/leases/{lease_id}/result", upload, ResultReply, headers=key)
        if reply.run_uuid != upload.run.id:
            raise UnexpectedReply(f"the coordinator confirms run {reply.run_uuid}, not {upload.run.id}")
        return reply

    def report_state(self, notice: WorkerNotice) -> None:
        """Report that this worker waits, pauses or stops, for people to see."""
        self._send("POST", "/workers/notices", notice, WorkerView, timeout=SHORT_TIMEOUT)

    def confirm_message(self, receipt: MessageReceipt) -> None:
        """Report that a message was shown here."""
        self._send("POST", "/workers/receipts", receipt, WorkerView, timeout=SHORT_TIMEOUT)

    def read_versions(self) -> Versions:
        """The coordinator's protocol, and the versions of workers that it accepts."""
        return self._get("/versions", Versions)

    def sign_up(self, sign_up: SignUp) -> Account:
        """Make an account; this needs no token. Raises Rejected where the name is taken."""
        return self._send("POST", "/accounts", sign_up, Account)

    def list_projects(self) -> list[ProjectView]:
        return self._get("/projects", Page[ProjectView]).items

    def fetch_project(self, project: str) -> ProjectView:
        return self._get(f"/projects/{project}", ProjectView)

    def fetch_files(self, project: str, sha: str) -> CommitFiles:
        commit = self._get(f"/projects/{project}/commits/{sha}/files", CommitFiles)
        if commit.sha != sha:
            raise UnexpectedReply(f"the coordinator sends the files of {commit.sha}, not of {sha}")
        return commit

    def fetch_editable(self, project: str, shas: Sequence[str]) -> dict[str, dict[str, str]]:
        """The editable files of several commits, by sha."""
        page = self._get(f"/projects/{project}/commits/editable", Page[CommitFiles], {"sha": list(shas)})
        found = {commit.sha: commit.files for commit in page.items}
        if missing := set(shas) - found.keys():
            raise UnexpectedReply(f"the coordinator does not send the files of {', '.join(sorted(missing))}")
        return found

    def ask_whether_tried(self, question: Question) -> Tried:
        """Past and running experiments like a sentence or a diff."""
        return self._send("POST", "/findings/tried", question, Tried)

    def _get(self, path: str, reply: type[Reply], query: Mapping[str, list[str]] | None = None) -> Reply:
        return self._request(self._http.build_request("GET", path, params=query), reply)

    def _send(
        self,
        method: str,
        path: str,
        message: BaseModel,
        reply: type[Reply],
        timeout: httpx.Timeout = TIMEOUT,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        headers = {"Content-Type": "application/json", **(headers or {})}
        content = message.model_dump_json()
        return self._request(
            self._http.build_request(method, path, content=content, headers=headers, timeout=timeout), reply
        )

    def _request(self, request: httpx.Request, reply: type[Reply]) -> Reply:
        with self._lock:
            token = self._token
        response = self._send_with(token, request)
        if response.status_code == UNAUTHORIZED and (changed := self._find_changed_token(token)) is not None:
            response = self._send_with(changed, request)
        raise_for_problem(self.url, response.status_code, response.headers, response.content, self._advice)
        try:
            return reply.model_validate_json(response.content, extra="ignore")  # of a newer coordinator
        except ValidationError as error:
            raise UnexpectedReply(
                f"{self.url} answered {request.method} {request.url.path} with something that is no {reply.__name__}; "
                "is it a coordinator, and of a version that fits?"
            ) from error

    def _send_with(self, token: SecretStr | None, request: httpx.Request) -> httpx.Response:
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        try:
            response = self._http.send(request)
        except httpx.TransportError as error:
            raise Unreachable(f"no answer from {self.url}: {explain(error)}") from error
        except httpx.HTTPError as error:  # a body that cannot be decoded, for one
            raise UnexpectedReply(f"{self.url} gave a broken answer: {explain(error)}") from error
        is_fresh = "Age" not in response.headers  # which caches add
        if is_fresh and (date := answered_at(response.headers)) is not None:
            self.clock_error_seconds = (now() - date).total_seconds()
        return response

    def _find_changed_token(self, refused: SecretStr | None) -> SecretStr | None:
        """The token as it is now, if it is another than the refused one."""
        if self._read_token is None:
            return None
        with self._lock:
            try:
                self._token = self._read_token()
            except SettingsError:
                return None
            return self._token if self._token != refused else None


def program_version() -> str:
    return importlib.metadata.version("research-swarm")


def raise_for_problem(url: str, status: int, headers: Headers, content: bytes, advice: str = "") -> None:
    """Raise the ClientError for an answer with this status, if it is an error; `advice` is for a refused token."""
    if 200 <= status < 300:
        return
    problem = _problem(headers, content)
    reason = f"{problem.title}: {problem.detail}".rstrip(": ") if problem else f"HTTP {status}"
    if status == UPGRADE_REQUIRED and problem is not None:
        raise Outdated(_explain_versions(problem, url))
    if status == UNAUTHORIZED and problem is not None:
        raise Unauthorized(f"{problem.detail} {advice}".strip())
    if status == 403 and problem is not None and not problem.code.startswith("lease-"):
        raise AccountStopped(problem.detail) if problem.code.startswith("account-") else Unauthorized(reason)
    if status in (408, 425, 429) or status >= 500:
        raise Unreachable(f"{url} cannot answer now: {reason}", read_retry_after(headers))
    if status >= 400 and problem is not None:
        raise Rejected(status, problem.code, reason)
    if 300 <= status < 400 and (there := headers.get("Location", "").partition(API_PREFIX)[0][:200]):
        raise UnexpectedReply(f"{url} redirects to {there}: if that is the coordinator's address, give it instead")
    raise UnexpectedReply(
        f"{url} answered with HTTP {status} and no reason; is it a coordinator, and does its address begin with the "
        "right one of http:// and https://?"
    )


def answered_at(headers: Headers) -> datetime | None:
    """The time of an answer by the server's clock."""
    return _parse_date(headers.get("Date", ""))


def explain(error: Exception) -> str:
    """The error's message without an errno prefix, with a hint if one is known."""
    words = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
    if "certificate is not yet valid" in words or "certificate has expired" in words:
        words += " (is this machine's clock right?)"
    if "WRONG_VERSION_NUMBER" in words:
        words = "what answers there does not speak HTTPS; does its address begin with http://?"
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


def read_retry_after(headers: Headers) -> float | None:
    """The seconds of `Retry-After`, at most an hour. A date is read by the server's clock: ours may be wrong."""
    text = headers.get("Retry-After", "")
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text):  # models' endpoints tell fractions, too
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
