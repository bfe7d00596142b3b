"""Rows of an export: a project's flat tables, with the evidence at that moment."""

from enum import StrEnum
from uuid import UUID

from shared.experiments import AxisDirection, Dispute, JobKind, Standing, Verdict
from shared.findings import FailureClass, FindingState
from shared.protocol import Message, Sha, Timestamp
from shared.runs import RunOutcome


class ExportTable(StrEnum):
    EXPERIMENTS = "experiments"
    RUNS = "runs"
    FINDINGS = "findings"
    CITATIONS = "citations"


class ExportFormat(StrEnum):
    JSONL = "jsonl"  # one JSON document a line
    CSV = "csv"
    PARQUET = "parquet"


class ExportedExperiment(Message):
    """One experiment, with its outcome and posterior in its first run's hardware class. `settings` is a JSON object."""

    id: int
    project: str
    kind: JobKind
    sha: Sha
    parent_sha: Sha
    branch: str
    worker: str
    volunteer: str
    title: str
    hypothesis: str
    axis: str
    direction: AxisDirection
    value: str
    predicted_effect: float | None
    refuted_by: str
    settings: str
    why: str
    hardware_class: str
    outcome: RunOutcome
    metric_mean: float | None
    metric_sd: float | None
    effect_mean: float | None
    effect_sd: float | None
    runs: int | None
    checkers: int | None
    verdict: Verdict | None
    standing: Standing | None
    dispute: Dispute | None
    created_at: Timestamp


class ExportedRun(Message):
    """One run. `counts` is false while a quarantine keeps it out of the evidence; `hardware` is a JSON object."""

    id: int
    uuid: UUID
    project: str
    commit_sha: Sha
    experiment_id: int | None
    kind: JobKind
    worker: str
    volunteer: str
    counts: bool
    hardware_class: str
    hardware: str
    seed: int
    outcome: RunOutcome
    metric: float | None
    reason: str
    frame: str
    starting_seconds: float
    training_seconds: float
    scoring_seconds: float
    total_seconds: float
    budget_seconds: float | None
    before_start_seconds: float | None
    steps: int
    tokens: int
    parameters: int
    scored_bytes: int
    peak_memory_mib: int
    hopeless_at: float | None
    sandbox: str
    started_at: Timestamp
    finished_at: Timestamp
    created_at: Timestamp


class ExportedFinding(Message):
    """The newest words of one finding. `tags` is a JSON list; `pace` is tokens a second, relative to the parent."""

    id: int
    project: str
    experiment_id: int
    sha: Sha
    claim: str
    mechanism: str
    caveats: str
    refuted_by: str
    follow_ups: str
    tags: str
    agent: str
    version: int
    state: FindingState
    failure: FailureClass | None
    pace: float | None
    created_at: Timestamp


class ExportedCitation(Message):
    project: str
    experiment_id: int
    finding_id: int


ROWS: dict[ExportTable, type[Message]] = {
    ExportTable.EXPERIMENTS: ExportedExperiment,
    ExportTable.RUNS: ExportedRun,
    ExportTable.FINDINGS: ExportedFinding,
    ExportTable.CITATIONS: ExportedCitation,
}
