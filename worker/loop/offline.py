"""Offline mode: while the coordinator is away, a worker goes on from the best commit that it knows.

    alone.json    beside the outbox: the last project, its agent's context, and the scores of commits measured here, so
                  that a worker can also start while the coordinator is away

A job that a worker gives itself makes an experiment; its result waits in the outbox with an `OfflineLease`, by which
the coordinator recognises it later. The best commit is chosen by this machine's own measurements, each shrunk towards
its parent's according to the noise: raw numbers of other machines do not compare.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from threading import Lock
from uuid import UUID, uuid4

from pydantic import Field, ValidationError

from shared.contract import Contract
from shared.experiments import JobKind, ProposalReply, ProposalSubmission, Trial
from shared.leases import BaseCommit, GrantedLease, Heartbeat, HeartbeatReply, LeaseState, OfflineLease, ReleaseRequest
from shared.protocol import Message, Sha, Slug, now
from shared.runs import MAX_SEED, Hardware, RunOutcome, RunReport

FILE = "alone.json"
AWAY_SECONDS = 60.0
"""Seconds without an answer after which a worker goes on by itself; a restart takes less."""

LEASE_TIME = timedelta(days=1)
HEARTBEAT_SECONDS = 60.0
MAX_SCORES = 1000
"""Number of commits whose scores are kept."""

WHY = "The coordinator is away, and this worker goes on by itself from the best commit that it knows."


class OfflineState(Message):
    """The data to go on with. `scores` are expected metrics on this machine, lower is better; `best` has the lowest."""

    project: Slug
    root_sha: Sha
    branch: str
    context: str
    trials: list[Trial]
    start: BaseCommit
    best: BaseCommit | None = None
    scores: dict[Sha, float] = Field(default_factory=dict)


class OfflineMode:
    """Implements `LeaseClient`: gives a worker jobs of its own once the coordinator has been away for `away_seconds`.

    Several threads may use it.
    """

    def __init__(
        self,
        folder: Path,
        worker: str,
        agent: str,
        hardware: Hardware,
        away_seconds: float = AWAY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = folder / FILE
        self._worker, self._agent, self._hardware = worker, agent, hardware
        self._away_seconds, self._clock = away_seconds, clock
        self._away_since: float | None = None
        self._leases: dict[UUID, OfflineLease] = {}
        self._tried: set[str] = set()
        self._lock = Lock()
        self._state = _load(self._path)

    @property
    def coordinator_is_away(self) -> bool:
        return self._away_since is not None

    @property
    def has_project(self) -> bool:
        """Whether this worker had a job of this coordinator before, and so has a project to go on with."""
        return self._state is not None

    @property
    def may_claim(self) -> bool:
        """Whether the coordinator has been away long enough for a job of the worker's own."""
        waited = self._away_since is not None and self._clock() >= self._away_since + self._away_seconds
        return waited and self.has_project

    def record_no_answer(self) -> None:
        if self._away_since is None:
            self._away_since = self._clock()

    def record_answer(self) -> None:
        self._away_since = None

    def record_lease(self, lease: GrantedLease) -> None:
        """Keep the project, context and base of a job of the coordinator's."""
        state = self._state
        fresh = OfflineState(
            project=lease.project,
            root_sha=lease.root_sha,
            branch=lease.branch,
            context=lease.context,
            trials=lease.trials,
            start=lease.base,
        )
        if state is not None and (state.project, state.root_sha) == (lease.project, lease.root_sha):
            trials = lease.trials or state.trials
            fresh = fresh.model_copy(update={"best": state.best, "scores": state.scores, "trials": trials})
        self._save(fresh)

    def record_run(self, lease: GrantedLease, contract: Contract, report: RunReport, files: dict[str, str]) -> None:
        """Keep the score of a measured commit; `files` are its editable files."""
        state = self._state
        if state is None or (state.project, state.root_sha) != (lease.project, lease.root_sha) or report.metric is None:
            return
        if report.outcome is not RunOutcome.OK or len(state.scores) >= MAX_SCORES:
            return
        parent = lease.base.sha if lease.base.sha != report.commit_sha else None
        score = expected_metric(report.metric * contract.objective.sign, state.scores, parent, contract)
        scores = {**state.scores, report.commit_sha: score}
        best = state.best
        if score <= min(scores.values()):
            curve = [point.model_copy(update={"seconds": point.seconds / lease.pace}) for point in report.curve]
            best = BaseCommit(sha=report.commit_sha, files=files, posterior=None, curve=curve)
        self._save(state.model_copy(update={"scores": scores, "best": best}))

    def make_lease(self) -> GrantedLease:
        assert self._state is not None
        state, moment = self._state, now()
        lease = GrantedLease(
            id=uuid4(), token=secrets.token_urlsafe(24), project=state.project, root_sha=state.root_sha,
            kind=JobKind.IMPROVE, base=state.best or state.start, branch=state.branch, seed=secrets.randbelow(MAX_SEED),
            why=WHY, context=state.context, trials=state.trials, issued_at=moment, expires_at=moment + LEASE_TIME,
            deadline_at=moment + LEASE_TIME, heartbeat_seconds=HEARTBEAT_SECONDS,
        )  # fmt: skip
        with self._lock:
            self._leases[lease.id] = self.describe(lease)
        return lease

    def describe(self, lease: GrantedLease) -> OfflineLease:
        """A job as one that the worker gave itself, by which the coordinator recognises its result."""
        return OfflineLease(
            token=lease.token, worker=self._worker, agent=self._agent, hardware=self._hardware, project=lease.project,
            base_sha=lease.base.sha, seed=lease.seed, issued_at=lease.issued_at,
        )  # fmt: skip

    def find_offline(self, lease_id: UUID) -> OfflineLease | None:
        """The lease as the coordinator will learn of it; None if the coordinator gave the job itself."""
        with self._lock:
            return self._leases.get(lease_id)

    def heartbeat(self, lease_id: UUID, beat: Heartbeat) -> HeartbeatReply:  # noqa: ARG002 - as CoordinatorClient's
        """Answer that the job goes on."""
        return HeartbeatReply(state=LeaseState.RUNNING, expires_at=now() + LEASE_TIME)

    def propose(self, lease_id: UUID, submission: ProposalSubmission) -> ProposalReply:
        """Accept an experiment that this process has not tried yet."""
        with self._lock:
            base_sha = self._leases[lease_id].base_sha
            code = hashlib.sha256(json.dumps([base_sha, submission.files], sort_keys=True).encode()).hexdigest()
            if code in self._tried:
                reason = "this worker has tried this while the coordinator was away"
                return ProposalReply(accepted=False, reason=reason)
            self._tried.add(code)
        return ProposalReply(accepted=True)

    def release(self, lease_id: UUID, request: ReleaseRequest) -> HeartbeatReply:  # noqa: ARG002 - as CoordinatorClient's
        with self._lock:
            self._leases.pop(lease_id, None)
        return HeartbeatReply(state=LeaseState.RELEASED, expires_at=now())

    def _save(self, state: OfflineState) -> None:
        self._state = state
        temporary = self._path.with_suffix(".tmp")
        with suppress(OSError):  # on a full disk it is kept until this process ends
            temporary.write_text(state.model_dump_json(), encoding="utf-8")
            temporary.replace(self._path)


def expected_metric(value: float, scores: dict[Sha, float], parent: Sha | None, contract: Contract) -> float:
    """The expected metric of another run of a commit, after one run gave `value`; lower is better.

    The mean of the conjugate normal posterior, as in docs/architecture.md: the prior is the parent's, with the sd of a
    typical effect; without a parent that was measured here it is the mean of all that were.
    """
    prior = scores.get(parent) if parent is not None else None
    if prior is None:
        prior = fmean(scores.values()) if scores else value
    effect, noise = contract.evidence.effect_sd**2, contract.evidence.noise_sd**2
    return prior + (value - prior) * effect / (effect + noise)


def _load(path: Path) -> OfflineState | None:
    try:
        return OfflineState.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
