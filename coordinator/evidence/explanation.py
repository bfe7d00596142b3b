"""Why a verdict is what it is: gathered from the database, told by `words.py`."""

from collections.abc import Set

from sqlalchemy.orm import Session

from coordinator.evidence import calibration_queries, posteriors, queries
from coordinator.evidence.statistics import Normal
from coordinator.evidence.words import Case, say_what_would_change, tell_story
from coordinator.lineage import service as lineage
from coordinator.models import Project
from coordinator.projects import service as projects
from shared.evidence import Estimate, EvidenceRun, ExperimentEvidence, Trust
from shared.experiments import JobKind


def explain(
    session: Session, project: Project, experiment_id: int, sha: str, hardware_class: str
) -> ExperimentEvidence:
    """The evidence on an experiment's commit in a class, derived from the runs as they stand."""
    contract = projects.contract_of(project)
    model = posteriors.find_model(session, contract, project.id, hardware_class)
    epoch = calibration_queries.find_epoch(session, project.id, hardware_class)
    commit = lineage.get_commit(session, sha)
    ancestor = posteriors.find_ancestor(session, commit, hardware_class)
    unknown = Normal(0.0, contract.evidence.typical_offset_sd)
    runs = queries.map_measurements(session, [sha], hardware_class, unknown).get(sha, [])
    before = ancestor.expect(model.effect_sd) if ancestor else None
    derived = posteriors.conclude_on(commit, contract, model, ancestor, runs) if runs else None
    case = Case(contract, model, ancestor, before, runs, derived)
    return ExperimentEvidence(
        experiment_id=experiment_id,
        sha=sha,
        hardware_class=hardware_class,
        epoch=epoch.number if epoch else 0,
        noise_sd=model.noise_sd,
        effect_sd=model.effect_sd,
        ancestor_sha=ancestor.sha if ancestor else None,
        runs=_view_runs(session, project.id, sha, hardware_class, unknown, {run.worker_id for run in case.selected}),
        before=_view(before) if before else None,
        runs_say=_view(case.pooled) if runs else None,
        after=derived.view() if derived else None,
        effect_probability=case.chance_of_effect,
        milestone_probability=case.chance_of_milestone,
        is_claim_confirmed=case.is_claim_confirmed,
        story=list(tell_story(case)),
        would_change=list(say_what_would_change(case)),
    )


def _view(value: Normal) -> Estimate:
    return Estimate(mean=value.mean, sd=value.sd)


def _view_runs(
    session: Session, project_id: int, sha: str, hardware_class: str, unknown: Normal, selected: Set[int]
) -> list[EvidenceRun]:
    """All runs of a commit; `selected` are the workers whose runs the posterior rests on."""
    offsets = calibration_queries.map_offsets(session, project_id, hardware_class)
    views = []
    for run, worker in queries.list_runs_of_commit(session, sha):
        if run.hardware_class != hardware_class:
            continue
        offset = offsets.get(run.worker_id, unknown)
        counts = run.counts and run.metric is not None
        views.append(
            EvidenceRun(
                run_id=run.id,
                worker=worker,
                kind=JobKind(run.kind),
                is_authors=JobKind(run.kind).makes_experiment,
                trust=Trust(run.trust),
                counts=counts,
                is_in_posterior=counts and run.worker_id in selected,
                metric=run.metric,
                offset=_view(offset),
                read_as=None if run.metric is None else run.metric - offset.mean,
            )
        )
    return views
