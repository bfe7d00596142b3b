"""What a worker does while its coordinator is away: it goes on from the best commit that it knows.

    alone.json    beside the outbox: the project that was worked on last, what its agent may read, and how commits did
                  here; so that a worker which is started while the coordinator is away can go on, too

A job that a worker gives itself has ids of its own making and makes an experiment; its result waits in the outbox
with an `OwnLease`, by which the coordinator knows it later. Which commit is best is judged by this machine's own
measurements alone, each drawn towards its parent's as far as noise goes: raw numbers of other machines do not compare.
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
from uuid import UUID, uuid4

from pydantic import Field, ValidationError

from shared.contract import Contract
from shared.experiments import JobKind, ProposalReply, ProposalSubmission, Trial
from shared.hardware import Hardware
from shared.leases import BaseCommit, Heartbeat, HeartbeatReply, Lease, LeaseState, OwnLease, ReleaseRequest
from shared.protocol import Message, Sha, Slug, now
from shared.runs import MAX_SEED, RunOutcome, RunReport

FILE = "alone.json"
PATIENCE_SECONDS = 60.0
"""How long a coordinator may be away before its workers go on by themselves: a restart is no absence."""

LEASE_TIME = timedelta(days=1)
HEARTBEAT_SECONDS = 60.0
MAX_KNOWN = 1000
WHY = "The coordinator is away, and this worker goes on by itself from the best commit that it knows."


class Known(Message):
    """What a worker can go on with. `scores` are expected metrics here, lower is better; `best` has the lowest."""

    project: Slug
    root_sha: Sha
    branch: str
    context: str
    trials: list[Trial]
    start: BaseCommit
    best: BaseCommit | None = None
    scores: dict[Sha, float] = Field(default_factory=dict)


class Alone:
    """One worker's jobs of its own. `patience_seconds` is how long the coordinator must have been away for one.

    Only the desk's thread uses it, but for `owns`.
    """

    def __init__(
        self,
        folder: Path,
        worker: str,
        agent: str,
        hardware: Hardware,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = folder / FILE
        self._worker, self._agent, self._hardware = worker, agent, hardware
        self._patience_seconds, self._clock = patience_seconds, clock
        self._away_since: float | None = None
        self._own: dict[UUID, OwnLease] = {}
        self._tried: set[str] = set()
        self._known = _load(self._path)

    @property
    def is_away(self) -> bool:
        """Whether the coordinator did not answer the last time."""
        return self._away_since is not None

    @property
    def knows_enough(self) -> bool:
        """Whether there is a project to go on with: this worker had a job of this coordinator before."""
        return self._known is not None

    @property
    def may_begin(self) -> bool:
        """Whether the coordinator has been away for so long that a job of its own is in order."""
        waited = self._away_since is not None and self._clock() >= self._away_since + self._patience_seconds
        return waited and self.knows_enough

    def note_away(self) -> None:
        """The coordinator did not answer."""
        if self._away_since is None:
            self._away_since = self._clock()

    def note_answer(self) -> None:
        """The coordinator has answered."""
        self._away_since = None

    def remember(self, lease: Lease) -> None:
        """Keep what the coordinator gave with a job."""
        known = self._known
        fresh = Known(
            project=lease.project,
            root_sha=lease.root_sha,
            branch=lease.branch,
            context=lease.context,
            trials=lease.trials,
            start=lease.base,
        )
        if known is not None and (known.project, known.root_sha) == (lease.project, lease.root_sha):
            trials = lease.trials or known.trials
            fresh = fresh.model_copy(update={"best": known.best, "scores": known.scores, "trials": trials})
        self._keep(fresh)

    def note_run(self, lease: Lease, contract: Contract, report: RunReport, files: dict[str, str]) -> None:
        """Keep how a commit did here; `files` are its editable ones."""
        known = self._known
        if known is None or (known.project, known.root_sha) != (lease.project, lease.root_sha) or report.metric is None:
            return
        if report.outcome is not RunOutcome.OK or len(known.scores) >= MAX_KNOWN:
            return
        parent = lease.base.sha if lease.base.sha != report.commit_sha else None
        score = expect(report.metric * contract.objective.sign, known.scores, parent, contract)
        scores = {**known.scores, report.commit_sha: score}
        best = known.best
        if score <= min(scores.values()):
            best = BaseCommit(sha=report.commit_sha, files=files, posterior=None, curve=report.curve)
        self._keep(known.model_copy(update={"scores": scores, "best": best}))

    def make_lease(self) -> Lease:
        """A job of this worker's own making."""
        assert self._known is not None
        known, moment = self._known, now()
        lease = Lease(
            id=uuid4(),
            token=secrets.token_urlsafe(24),
            project=known.project,
            root_sha=known.root_sha,
            kind=JobKind.IMPROVE,
            base=known.best or known.start,
            branch=known.branch,
            seed=secrets.randbelow(MAX_SEED),
            why=WHY,
            context=known.context,
            trials=known.trials,
            issued_at=moment,
            expires_at=moment + LEASE_TIME,
            deadline_at=moment + LEASE_TIME,
            heartbeat_seconds=HEARTBEAT_SECONDS,
        )
        self._own[lease.id] = OwnLease(
            token=lease.token,
            worker=self._worker,
            agent=self._agent,
            hardware=self._hardware,
            project=lease.project,
            base_sha=lease.base.sha,
            seed=lease.seed,
            issued_at=moment,
        )
        return lease

    def own(self, lease_id: UUID) -> OwnLease | None:
        """What the coordinator is to hear of that job; None if it gave the job itself."""
        return self._own.get(lease_id)

    # Nobody else is there to be asked: what the coordinator would answer about a job of this worker's own.

    def heartbeat(self, lease_id: UUID, beat: Heartbeat) -> HeartbeatReply:  # noqa: ARG002 - as the client's
        """The job goes on."""
        return HeartbeatReply(state=LeaseState.RUNNING, expires_at=now() + LEASE_TIME)

    def propose(self, lease_id: UUID, submission: ProposalSubmission) -> ProposalReply:
        """Whether this worker has not tried this yet, since it was started."""
        own = self._own[lease_id]
        code = hashlib.sha256(json.dumps([own.base_sha, submission.files], sort_keys=True).encode()).hexdigest()
        if code in self._tried:
            return ProposalReply(accepted=False, reason="this worker has tried this while the coordinator was away")
        self._tried.add(code)
        return ProposalReply(accepted=True)

    def release(self, lease_id: UUID, request: ReleaseRequest) -> HeartbeatReply:  # noqa: ARG002 - as the client's
        """It is as if it had never been."""
        self._own.pop(lease_id, None)
        return HeartbeatReply(state=LeaseState.RELEASED, expires_at=now())

    def _keep(self, known: Known) -> None:
        self._known = known
        temporary = self._path.with_suffix(".tmp")
        with suppress(OSError):  # a full disk: it is known until this process ends
            temporary.write_text(known.model_dump_json(), encoding="utf-8")
            temporary.replace(self._path)


def expect(value: float, scores: dict[Sha, float], parent: Sha | None, contract: Contract) -> float:
    """What a further run of a commit would give, after one that gave `value`; lower is better.

    The mean of the conjugate normal posterior, as in docs/architecture.md: the prior is the parent's, with the sd of a
    typical effect; without a parent that was measured here it is the mean of all that were.
    """
    prior = scores.get(parent) if parent is not None else None
    if prior is None:
        prior = fmean(scores.values()) if scores else value
    effect, noise = contract.evidence.effect_sd**2, contract.evidence.noise_sd**2
    return prior + (value - prior) * effect / (effect + noise)


def _load(path: Path) -> Known | None:
    """What was kept; None where there is nothing, or nothing of this form."""
    try:
        return Known.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
