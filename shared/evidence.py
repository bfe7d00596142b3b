"""How a verdict came about: the runs behind it, the offsets they were read through, and what would change it."""

from enum import StrEnum

from shared.experiments import JobKind, Posterior
from shared.protocol import Message, Sha


class Trust(StrEnum):
    """How far a volunteer's measurements in a project agree with those of others on the same commits.

    `anchor` is given by maintainers, to a worker. A doubted volunteer's results were contradicted more often than
    confirmed since.
    """

    NEWCOMER = "newcomer"
    ESTABLISHED = "established"
    ANCHOR = "anchor"
    DOUBTED = "doubted"


class Estimate(Message):
    """Mean and sd of a number, in the metric's unit."""

    mean: float
    sd: float


class EvidenceRun(Message):
    """A run of the commit. `read_as` is its metric less the worker's offset; None where it measured nothing.

    `counts` is false for a run without a metric, and while a quarantine keeps it out. `is_in_posterior` says that the
    commit's number rests on it: not so for an author's once enough others measured the commit. `trust` is its worker's
    when it came.
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

    `before` is the posterior of its nearest measured ancestor widened by the prior of effects: what was expected before
    the commit's own runs. `runs_say` is what the runs in the posterior say alone. Offsets and `noise_sd` are frozen for
    the epoch. Probabilities are those of a gain of at least `min_effect`, against the parent and since the last
    verified ancestor.
    `is_claim_confirmed` says that others checked it and the first of them is high enough for a finding's claim.
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
