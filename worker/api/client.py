"""The client of the coordinator's API: every request of a worker.

Nothing is repeated here: each error says whether another attempt can help.
"""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TypeVar
from uuid import UUID, uuid4

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from shared.experiments import ProposalReply, ProposalSubmission
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
from shared.projects import CommitFiles, ProjectView
from shared.protocol import API_PREFIX, PROTOCOL_HEADER, PROTOCOL_VERSION, VERSION_HEADER, Page, Versions, now
from shared.workers import Account, SignUp, WorkerNotice, WorkerView
from worker.api.errors import ClientError as ClientError
from worker.api.errors import Outdated as Outdated
from worker.api.errors import Rejected as Rejected
from worker.api.errors import Unauthorized as Unauthorized
from worker.api.errors import UnexpectedReply as UnexpectedReply
from worker.api.errors import Unreachable as Unreachable
from worker.api.errors import answered_at, explain, raise_for_problem, user_agent
from worker.api.errors import program_version as program_version
from worker.settings import SettingsError

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
UNAUTHORIZED = 401
SHORT_TIMEOUT = httpx.Timeout(5.0)  # for requests that must not delay a worker

Reply = TypeVar("Reply", bound=BaseModel)


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
    ) -> None:
        """`read_token` reads the token again when it is refused, because it may have changed."""
        self.url = url.rstrip("/")
        self.clock_error_seconds = 0.0
        self._token, self._read_token = token, read_token
        self._lock = Lock()
        self._http = httpx.Client(
            base_url=self.url + API_PREFIX,
            headers={
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
        """Check the token by a request to release a lease that does not exist.

        Raises Unauthorized if the token is refused, and other ClientErrors.
        """
        try:
            self.release(uuid4(), ReleaseRequest(token="none", reason="a check of the token"))  # noqa: S106 - of a lease
        except Rejected as error:
            if error.status not in (403, 404, 410):
                raise

    def claim(self, request: ClaimRequest) -> ClaimReply:
        """Claim a job. Raises Outdated."""
        return self._send("POST", "/leases", request, ClaimReply)

    def heartbeat(self, lease_id: UUID, beat: Heartbeat) -> HeartbeatReply:
        """Renew a lease. Raises Rejected where the lease is no longer held."""
        return self._send("POST", f"/leases/{lease_id}/heartbeat", beat, HeartbeatReply, timeout=SHORT_TIMEOUT)

    def propose(self, lease_id: UUID, submission: ProposalSubmission) -> ProposalReply:
        """Ask whether a proposal is new."""
        return self._send("POST", f"/leases/{lease_id}/proposal", submission, ProposalReply)

    def release(self, lease_id: UUID, request: ReleaseRequest) -> HeartbeatReply:
        """Give a job back."""
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

    def read_versions(self) -> Versions:
        """The coordinator's protocol, and the versions of workers that it accepts."""
        return self._get("/versions", Versions)

    def sign_up(self, asked: SignUp) -> Account:
        """Make an account; this needs no token. Raises Rejected where the name is taken."""
        return self._send("POST", "/accounts", asked, Account)

    def list_projects(self) -> list[ProjectView]:
        """All projects of the coordinator."""
        return self._get("/projects", Page[ProjectView]).items

    def fetch_project(self, project: str) -> ProjectView:
        """A project, with its contract."""
        return self._get(f"/projects/{project}", ProjectView)

    def fetch_files(self, project: str, sha: str) -> CommitFiles:
        """All files of a commit."""
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
        content_type = {"Content-Type": "application/json"}
        content = message.model_dump_json()
        request = self._http.build_request(
            method, path, content=content, headers=content_type | dict(headers or {}), timeout=timeout
        )
        return self._request(request, reply)

    def _request(self, request: httpx.Request, reply: type[Reply]) -> Reply:
        with self._lock:
            token = self._token
        response = self._send_with(token, request)
        if response.status_code == UNAUTHORIZED and (changed := self._find_changed_token(token)) is not None:
            response = self._send_with(changed, request)
        raise_for_problem(self.url, response.status_code, response.headers, response.content)
        try:
            return reply.model_validate_json(response.content)
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
        if (date := answered_at(response.headers)) is not None:
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
