"""The one door to the coordinator: every request of a worker, and what can go wrong with it, by name.

Nothing is retried here: each error says whether trying again can help, and the caller knows how long it may wait.
"""

import importlib.metadata
import platform
import re
from collections.abc import Mapping
from typing import TypeVar
from uuid import UUID, uuid4

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from shared.accounts import Account, SignUp
from shared.errors import PROBLEM_MEDIA_TYPE, Problem
from shared.experiments import ProposalReply, ProposalSubmission
from shared.fleet import WorkerNotice, WorkerView
from shared.leases import ClaimReply, ClaimRequest, Heartbeat, HeartbeatReply, ReleaseRequest
from shared.projects import CommitFiles, Project
from shared.protocol import API_PREFIX, PROTOCOL_HEADER, PROTOCOL_VERSION, VERSION_HEADER, Versions
from shared.results import ResultReply, ResultUpload

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
UPGRADE_REQUIRED = 426
UPDATE_COMMAND = "pip install --upgrade 'research-swarm[worker]'"
SHORT_TIMEOUT = httpx.Timeout(5.0)  # for requests that must not hold up a worker: heartbeat and release
MAX_RETRY_AFTER_SECONDS = 3600.0

Reply = TypeVar("Reply", bound=BaseModel)


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


class CoordinatorClient:
    """A connection to one coordinator, safe to use from several threads. Every method raises ClientError.

    What everybody may read is read without a token, too.
    """

    def __init__(self, url: str, token: SecretStr | None, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url + API_PREFIX,
            headers={
                **({"Authorization": f"Bearer {token.get_secret_value()}"} if token is not None else {}),
                "User-Agent": user_agent(),
                PROTOCOL_HEADER: str(PROTOCOL_VERSION),
                VERSION_HEADER: program_version(),
            },
            timeout=TIMEOUT,
            transport=transport,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def check_token(self) -> None:
        """Whether the coordinator knows the token: it is asked to release a lease that nobody has.

        Raises Unauthorized if it does not, and any other ClientError but the one for a lease that is not there.
        """
        try:
            self.release(uuid4(), ReleaseRequest(token="none", reason="a check of the token"))  # noqa: S106 - of a lease
        except Rejected as error:
            if error.status not in (403, 404, 410):
                raise

    def claim(self, request: ClaimRequest) -> ClaimReply:
        """Ask for a job. Raises Outdated."""
        return self._post("/leases", request, ClaimReply)

    def heartbeat(self, lease_id: UUID, beat: Heartbeat) -> HeartbeatReply:
        """Renew a lease. Raises Rejected where the lease is no longer held."""
        return self._post(f"/leases/{lease_id}/heartbeat", beat, HeartbeatReply, timeout=SHORT_TIMEOUT)

    def propose(self, lease_id: UUID, submission: ProposalSubmission) -> ProposalReply:
        """Ask whether a proposal is new."""
        return self._post(f"/leases/{lease_id}/proposal", submission, ProposalReply)

    def release(self, lease_id: UUID, request: ReleaseRequest) -> HeartbeatReply:
        """Give a job back."""
        return self._post(f"/leases/{lease_id}/release", request, HeartbeatReply, timeout=SHORT_TIMEOUT)

    def upload_result(self, lease_id: UUID, upload: ResultUpload) -> ResultReply:
        """Deliver a result; the same result may be delivered again, and is stored once."""
        key = {"Idempotency-Key": str(upload.run.id)}
        reply = self._post(f"/leases/{lease_id}/result", upload, ResultReply, key)
        if reply.run_uuid != upload.run.id:
            raise UnexpectedReply(f"the coordinator confirms run {reply.run_uuid}, not {upload.run.id}")
        return reply

    def tell(self, notice: WorkerNotice) -> None:
        """Say what this worker is about to do, for people to see."""
        self._post("/workers/notices", notice, WorkerView, timeout=SHORT_TIMEOUT)

    def read_versions(self) -> Versions:
        """What the coordinator speaks, and which workers it gives jobs to."""
        return self._get("/versions", Versions)

    def sign_up(self, asked: SignUp) -> Account:
        """Make an account; this needs no token. Raises Rejected where the name is taken."""
        return self._post("/accounts", asked, Account)

    def fetch_project(self, name: str) -> Project:
        """A project with its contract."""
        return self._get(f"/projects/{name}", Project)

    def fetch_files(self, project: str, sha: str) -> CommitFiles:
        """All files of a commit."""
        commit = self._get(f"/projects/{project}/commits/{sha}/files", CommitFiles)
        if commit.sha != sha:
            raise UnexpectedReply(f"the coordinator sends the files of {commit.sha}, not of {sha}")
        return commit

    def _post(
        self,
        path: str,
        message: BaseModel,
        reply: type[Reply],
        headers: Mapping[str, str] | None = None,
        timeout: httpx.Timeout = TIMEOUT,
    ) -> Reply:
        content = {"Content-Type": "application/json", **(headers or {})}
        request = self._http.build_request(
            "POST", path, content=message.model_dump_json(), headers=content, timeout=timeout
        )
        return self._send(request, reply)

    def _get(self, path: str, reply: type[Reply]) -> Reply:
        return self._send(self._http.build_request("GET", path), reply)

    def _send(self, request: httpx.Request, reply: type[Reply]) -> Reply:
        try:
            response = self._http.send(request)
        except httpx.TransportError as error:
            raise Unreachable(f"no answer from {self.url}: {_explain(error)}") from error
        except httpx.HTTPError as error:  # a body that cannot be decoded, for one
            raise UnexpectedReply(f"{self.url} gave a broken answer: {_explain(error)}") from error
        _raise_for_problem(response, self.url)
        try:
            return reply.model_validate_json(response.content)
        except ValidationError as error:
            raise UnexpectedReply(
                f"{self.url} answered {request.method} {request.url.path} with something that is no {reply.__name__}; "
                "is it a coordinator, and of a version that fits?"
            ) from error


def program_version() -> str:
    """This program's own version."""
    return importlib.metadata.version("research-swarm")


def user_agent() -> str:
    """Who is calling: the distribution and its version, and Python's."""
    return f"research-swarm-worker/{program_version()} Python/{platform.python_version()}"


def _raise_for_problem(response: httpx.Response, url: str) -> None:
    status = response.status_code
    if response.is_success:
        return
    problem = _problem(response)
    said = f"{problem.title}: {problem.detail}".rstrip(": ") if problem else f"HTTP {status}"
    if status == UPGRADE_REQUIRED and problem is not None:
        raise Outdated(_explain_versions(problem, url))
    if status in (401, 403) and problem is not None and not problem.code.startswith("lease-"):
        raise Unauthorized(said)
    if status in (408, 425, 429) or status >= 500:
        raise Unreachable(f"{url} cannot answer now: {said}", _retry_after(response))
    if status >= 400 and problem is not None:
        raise Rejected(status, problem.code, said)
    raise UnexpectedReply(f"{url} answered with HTTP {status} and no reason; is it a coordinator?")


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


def _problem(response: httpx.Response) -> Problem | None:
    if response.headers.get("Content-Type", "").partition(";")[0].strip() != PROBLEM_MEDIA_TYPE:
        return None
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return None


def _retry_after(response: httpx.Response) -> float | None:
    """The seconds of `Retry-After`; its other form, a date, is not used by our coordinator."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), MAX_RETRY_AFTER_SECONDS) if text.isascii() and text.isdigit() else None


def _explain(error: Exception) -> str:
    """The error's own words, without the number that some systems put before them."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
