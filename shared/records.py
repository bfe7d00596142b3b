"""Experiments as the coordinator shows them: lists, records, lines of descent, comparisons, evidence."""

from enum import StrEnum

from pydantic import Field, StrictBool

from shared.experiments import AxisDirection, JobKind, Posterior, StepReport
from shared.findings import FindingView
from shared.protocol import Count, ExactText, Message, Number, Sha, Slug, Text, Timestamp
from shared.runs import RunOutcome, RunView


class PromotionView(Message):
    """A record on a `rung` of the contract, a larger budget: it (`sha`) was run there beside the last promoted commit
    or the seed (`base_sha`), in pairs of runs by one worker with one seed. Effects are metric(sha) − metric(base).

    `effect` is that on the rung, from `pairs` of which `left_out` stand apart; `budget_effect` that with the contract's
    budget. It `is_provisional` until `wanted` pairs by two volunteers, none of them the author, agree; then it `holds`
    on the rung or does not. `transfer_ratio` is effect over budget effect, with its 95 % interval; None while the
    budget effect may be zero. Of `classes_measured` hardware classes, a gain is sure in `classes_held`: by its pairs in
    the `classes_on_rung` where it was run on the rung, by ordinary runs in the others.
    """

    project: Text
    hardware_class: Text
    rung: Text
    training_seconds: Number
    sha: Sha
    experiment_id: Count | None
    base_sha: Sha
    base_experiment_id: Count | None
    pairs: Count
    wanted: Count
    volunteers: Count
    left_out: Count
    is_provisional: StrictBool
    holds: StrictBool | None
    effect_mean: Number | None
    effect_sd: Number | None
    budget_effect_mean: Number | None
    budget_effect_sd: Number | None
    transfer_ratio: Number | None
    transfer_low: Number | None
    transfer_high: Number | None
    classes_held: Count
    classes_measured: Count
    classes_on_rung: Count
    opened_at: Timestamp


class ExperimentSort(StrEnum):
    """Orders of lists of experiments and findings.

    `newest` is by number, `done` by the real date of what happened, without those whose date is not known. `effect` and
    `metric` are by the posterior in one hardware class, highest first. `best` is by metric, the best first by the
    project's direction, without what waits for a maintainer or was rejected.
    """

    NEWEST = "newest"
    DONE = "done"
    BEST = "best"
    EFFECT = "effect"
    METRIC = "metric"


class ExperimentSummary(Message):
    """An experiment in a list. `quarantine` is a maintainer's reason while its author is in quarantine. `metrics` are
    what its first run measured besides: `training_seconds`, `peak_memory_mib`, `steps`, `tokens` and `parameters` where
    they are known, and all that an imported session says."""

    id: Count
    project: Text
    kind: JobKind
    sha: Sha
    parent_sha: Sha
    parent_id: Count | None
    branch: Text
    title: Text
    axis: Text
    direction: AxisDirection
    value: Text
    outcome: Text
    hardware_class: Text
    worker: Text
    posterior: Posterior | None
    quarantine: Text | None = None
    has_code: StrictBool = True
    metrics: dict[Text, Number] = Field(default={})
    created_at: Timestamp
    done_at: Timestamp | None = None


class ExperimentDetail(ExperimentSummary):
    hypothesis: Text
    predicted_effect: Number | None
    refuted_by: Text
    insists: Text
    steps: list[StepReport]
    why: Text
    diff: ExactText
    runs: list[RunView]
    finding: FindingView | None
    promotions: list[PromotionView] = Field(default=[])


class HoldoutComparison(Message):
    """A record on sealed windows, in numbers rounded to `step`; None unless it beats the last let out by it.

    `gain` is as the record's, `gap` how much smaller it is than on the windows that every run scores: positive is
    worse. `is_alarm`: the gap is above 2 sd, as for a record that fits the windows rather than the question.
    """

    metric: Number | None
    step: Number
    gain_mean: Number | None
    gap_mean: Number | None
    gap_sd: Number | None
    is_alarm: StrictBool


class Confirmation(Message):
    """The published number of a record: from runs by others than its author, made after it was chosen, which take no
    part in choosing. It is None while fewer than `wanted` agree. `left_out` runs stand apart from the others.

    `gain` is metric(commit) − metric(root). `holdout` is None while it is not known, and where the project has none.
    """

    runs: Count
    wanted: Count
    volunteers: Count
    left_out: Count
    metric_mean: Number | None
    metric_sd: Number | None
    gain_mean: Number | None
    gain_sd: Number | None
    has_holdout: StrictBool
    holdout: HoldoutComparison | None


class RecordCommit(Message):
    """A commit that leads; `experiment_id` is None for the root.

    `gain` is metric(commit) − metric(root) by their posteriors, which are too good for a commit that was chosen by
    them; it is what `/compare` says of the two. `confirmation` has the number of a
    record that may be published; a `leader` has none. `promotions` are the newest on each rung in the class, of the
    record or of one before it.
    """

    sha: Sha
    experiment_id: Count | None
    title: Text
    posterior: Posterior
    gain_mean: Number | None
    gain_sd: Number | None
    confirmation: Confirmation | None = None
    promotions: list[PromotionView] = Field(default=[])


class Record(Message):
    """The best commit of a project in a hardware class: `record` is verified, `leader` may be provisional."""

    project: Text
    hardware_class: Text
    metric: Text
    direction: Text
    record: RecordCommit | None
    no_record: Text = ""
    leader: RecordCommit | None
    baseline: Posterior | None
    runs: Count


class RecordSort(StrEnum):
    """The order of a list of records: by the number of runs in the hardware class, or by the end of its newest run."""

    RUNS = "runs"
    DONE = "done"


class LineageStep(Message):
    """A commit on the way to the root. `posterior` is in the hardware class asked for, or that of its first run."""

    sha: Sha
    parent_sha: Sha | None
    depth: Count
    project: Text
    experiment_id: Count | None
    title: Text
    axis: Text
    value: Text
    worker: Text
    hardware_class: Text | None
    posterior: Posterior | None
    created_at: Timestamp


class ClassComparison(Message):
    """Two commits in one hardware class. `difference` is metric(b) − metric(a).

    Where one descends from the other it is the effect against the nearest measured ancestor, or the milestone against
    the nearest verified one, as the posterior has them; other pairs are taken as independent.
    """

    hardware_class: Text
    a: Posterior | None
    b: Posterior | None
    difference_mean: Number | None
    difference_sd: Number | None


class Comparison(Message):
    """Two commits of a project. `common_ancestor` is None if it is more than 5,000 commits above the deeper one. Where
    the code of one is lost there is no `diff`, and `no_diff` says so in a sentence."""

    project: Text
    a: Sha
    b: Sha
    a_experiment_id: Count | None
    b_experiment_id: Count | None
    common_ancestor: Sha | None
    diff: ExactText
    no_diff: Text = ""
    classes: list[ClassComparison]


class ExpectedEffect(Message):
    """The prior of an experiment's effect, by its `kind` of job or (None) by any other, in a hardware class.

    A normal distribution, of which `tail_share` is four times as wide. It was learnt, in this epoch, from so many
    `effects` by so many `volunteers`; without any it is the contract's.
    """

    kind: JobKind | None
    mean: Number
    sd: Number
    tail_share: Number
    effects: Count
    volunteers: Count


class HardwareClass(Message):
    """A hardware class that a project was measured in. `noise_sd` is that of one run, frozen for the epoch, as
    `effect_priors` are: that of all kinds of job first."""

    project: Text
    name: Text
    runs: Count
    workers: Count
    noise_sd: Number | None
    noise_is_assumed: StrictBool = False
    effect_priors: list[ExpectedEffect] = Field(default=[])
    epoch: Count | None
    newest_run_at: Timestamp | None


class HardwareClassCount(Message):
    """A hardware class with its runs, and those experiments whose first run was in it."""

    name: Text
    runs: Count
    experiments: Count


class ProgressBin(Message):
    """Consecutive runs of a hardware class from the number `first` on: counts by outcome, and the best measurement that
    counts. `leading` is the leader's posterior mean when the last of them had come."""

    first: Count
    runs: Count
    ok: Count
    crashed: Count
    timeout: Count
    stopped_early: Count
    invalid: Count
    best: Number | None
    best_run_id: Count | None
    leading: Number | None


class ProgressPoint(Message):
    """One run, numbered in its hardware class. `leading` is the leader's posterior mean when its bin had come."""

    number: Count
    run_id: Count
    experiment_id: Count | None
    sha: Sha
    title: Text
    outcome: RunOutcome
    metric: Number | None
    reason: Text
    posterior: Posterior | None
    leading: Number | None
    finished_at: Timestamp | None


class ProjectProgress(Message):
    """Progress in one hardware class of `runs` runs. What was asked for (all of it, or a range) is told as at most 600
    `bins` of `width` runs, or as `points`, its runs one by one. `leader_id` is an experiment, None while the root
    leads."""

    project: Slug
    metric: Text
    unit: Text
    direction: Text
    hardware_class: Text | None
    hardware_classes: list[HardwareClassCount]
    experiments: Count
    runs: Count
    width: Count
    bins: list[ProgressBin]
    points: list[ProgressPoint]
    leader_sha: Sha | None
    leader_id: Count | None


class Trust(StrEnum):
    """How far a volunteer's measurements may vouch for those of others, in a project and hardware class.

    Maintainers make a worker an `anchor`. Who agreed with anchors, or with vouched volunteers, on enough commits that
    the coordinator chose is `vouched`. `doubted` volunteers were contradicted more often than confirmed since.
    """

    NEWCOMER = "newcomer"
    VOUCHED = "vouched"
    ANCHOR = "anchor"
    DOUBTED = "doubted"


class Estimate(Message):
    mean: Number
    sd: Number


class EvidenceRun(Message):
    """A run of the commit. `read_as` is its metric less the worker's offset; `trust` is its worker's when it came.

    `counts` is false without a metric, and while a quarantine keeps the run out. `is_in_posterior`: an author's run
    leaves the posterior once enough others measured the commit, and so does a run that stands apart from theirs.
    """

    run_id: Count
    worker: Text
    kind: JobKind
    is_authors: StrictBool
    trust: Trust
    counts: StrictBool
    is_in_posterior: StrictBool
    metric: Number | None
    offset: Estimate
    read_as: Number | None


class ExperimentEvidence(Message):
    """The evidence on one experiment in a hardware class.

    `before` is the posterior of the nearest measured ancestor, moved and widened by `effect_prior`, whose sd, wide part
    included, is `effect_sd`. `runs_say` is the estimate from the runs alone, its sd multiplied by `scatter`,
    which is about 1 unless they differ by more than `noise_sd` says. Offsets, `noise_sd` and priors are frozen for the
    epoch. Probabilities are those of a gain of at least `min_effect`, against the parent and since the last verified
    ancestor. `is_claim_confirmed`: it is verified, and `effect_probability` is high enough for a finding's claim.
    """

    experiment_id: Count
    sha: Sha
    hardware_class: Text
    epoch: Count
    noise_sd: Number
    noise_is_assumed: StrictBool = False
    effect_sd: Number
    effect_prior: ExpectedEffect | None = None
    ancestor_sha: Sha | None
    runs: list[EvidenceRun]
    before: Estimate | None
    scatter: Number = 1.0
    runs_say: Estimate | None
    after: Posterior | None
    effect_probability: Number | None
    milestone_probability: Number | None
    is_claim_confirmed: StrictBool
    story: list[Text]
    would_change: list[Text]
