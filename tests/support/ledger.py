"""A ledger outside the coordinator: results that were sent and acknowledged, to compare with the database."""

import time
from dataclasses import dataclass, field
from threading import Lock

import httpx
from sqlalchemy import func, select

from coordinator.db.database import Database
from coordinator.models import Commit, Experiment, Finding, Lease, Run
from shared.leases import LeaseState, Phase, ResultReply, ResultUpload
from tests.support.messages import make_result, make_run
from tests.support.volunteers import MiniWorker

RETRY_FOR_SECONDS = 90.0
PAUSE_SECONDS = 0.05


class RetryingTransport(httpx.BaseTransport):
    """Sends a request again until it is answered: every write of the protocol may be repeated."""

    def __init__(self, inner: httpx.BaseTransport | None = None) -> None:
        self._inner = inner or httpx.HTTPTransport()
        self.repeated = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        deadline = time.monotonic() + RETRY_FOR_SECONDS
        while True:
            try:
                response = self._inner.handle_request(request)
                response.read()
                if response.status_code < 500:
                    return response
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, f"{request.url} was never answered"
            self.repeated += 1
            time.sleep(PAUSE_SECONDS)

    def close(self) -> None:
        self._inner.close()


@dataclass
class Ledger:
    """Results by their run's own id."""

    sent: set[str] = field(default_factory=set)
    acknowledged: dict[str, ResultReply] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def do_job(self, worker: MiniWorker, number: int) -> None:
        """Claim, propose, send a heartbeat and deliver one job, and record the answer."""
        lease = worker.claim_job()
        if lease.kind.makes_experiment:
            files = {"train.py": f"LEARNING_RATE = 0.003\nDEPTH = 4\nIDEA = '{worker.name} {number}'\n"}
            assert worker.propose(lease, files).accepted
            upload = make_result(lease, worker.files_of(lease), files, 3.2 + number / 1000)
        else:
            upload = ResultUpload(run=make_run(lease.base.sha, 3.3))
        worker.beat(lease, Phase.TRAINING, step=number, share=0.5)
        self.record_sent(upload.model_dump_json())
        response = worker.deliver(lease, upload)
        assert response.status_code in (200, 201), response.text
        self.record_acknowledged(response.content)

    def record_sent(self, body: str | bytes) -> None:
        """Record a result that was sent: it may be stored from now on."""
        upload = ResultUpload.model_validate_json(body)
        with self._lock:
            self.sent.add(str(upload.run.id))

    def record_acknowledged(self, body: str | bytes) -> None:
        """Record an answer: the result must be stored, and every answer to it must be the same."""
        reply = ResultReply.model_validate_json(body)
        with self._lock:
            assert self.acknowledged.setdefault(str(reply.run_uuid), reply) == reply

    def check(self, database: Database) -> None:
        """Every acknowledged result is stored once and whole, and nothing is stored that was not sent."""
        with database.read() as session:
            stored = {str(run.uuid): run for run in session.scalars(select(Run))}
            assert self.acknowledged.keys() <= stored.keys() <= self.sent
            for key, reply in self.acknowledged.items():
                run = stored[key]
                assert (run.id, run.experiment_id) == (reply.run_id, reply.experiment_id)
                assert session.get(Commit, run.commit_sha) is not None
            experiments = session.scalar(select(func.count()).select_from(Experiment)) or 0
            assert session.scalar(select(func.count()).select_from(Finding)) == experiments
            commits = session.scalar(select(func.count()).select_from(Commit))
            assert commits == experiments + 1, "the root's, and each experiment's"
            done = session.scalar(select(func.count()).where(Lease.state == LeaseState.DONE))
            assert done == len(stored), "a lease is done exactly if its result is stored"
