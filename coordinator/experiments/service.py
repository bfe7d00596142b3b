"""Stores experiments, and shows them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.db.engine import Conn
from coordinator.evidence import promotions
from coordinator.evidence import service as evidence
from coordinator.evidence.changes import record_changed
from coordinator.evidence.explanation import explain
from coordinator.evidence.run_stats import list_runs_of_commit
from coordinator.experiments import queries
from coordinator.experiments.filters import Filters, Order
from coordinator.experiments.listing import list_page, settle
from coordinator.experiments.queries import ExperimentRow
from coordinator.http.errors import must_find
from coordinator.lineage import service as lineage
from coordinator.models import Finding, Project, view_of
from shared.claims import WORDS, write_out
from shared.experiments import JobKind, Posterior, Proposal, Trial
from shared.findings import FindingView
from shared.protocol import Page, now
from shared.records import ExperimentDetail, ExperimentEvidence, ExperimentSummary
from shared.topics import name_topic

QUANTITIES = ("training_seconds", "peak_memory_mib", "steps", "tokens", "parameters")
"""Columns of a run that stand beside its metric in lists; 0 is not known."""

NO_COLUMNS = {"new_branch", "steps"}
"""The parts of a proposal that have no column of their own."""


def store_experiment(
    session: Conn, project_id: int, sha: str, parent_sha: str, lease_id: UUID, worker_id: int, branch_id: int,
    kind: JobKind, why: str, proposal: Proposal, done_at: datetime | None,
) -> int:  # fmt: skip
    """Add an experiment's row, and those of the steps that it was put together from; returns its id."""
    given = {
        "project_id": project_id,
        "commit_sha": sha,
        "parent_sha": parent_sha,
        "branch_id": branch_id,
        "lease_id": lease_id,
        "worker_id": worker_id,
        "kind": kind,
        "why": why,
        "topic": name_topic(proposal.axis),
        "created_at": now(),
        "done_at": done_at,
    }
    experiment_id = queries.add_experiment(session, given | proposal.model_dump(mode="json", exclude=NO_COLUMNS))
    queries.add_steps(session, experiment_id, {step.experiment_id: step.fate for step in proposal.steps})
    return experiment_id


def move_to_branch(session: Conn, experiment_id: int, sha: str, branch_id: int) -> None:
    """Moves an experiment to another branch, and has caches of its commit read again."""
    queries.move_to_branch(session, experiment_id, branch_id)
    record_changed(session, [sha])


def view_finding(finding: Finding, posterior: Posterior | None, outcome: str = "") -> FindingView:
    """A finding's words in their newest version, with the numbers of a posterior."""
    return write_words(view_of(FindingView, finding), posterior, outcome)


def write_words(words: FindingView, posterior: Posterior | None, outcome: str = "") -> FindingView:
    """The words of one version, with the numbers of a posterior in the place of their placeholders."""
    written = {name: write_out(getattr(words, name), posterior, outcome) for name in WORDS}
    return words.model_copy(update=written)


def view_summary(row: ExperimentRow, project_name: str) -> ExperimentSummary:
    return view_of(ExperimentSummary, row.experiment, **_summarize(row, project_name))


def _summarize(row: ExperimentRow, project_name: str) -> dict[str, Any]:
    """The fields of a summary that are not columns of the experiment."""
    return {
        "project": project_name,
        "sha": row.experiment.commit_sha,
        "parent_id": row.parent_id,
        "branch": row.branch,
        "outcome": row.run.outcome,
        "hardware_class": row.run.hardware_class,
        "worker": row.worker,
        "quarantine": row.quarantine,
        "has_code": row.has_code,
        "metrics": {name: one for name in QUANTITIES if (one := getattr(row.run, name))} | (row.run.metrics or {}),
        "posterior": evidence.view_posterior(row.posterior),
    }


class ListRequest(NamedTuple):
    """The filters and the order of a list of experiments."""

    filters: Filters = Filters()
    order: Order = Order()

    def settle(self, session: Session, project: Project) -> "ListRequest":
        """The same as it is carried out. Raises OrderInvalidError."""
        filters = self.filters._replace(project_id=project.id)
        return ListRequest(*settle(session, project, filters, self.order, by_first_class=True))


def view_page(
    session: Session, project: Project, asked: ListRequest, cursor: str | None, limit: int
) -> Page[ExperimentSummary]:
    """A page of a project's experiments. It may be short and go on nevertheless. Raises CursorInvalidError."""
    ids, following = list_page(session, *asked.settle(session, project), cursor, limit)
    items = [view_summary(row, project.name) for row in queries.list_rows(session, ids)]
    return Page(items=items, next_cursor=following)


def list_of_volunteer(session: Session, volunteer_id: int, limit: int) -> list[ExperimentSummary]:
    """The newest experiments by a volunteer's workers, in all projects."""
    return [view_summary(row, project) for row, project in queries.list_of_volunteer(session, volunteer_id, limit)]


def view_detail(session: Session, experiment_id: int) -> ExperimentDetail:
    """One experiment with diff, runs and finding, unless that is hidden. Raises NotFoundError."""
    row = _get_experiment(session, experiment_id)
    experiment = row.experiment
    project = session.get_one(Project, experiment.project_id)
    shas = (experiment.parent_sha, experiment.commit_sha) if row.has_code else ()
    files = [lineage.read_files(session, project.id, sha) for sha in shas]
    finding = queries.find_finding(session, experiment.id)
    runs = list_runs_of_commit(session, experiment.commit_sha)
    return view_of(
        ExperimentDetail,
        experiment,
        **_summarize(row, project.name),
        steps=[{"experiment_id": step, "fate": fate} for step, fate in queries.list_steps(session, experiment.id)],
        diff=lineage.diff_files(*files) if files else "",
        runs=[evidence.view_run(run, worker, project.name) for run, worker in runs],
        finding=view_finding(finding, evidence.view_posterior(row.posterior), row.run.outcome)
        if finding and not finding.is_hidden
        else None,
        promotions=promotions.view_of_commit(session, project, experiment.commit_sha),
    )


def map_settings(session: Session, ids: Sequence[int]) -> dict[str, list[Any]]:
    """The settings in which experiments differ, each with its values in the order of `ids`; None where it is missing.

    Raises NotFoundError.
    """
    every = [_get_experiment(session, number).experiment.settings for number in ids]
    names = sorted({name for settings in every for name in settings})
    values = {name: [settings.get(name) for settings in every] for name in names}
    return {name: given for name, given in values.items() if any(one != given[0] for one in given)}


def _get_experiment(session: Session, experiment_id: int) -> ExperimentRow:
    return must_find(queries.find_experiment(session, experiment_id), f"There is no experiment {experiment_id}.")


def view_evidence(session: Session, experiment_id: int, hardware_class: str | None) -> ExperimentEvidence:
    """Why an experiment's verdict is what it is; without a class, in that of its first run. Raises NotFoundError."""
    row = _get_experiment(session, experiment_id)
    project = session.get_one(Project, row.experiment.project_id)
    chosen = hardware_class or row.run.hardware_class
    return explain(session, project, experiment_id, row.experiment.commit_sha, chosen)


def list_trials(session: Conn, project_id: int, hardware_class: str, limit: int) -> list[Trial]:
    """Experiments as an agent reads them, newest first."""
    return [Trial(**row) for row in queries.list_trials(session, project_id, hardware_class, limit)]
