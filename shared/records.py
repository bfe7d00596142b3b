"""Experiments as the coordinator shows them: lists, records, lines of descent, comparisons, evidence."""

from enum import StrEnum

from shared.experiments import AxisDirection, JobKind, Posterior, StepReport
from shared.findings import FindingView
from shared.protocol import Message, Sha, Slug, Timestamp
from shared.runs import RunOutcome, RunView


class ExperimentSummary(Message):
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
    """A commit that leads; `experiment_id` is None for the root.

    `gain` is metric(commit) − metric(root); its sd takes the two as independent, so the true one is at most that.
    """

    sha: Sha
    experiment_id: int | None
    title: str
    posterior: Posterior
    gain_mean: float | None
    gain_sd: float | None


class Record(Message):
    """The best commit of a project in a hardware class: `record` is verified, `leader` may be provisional."""

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
    """Two commits of a project. `common_ancestor` is None if it is more than 5,000 commits above the deeper one."""

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
    """Data of the progress plot in one hardware class. `leader_id` is an experiment, None while the root leads."""

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


class Trust(StrEnum):
    """How far a volunteer's measurements in a project agree with those of others on the same commits.

    Maintainers make a worker an `anchor`; `doubted` volunteers were contradicted more often than confirmed since.
    """

    NEWCOMER = "newcomer"
    ESTABLISHED = "established"
    ANCHOR = "anchor"
    DOUBTED = "doubted"


class Estimate(Message):
    mean: float
    sd: float


class EvidenceRun(Message):
    """A run of the commit. `read_as` is its metric less the worker's offset; `trust` is its worker's when it came.

    `counts` is false without a metric, and while a quarantine keeps the run out. `is_in_posterior`: an author's run
    leaves the posterior once enough others measured the commit.
    """

    run_id: int
    worker: str
    kind: JobKind
    is_authors: bool
    trust: Trust
    counts: bool
    is_in_posterior: bool
    metric: float | None
    offset: Estimate
    read_as: float | None


class ExperimentEvidence(Message):
    """The evidence on one experiment in a hardware class.

    `before` is the posterior of the nearest measured ancestor, widened by the prior of effects; `runs_say` is the
    estimate from the runs alone. Offsets and `noise_sd` are frozen for the epoch. Probabilities are those of a gain of
    at least `min_effect`, against the parent and since the last verified ancestor. `is_claim_confirmed`: others checked
    it, and `effect_probability` is high enough for a finding's claim.
    """

    experiment_id: int
    sha: Sha
    hardware_class: str
    epoch: int
    noise_sd: float
    effect_sd: float
    ancestor_sha: Sha | None
    runs: list[EvidenceRun]
    before: Estimate | None
    runs_say: Estimate | None
    after: Posterior | None
    effect_probability: float | None
    milestone_probability: float | None
    is_claim_confirmed: bool
    story: list[str]
    would_change: list[str]
