"""A project's progress: every run a point, and the line of the lowest posterior."""

from shared.experiments import Posterior
from shared.protocol import Message, Sha, Slug, Timestamp
from shared.runs import RunOutcome


class HardwareClassCount(Message):
    """A hardware class that a project was measured in."""

    name: str
    runs: int


class ProgressPoint(Message):
    """One run. `leading` is the best posterior mean among all commits measured up to here, as known now."""

    run_id: int
    experiment_id: int | None
    sha: Sha
    title: str
    outcome: RunOutcome
    metric: float | None
    reason: str
    posterior: Posterior | None
    leading: float | None
    finished_at: Timestamp


class Progress(Message):
    """What the progress plot shows, in one hardware class.

    `leader_id` is the experiment that leads, None while the root does.
    """

    project: Slug
    metric: str
    unit: str
    direction: str
    hardware_class: str | None
    hardware_classes: list[HardwareClassCount]
    experiments: int
    points: list[ProgressPoint]
    leader_sha: Sha | None
    leader_id: int | None
