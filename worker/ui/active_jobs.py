"""The jobs that a worker has at the same time, as views show them: one on the device, others before or after it."""

import math
from dataclasses import dataclass, field
from uuid import UUID

from shared.experiments import JobKind, Proposal
from shared.leases import GrantedLease, Phase
from worker.runs.spec import RunProgress
from worker.ui.events import Event, ExperimentProposed, JobClaimed, JobDropped, JobProgressed, RunFinished

_ON_THE_DEVICE = (Phase.STARTING, Phase.TRAINING, Phase.SCORING)
_PHASE_TEXTS = {
    Phase.DRAFTING: "being drafted",
    Phase.READY: "ready, waits for the device",
    Phase.REPORTING: "being reported",
}


@dataclass
class JobView:
    """A job: its proposal (None while unknown) and the agent that had the idea, its progress, and its training losses
    so far."""

    lease: GrantedLease
    proposal: Proposal | None = None
    agent: str = ""
    losses: list[float] = field(default_factory=list)
    progress: RunProgress = field(init=False)

    def __post_init__(self) -> None:
        self.progress = RunProgress(self.lease.first_phase)

    def follow(self, progress: RunProgress) -> bool:
        """Keep the progress; return whether the phase changed."""
        changed = progress.phase is not self.phase
        if progress.phase is Phase.STARTING:  # also of a repaired run
            self.losses.clear()
        if progress.phase is Phase.TRAINING and progress.loss is not None and math.isfinite(progress.loss):
            self.losses.append(progress.loss)
        self.progress = progress
        return changed

    @property
    def phase(self) -> Phase:
        return self.progress.phase

    @property
    def name(self) -> str:
        """`improve 0123456789 on main`."""
        return f"{self.lease.kind.value} {self.lease.base.sha[:10]} on {self.lease.branch}"

    @property
    def trying(self) -> str:
        """One line about the experiment or measurement; empty while unknown."""
        if self.proposal is not None:
            return self.proposal.title
        if self.lease.kind.makes_experiment:
            return ""
        if self.lease.rung is not None:
            return f"measure {self.lease.base.sha[:10]} on the rung {self.lease.rung}"
        return f"measure {self.lease.base.sha[:10]}" + (" once more" if self.lease.kind is JobKind.REPLICATE else "")

    @property
    def line(self) -> str:
        """A job that is not on the device, in one line: `DEPTH 4 -> 6 · ready, waits for the device`."""
        return f"{self.trying or self.name} · {_PHASE_TEXTS.get(self.phase, self.phase.value)}"

    @property
    def is_next(self) -> bool:
        """Whether its run has not begun."""
        return self.phase in (Phase.DRAFTING, Phase.READY)


class ActiveJobs:
    """Follows a worker's jobs through its events. Not thread-safe: each view guards its own instance with its lock."""

    def __init__(self) -> None:
        self._jobs: dict[UUID, JobView] = {}

    @property
    def current(self) -> JobView | None:
        """The job on the device, else the oldest job."""
        jobs = list(self._jobs.values())
        return next((job for job in jobs if job.phase in _ON_THE_DEVICE), jobs[0] if jobs else None)

    @property
    def others(self) -> list[JobView]:
        """All jobs but the current one, oldest first."""
        current = self.current
        return [job for job in self._jobs.values() if job is not current]

    def apply(self, event: Event) -> bool:
        """Update the jobs; return whether a job came, went, got a proposal or changed its phase."""
        match event:
            case JobClaimed(lease):
                self._jobs[lease.id] = JobView(lease)
            case ExperimentProposed(lease, proposal, agent) if lease.id in self._jobs:
                self._jobs[lease.id].proposal, self._jobs[lease.id].agent = proposal, agent
            case JobProgressed(lease, progress) if lease.id in self._jobs:
                return self._jobs[lease.id].follow(progress)
            case JobDropped(lease):
                self._jobs.pop(lease.id, None)
            case RunFinished(summary):
                self._jobs.pop(summary.lease.id, None)
            case _:
                return False
        return True
