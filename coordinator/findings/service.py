"""Storing and showing findings."""

from sqlalchemy.orm import Session

from coordinator.errors import NotFoundError
from coordinator.findings import queries
from coordinator.findings.queries import find_finding_of_experiment as find_finding_of_experiment
from coordinator.models import Finding
from coordinator.paging import cut_page
from shared.findings import Finding as FindingView
from shared.findings import FindingDraft
from shared.protocol import Page, now


def store_finding(session: Session, experiment_id: int, draft: FindingDraft) -> None:
    """Add an experiment's finding."""
    queries.add_finding(session, {"experiment_id": experiment_id, "created_at": now(), **draft.model_dump()})


def view_finding(finding: Finding) -> FindingView:
    return FindingView(
        id=finding.id,
        experiment_id=finding.experiment_id,
        claim=finding.claim,
        mechanism=finding.mechanism,
        caveats=finding.caveats,
        follow_ups=finding.follow_ups,
        agent=finding.agent,
        created_at=finding.created_at,
    )


def view_one(session: Session, finding_id: int) -> FindingView:
    """One finding. Raises NotFoundError."""
    finding = queries.find_finding(session, finding_id)
    if finding is None:
        raise NotFoundError(f"There is no finding {finding_id}.")
    return view_finding(finding)


def view_page(session: Session, project_id: int, before_id: int | None, limit: int) -> Page[FindingView]:
    """A page of a project's findings, newest first."""
    rows = queries.list_findings(session, project_id, before_id, limit + 1)
    return cut_page([view_finding(row) for row in rows], limit, lambda row: row.id)
