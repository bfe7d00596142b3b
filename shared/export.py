"""Rows of an export: a project's flat tables, with the evidence at that moment."""

from enum import StrEnum

from pydantic import StrictBool

from shared.experiments import AxisDirection, Dispute, JobKind, Standing, Verdict
from shared.findings import FailureClass, FindingState
from shared.history import ResultLeaf
from shared.projects import DataLicence
from shared.protocol import Count, Message, Number, Sha, Slug, Text, Timestamp
from shared.runs import RunOutcome

HISTORY_FILE, CHECKPOINT_FILE, BUNDLE_FILE = "history.jsonl", "checkpoint", "history.bundle"
MANIFEST_FILE, SUMS_FILE, SIGNED_SUMS_FILE = "manifest.json", "SHA256SUMS", "SHA256SUMS.note"
SNAPSHOT_FILE, SNAPSHOT_DATABASE = "snapshot.json", "snapshot.db"


class ExportTable(StrEnum):
    EXPERIMENTS = "experiments"
    RUNS = "runs"
    FINDINGS = "findings"
    CITATIONS = "citations"
    PROMOTIONS = "promotions"


class ExportFormat(StrEnum):
    JSONL = "jsonl"  # one JSON document a line
    CSV = "csv"
    PARQUET = "parquet"


class ExportedExperiment(Message):
    """One experiment, with its outcome and posterior in its first run's hardware class. `settings` is a JSON object.
    `published` is the number of its confirmation runs there, of a commit that is or was a record."""

    id: Count
    project: Text
    kind: JobKind
    sha: Sha
    parent_sha: Sha
    branch: Text
    worker: Text
    volunteer: Text
    title: Text
    hypothesis: Text
    axis: Text
    direction: AxisDirection
    value: Text
    predicted_effect: Number | None
    refuted_by: Text
    settings: Text
    why: Text
    hardware_class: Text
    outcome: RunOutcome
    metric_mean: Number | None
    metric_sd: Number | None
    effect_mean: Number | None
    effect_sd: Number | None
    published_mean: Number | None = None
    published_sd: Number | None = None
    runs: Count | None
    checkers: Count | None
    verdict: Verdict | None
    standing: Standing | None
    dispute: Dispute | None
    created_at: Timestamp
    done_at: Timestamp | None


class ExportedRun(ResultLeaf):
    """One run, beginning with what is in the project's log of it. `counts` is false while a quarantine keeps it out of
    the evidence; `hardware` is a JSON object, as are the further `metrics`. With a `rung` it had that one's budget, and
    compares with no ordinary run. What an imported session does not say is empty."""

    counts: StrictBool
    hardware: Text
    reason: Text
    frame: Text
    starting_seconds: Number | None
    scoring_seconds: Number | None
    total_seconds: Number | None
    budget_seconds: Number | None
    before_start_seconds: Number | None
    parameters: Count | None
    scored_bytes: Count | None
    peak_memory_mib: Count | None
    hopeless_at: Number | None
    sandbox: Text
    metrics: Text | None


class ExportedFinding(Message):
    """The newest words of one finding, with the results as of now in the place of placeholders.

    `stored` is a JSON object of the words as they were entered in the project's log. `tags` is a JSON list; `pace` is
    tokens a second, relative to the parent.
    """

    id: Count
    project: Text
    experiment_id: Count
    sha: Sha
    claim: Text
    mechanism: Text
    caveats: Text
    refuted_by: Text
    follow_ups: Text
    stored: Text
    tags: Text
    agent: Text
    version: Count
    state: FindingState
    failure: FailureClass | None
    pace: Number | None
    created_at: Timestamp


class ExportedPromotion(Message):
    """A record that was run on a rung beside `base_sha`. Effects are commit minus base, there and with the contract's
    budget; `ratio` is the first over the second. `holds` is empty while it is provisional, or was given up."""

    id: Count
    project: Text
    hardware_class: Text
    rung: Text
    commit_sha: Sha
    base_sha: Sha
    pairs: Count
    volunteers: Count
    left_out: Count
    effect_mean: Number | None
    effect_sd: Number | None
    budget_effect_mean: Number | None
    budget_effect_sd: Number | None
    ratio: Number | None
    ratio_low: Number | None
    ratio_high: Number | None
    holds: StrictBool | None
    opened_at: Timestamp
    closed_at: Timestamp | None


class ExportedCitation(Message):
    project: Text
    experiment_id: Count
    finding_id: Count


ROWS: dict[ExportTable, type[Message]] = {
    ExportTable.EXPERIMENTS: ExportedExperiment,
    ExportTable.RUNS: ExportedRun,
    ExportTable.FINDINGS: ExportedFinding,
    ExportTable.CITATIONS: ExportedCitation,
    ExportTable.PROMOTIONS: ExportedPromotion,
}


class FrozenEpoch(Message):
    """The epoch of a hardware class in which a snapshot's evidence was frozen."""

    hardware_class: Text
    number: Count
    runs: Count
    through_run_id: Count
    started_at: Timestamp


class SnapshotRequest(Message):
    """The name of a snapshot to make."""

    name: Slug


class SnapshotView(Message):
    """The contents of a snapshot. `as_of` is the time of the newest entry of its log. `self_scored`: nothing checks the
    stated metric."""

    name: Slug
    project: Slug
    title: Text
    question: Text
    as_of: Timestamp
    licence: DataLicence
    people: list[Text]
    experiments: Count
    runs: Count
    findings: Count
    origin: Text
    log_size: Count
    log_root: Text
    epochs: list[FrozenEpoch]
    version: Text
    self_scored: StrictBool = False
