"""Experiments as the coordinator shows them: lists, records, lines of descent, comparisons."""

from shared.experiments import AxisDirection, JobKind, Posterior, StepReport
from shared.findings import FindingView
from shared.protocol import Message, Sha, Slug, Timestamp
from shared.runs import RunOutcome, RunView


class ExperimentSummary(Message):
    """A row of the list of experiments."""

    id: int
    project: str
    kind: JobKind
    sha: Sha
    parent_sha: Sha
    parent_id: int | None
    branch: str
    title: str
    axis: str
    direction: AxisDirection
    value: str
    outcome: str
    hardware_class: str
    worker: str
    posterior: Posterior | None
    created_at: Timestamp


class ExperimentDetail(ExperimentSummary):
    """One experiment, whole."""

    hypothesis: str
    predicted_effect: float | None
    refuted_by: str
    insists: str
    steps: list[StepReport]
    why: str
    diff: str
    runs: list[RunView]
    finding: FindingView | None


class RecordCommit(Message):
    """A commit that leads; `experiment_id` is None where it is the root."""

    sha: Sha
    experiment_id: int | None
    title: str
    posterior: Posterior
    gain_mean: float | None
    gain_sd: float | None


class Record(Message):
    """The best commit of a project in a hardware class: `record` is verified, `leader` may be provisional.

    `gain` is metric(record) − metric(root); its sd takes the two as independent, so the true one is at most that.
    """

    project: str
    hardware_class: str
    metric: str
    direction: str
    record: RecordCommit | None
    leader: RecordCommit | None
    baseline: Posterior | None
    runs: int


class LineageStep(Message):
    """A commit on the way to the root. `posterior` is in the hardware class asked for, or that of its first run."""

    sha: Sha
    parent_sha: Sha | None
    depth: int
    project: str
    experiment_id: int | None
    title: str
    axis: str
    value: str
    worker: str
    hardware_class: str | None
    posterior: Posterior | None
    created_at: Timestamp


class ClassComparison(Message):
    """Two commits in one hardware class. `difference` is metric(b) − metric(a), taken as independent."""

    hardware_class: str
    a: Posterior | None
    b: Posterior | None
    difference_mean: float | None
    difference_sd: float | None


class Comparison(Message):
    """Two commits of a project: the difference of their files, and of their measurements.

    `common_ancestor` is None where it is more than 5,000 commits above the deeper one: it is not looked for further up.
    """

    project: str
    a: Sha
    b: Sha
    a_experiment_id: int | None
    b_experiment_id: int | None
    common_ancestor: Sha | None
    diff: str
    classes: list[ClassComparison]


class HardwareClass(Message):
    """A hardware class that a project was measured in. `noise_sd` is that of one run, frozen for the epoch."""

    project: str
    name: str
    runs: int
    workers: int
    noise_sd: float | None
    epoch: int | None
    newest_run_at: Timestamp


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


class ProjectProgress(Message):
    """Data of the progress plot in one hardware class.

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
