"""A volunteer's worker in miniature: it speaks the real protocol to a real application, and trains nothing."""

from typing import Any, TypeVar

import httpx
from pydantic import BaseModel

from shared.experiments import Proposal, ProposalReply, ProposalSubmission
from shared.leases import ClaimReply, GrantedLease, Heartbeat, Phase, ReleaseRequest, ResultReply, ResultUpload
from shared.protocol import API_PREFIX
from tests.support.messages import claim_request, describe_change, make_result, make_run

Reply = TypeVar("Reply", bound=BaseModel)


class MiniWorker:
    """One worker of one volunteer."""

    def __init__(self, http: httpx.Client, token: str, name: str = "w1") -> None:
        self.http = http
        self.name = name
        self._headers = {"Authorization": f"Bearer {token}"}

    def post(self, path: str, body: BaseModel | dict[str, Any], **headers: str) -> httpx.Response:
        json = body.model_dump(mode="json") if isinstance(body, BaseModel) else body
        return self.http.post(API_PREFIX + path, json=json, headers=self._headers | headers)

    def get_json(self, path: str) -> Any:
        response = self.http.get(API_PREFIX + path)
        assert response.status_code == 200, response.text
        return response.json()

    def claim(self, **changes: Any) -> ClaimReply:
        return _read(ClaimReply, self.post("/leases", claim_request(self.name, **changes)))

    def claim_job(self, **changes: Any) -> GrantedLease:
        reply = self.claim(**changes)
        assert reply.lease is not None, reply.reason
        return reply.lease

    def propose(
        self, lease: GrantedLease, files: dict[str, str], title: str = "a change", proposal: Proposal | None = None
    ) -> ProposalReply:
        proposal = proposal or describe_change(lease.base.files, files, title)
        submission = ProposalSubmission(token=lease.token, proposal=proposal, files=files)
        return _read(ProposalReply, self.post(f"/leases/{lease.id}/proposal", submission))

    def beat(self, lease: GrantedLease, phase: Phase, **progress: Any) -> httpx.Response:
        return self.post(f"/leases/{lease.id}/heartbeat", Heartbeat(token=lease.token, phase=phase, **progress))

    def release(self, lease: GrantedLease) -> httpx.Response:
        return self.post(f"/leases/{lease.id}/release", ReleaseRequest(token=lease.token, reason="tired"))

    def deliver(self, lease: GrantedLease, upload: ResultUpload, *, keeps_seed: bool = False) -> httpx.Response:
        """Deliver a result, with the lease's seed unless it `keeps_seed`."""
        if not keeps_seed:
            upload = upload.model_copy(update={"run": upload.run.model_copy(update={"seed": lease.seed})})
        return self.post(f"/leases/{lease.id}/result", upload, **{"Idempotency-Key": str(upload.run.id)})

    def files_of(self, lease: GrantedLease) -> dict[str, str]:
        """All files of the commit that a lease starts from."""
        files: dict[str, str] = self.get_json(f"/projects/{lease.project}/commits/{lease.base.sha}/files")["files"]
        return files

    def measure_root(self, metric: float = 3.3) -> ResultReply:
        """Do the first job of every worker: measure the seed."""
        lease = self.claim_job()
        upload = ResultUpload(run=make_run(lease.base.sha, metric))
        return _read(ResultReply, self.deliver(lease, upload))

    def experiment(self, text: str, metric: float | None = 3.2, **changes: Any) -> tuple[GrantedLease, ResultReply]:
        """Claim an experiment, change `train.py` to `text`, and deliver a measurement."""
        lease = self.claim_job()
        files = {"train.py": text}
        assert self.propose(lease, files).accepted
        upload = make_result(lease, self.files_of(lease), files, metric, **changes)
        return lease, _read(ResultReply, self.deliver(lease, upload))


def _read(model: type[Reply], response: httpx.Response) -> Reply:
    assert response.status_code in (200, 201), response.text
    return model.model_validate_json(response.content)
