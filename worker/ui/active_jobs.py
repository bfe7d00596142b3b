"""The jobs that a worker has at the same time, as people see them: one on the device, others before or after it."""

import math
from dataclasses import dataclass, field
from uuid import UUID

from shared.experiments import JobKind, Proposal
from shared.leases import Lease, Phase
from worker.runs import Progress

_ON_THE_DEVICE = (Phase.STARTING, Phase.TRAINING, Phase.SCORING)
_WORDS = {
    Phase.DRAFTING: "being drafted",
    Phase.READY: "ready, waits for the device",
    Phase.REPORTING: "being reported",
}


@dataclass
class Shown:
    """A job: what it tries (empty while that is not known), and how far it is."""

    lease: Lease
    proposal: Proposal | None = None
    progress: Progress | None = None
    losses: list[float] = field(default_factory=list)

    @property
    def phase(self) -> Phase:
        if self.progress is not None:
            return self.progress.phase
        return Phase.DRAFTING if self.lease.kind.makes_experiment else Phase.READY

    @property
    def name(self) -> str:
        """`improve 0123456789 on main`."""
        return f"{self.lease.kind.value} {self.lease.base.sha[:10]} on {self.lease.branch}"

    @property
    def trying(self) -> str:
        """What it is about, in a line; empty while that is not known."""
        if self.proposal is not None:
            return self.proposal.title
        if self.lease.kind.makes_experiment:
            return ""
        return f"measure {self.lease.base.sha[:10]}" + (" once more" if self.lease.kind is JobKind.REPLICATE else "")

    @property
    def predicted(self) -> float | None:
        """The effect that its proposal predicts."""
        return self.proposal.predicted_effect if self.proposal is not None else None

    @property
    def aside(self) -> str:
        """A job that is not on the device, in a line: `DEPTH 4 -> 6 · ready, waits for the device`."""
        return f"{self.trying or self.name} · {_WORDS.get(self.phase, self.phase.value)}"

    @property
    def is_next(self) -> bool:
        """Whether it still has its run before it."""
        return self.phase in (Phase.DRAFTING, Phase.READY)


class Board:
    """Not for several threads."""

    def __init__(self) -> None:
        self._jobs: dict[UUID, Shown] = {}

    @property
    def current(self) -> Shown | None:
        """The job on the device; where there is none, the one that was taken first."""
        jobs = list(self._jobs.values())
        return next((job for job in jobs if job.phase in _ON_THE_DEVICE), jobs[0] if jobs else None)

    @property
    def others(self) -> list[Shown]:
        """The others, in the order in which they were taken."""
        current = self.current
        return [job for job in self._jobs.values() if job is not current]

    def take(self, lease: Lease) -> None:
        self._jobs[lease.id] = Shown(lease)

    def propose(self, lease: Lease, proposal: Proposal) -> None:
        if (job := self._jobs.get(lease.id)) is not None:
            job.proposal = proposal

    def progress(self, lease: Lease, progress: Progress) -> bool:
        """Note how far a job is; whether its phase is another now."""
        job = self._jobs.get(lease.id)
        if job is None:
            return False
        changed = progress.phase is not job.phase
        if progress.phase is Phase.STARTING:  # of a repaired run, too
            job.losses.clear()
        if progress.phase is Phase.TRAINING and progress.loss is not None and math.isfinite(progress.loss):
            job.losses.append(progress.loss)
        job.progress = progress
        return changed

    def end(self, lease: Lease) -> None:
        self._jobs.pop(lease.id, None)
