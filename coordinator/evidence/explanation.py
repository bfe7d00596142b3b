"""Why a verdict is what it is, and what would change it."""

from collections.abc import Iterator, Sequence
from math import inf, sqrt

from sqlalchemy.orm import Session

from coordinator.evidence import agreement, class_queries, posteriors, queries, statistics
from coordinator.evidence.posteriors import Ancestor, DerivedPosterior
from coordinator.evidence.statistics import Measurement, Model, Normal
from coordinator.lineage import service as lineage
from coordinator.models import Project
from coordinator.projects import service as projects
from shared.contract import Contract
from shared.evidence import Estimate, EvidenceRun, ExperimentEvidence, Trust
from shared.experiments import Dispute, JobKind, Standing

NOBODY_YET = -1
"""Worker and volunteer of a run that might come."""


def explain(
    session: Session, project: Project, experiment_id: int, sha: str, hardware_class: str
) -> ExperimentEvidence:
    """The evidence on an experiment's commit in a class, derived from the runs as they stand."""
    contract = projects.contract_of(project)
    model = posteriors.find_model(session, contract, project.id, hardware_class)
    epoch = class_queries.find_epoch(session, project.id, hardware_class)
    ancestor = posteriors.find_ancestor(session, lineage.get_commit(session, sha), hardware_class)
    unknown = Normal(0.0, contract.evidence.typical_offset_sd)
    runs = queries.map_measurements(session, [sha], hardware_class, unknown).get(sha, [])
    before = _expect(ancestor, model)
    derived = posteriors.conclude(contract, model, ancestor, runs) if runs else None
    objective = contract.objective
    chance = None
    if derived and derived.milestone:
        chance = statistics.probability_of_gain(derived.milestone, objective.sign, objective.min_effect)
    return ExperimentEvidence(
        experiment_id=experiment_id,
        sha=sha,
        hardware_class=hardware_class,
        epoch=epoch.number if epoch else 0,
        noise_sd=model.noise_sd,
        effect_sd=model.effect_sd,
        ancestor_sha=ancestor.sha if ancestor else None,
        runs=_view_runs(session, project.id, sha, hardware_class, unknown),
        before=_view(before) if before else None,
        runs_say=_view(statistics.pool(runs, model.noise_sd)) if runs else None,
        after=derived.view() if derived else None,
        milestone_probability=chance,
        would_change=list(_say_what_would_change(contract, model, ancestor, runs, derived)),
    )


def _view(value: Normal) -> Estimate:
    return Estimate(mean=value.mean, sd=value.sd)


def _expect(ancestor: Ancestor | None, model: Model) -> Normal | None:
    if ancestor is None:
        return None
    variance = ancestor.belief.variance + ancestor.steps * model.effect_sd**2
    return Normal(ancestor.belief.mean, sqrt(variance))


def _view_runs(session: Session, project_id: int, sha: str, hardware_class: str, unknown: Normal) -> list[EvidenceRun]:
    offsets = class_queries.map_offsets(session, project_id, hardware_class)
    views = []
    for run, worker in queries.list_runs_of_commit(session, sha):
        if run.hardware_class != hardware_class:
            continue
        offset = offsets.get(run.worker_id, unknown)
        views.append(
            EvidenceRun(
                run_id=run.id,
                worker=worker,
                kind=JobKind(run.kind),
                is_authors=JobKind(run.kind).makes_experiment,
                trust=Trust(run.trust),
                counts=run.counts and run.metric is not None,
                metric=run.metric,
                offset=_view(offset),
                read_as=None if run.metric is None else run.metric - offset.mean,
            )
        )
    return views


def _say_what_would_change(
    contract: Contract,
    model: Model,
    ancestor: Ancestor | None,
    runs: Sequence[Measurement],
    derived: DerivedPosterior | None,
) -> Iterator[str]:
    if derived is None:
        yield "No run of it counts: any measurement would be the first."
        return
    if derived.standing is Standing.HELD:
        yield "It waits for a maintainer: the number is too good to be believed without one."
    if derived.verdict is None:
        yield "It has no measured ancestor here, so there is nothing to compare it with."
        return
    needed = _count_repeats(contract, model, ancestor, runs, derived)
    if needed is not None:
        more, then = needed
        yield f"With {more} more run(s) by others that agree with those so far it would be {then}."
    missing = statistics.CHECKERS - derived.checkers
    if missing > 0:
        yield f"To be verified it must be measured by {missing} more volunteer(s) who did not make it."
    elif not agreement.is_vouched(runs):
        yield "To be verified it must be measured by an anchor, or by a volunteer whose measurements agreed before."
    if derived.dispute is Dispute.REFUTED:
        yield "Those who checked it agree with each other and not with its author: it is refuted."
    elif derived.dispute is Dispute.CONTESTED:
        yield "Its runs contradict each other by more than 3 sd: further ones must show which of them are right."
    if len(runs) >= statistics.MAX_RUNS and derived.standing is Standing.PROVISIONAL:
        yield f"It has {len(runs)} runs, and verification gives up after {statistics.MAX_RUNS}."
    if ancestor is not None and derived.metric.sd < inf:
        yield "Runs of its ancestors and a new epoch's offsets change what it is compared with."


def _count_repeats(
    contract: Contract, model: Model, ancestor: Ancestor | None, runs: Sequence[Measurement], derived: DerivedPosterior
) -> tuple[int, str] | None:
    """How many more runs at the mean so far, each by somebody new, would change verdict or standing, and to what."""
    level = statistics.pool(runs, model.noise_sd).mean
    imagined = list(runs)
    for more in range(1, statistics.MAX_RUNS + 1):
        stranger = NOBODY_YET - more
        offset = Normal(0.0, model.noise_sd)
        imagined.append(Measurement(level, stranger, stranger, False, offset, Trust.ESTABLISHED))
        then = posteriors.conclude(contract, model, ancestor, imagined)
        if (then.verdict, then.standing) != (derived.verdict, derived.standing):
            return more, f"{then.verdict}, {then.standing}".replace("_", " ")
    return None
