"""Decisions of maintainers on results that are held as too good to be believed.

A decision is a row beside the commit's runs, and posteriors read it: an accepted result counts by the ordinary rules, a
rejected one for nothing, and one that was sent to anchors stays held until two of them have measured it.
"""

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from coordinator.events import history
from coordinator.evidence import decisions, epochs
from coordinator.evidence.posteriors import find_posterior
from coordinator.http.errors import NotFoundError, SwarmError
from coordinator.models import CommitPosterior, DueReplication, Experiment, HeldDecision, Project, Volunteer, Worker
from coordinator.models.base import is_of_commit
from coordinator.projects import service as projects
from shared.experiments import HeldDecisionKind, Posterior, Standing
from shared.moderation import HeldResult
from shared.protocol import now

MAX_LISTED = 200


class NotHeldError(SwarmError, status=409, title="The result waits for nobody's decision"):
    pass


class AlreadyDecidedError(SwarmError, status=409, title="Somebody decided on this result before"):
    """The decision that stands was made first. It is taken back before another one is made."""


def find_decision(session: Session, sha: str, hardware_class: str) -> str | None:
    """The decision on a commit's results in a class, its row locked until the transaction ends."""
    row = session.get(HeldDecision, (sha, hardware_class), with_for_update={"key_share": True})
    return row.decision if row else None


def check_decidable(session: Session, project: Project, sha: str, hardware_class: str) -> None:
    """Raise NotFoundError for a commit that was not measured in the class, NotHeldError if it is not held and no
    decision stands."""
    posterior = find_posterior(session, sha, hardware_class)
    if posterior is None or _find_author(session, project.id, sha) is None:
        raise NotFoundError(f"{project.name} has no experiment {sha} that was measured on {hardware_class}.")
    if posterior.standing != Standing.HELD and find_decision(session, sha, hardware_class) is None:
        raise NotHeldError(f"It is {posterior.standing}.")


def check_undecided(session: Session, sha: str, hardware_class: str) -> None:
    """Raise AlreadyDecidedError where a decision stands."""
    if row := session.get(HeldDecision, (sha, hardware_class)):
        what = f"{row.decided_by} decided to {row.decision} it at {row.decided_at:%Y-%m-%d %H:%M} UTC: {row.reason}"
        raise AlreadyDecidedError(f"{what.rstrip('.')}. Undo that to decide otherwise.")


def set_decision(
    session: Session, project: Project, sha: str, hardware_class: str, decision: str | None, by: str, reason: str
) -> None:
    """Store a decision, or remove it with None, and derive what follows for the commit and those below it."""
    epochs.begin_run(session, projects.contract_of(project), project.id, hardware_class)
    row = session.get(HeldDecision, (sha, hardware_class))
    is_of_rejection = HeldDecisionKind.REJECT in (decision, row.decision if row else None)
    if row is not None:
        session.delete(row)
        session.flush()
    if decision is not None:
        session.add(
            HeldDecision(
                commit_sha=sha, hardware_class=hardware_class, decision=decision, decided_by=by, reason=reason,
                decided_at=now(),
            )
        )  # fmt: skip
        session.flush()
    history.enter_decision(session, [project.id], commit_sha=sha, hardware_class=hardware_class, held=decision)
    # A rejection ends the epoch: noise, responses and priors are learnt again, without its runs or with them.
    derived = decisions.follow(session, project.id, hardware_class, [sha], ends_epoch=is_of_rejection).get(sha)
    is_due = derived is not None and derived.standing == Standing.HELD
    for_anchors = derived is not None and derived.awaits_anchors
    session.execute(delete(DueReplication).where(is_of_commit(DueReplication, sha, hardware_class)))
    author = _find_author(session, project.id, sha)
    if author is not None and is_due and (for_anchors or (derived and not derived.is_implausible)):
        session.add(
            DueReplication(
                commit_sha=sha, hardware_class=hardware_class, project_id=project.id, volunteer_id=author,
                for_anchors=for_anchors, created_at=now(),
            )
        )  # fmt: skip
        session.flush()


def _find_author(session: Session, project_id: int, sha: str) -> int | None:
    """The volunteer whose worker made a commit of a project."""
    query = select(Worker.volunteer_id).join(Experiment, Experiment.worker_id == Worker.id)
    return session.scalar(query.where(Experiment.commit_sha == sha, Experiment.project_id == project_id))


def list_held(session: Session, project_id: int | None) -> list[HeldResult]:
    """Results that wait for a decision or have one, at most 200; those that changed last come first."""
    query = (
        select(CommitPosterior, Experiment, Project.name, Volunteer.name, HeldDecision)
        .join(Experiment, Experiment.commit_sha == CommitPosterior.commit_sha)
        .join(Project, Project.id == CommitPosterior.project_id)
        .join(Worker, Worker.id == Experiment.worker_id)
        .join(Volunteer, Volunteer.id == Worker.volunteer_id)
        .outerjoin(HeldDecision, is_of_commit(HeldDecision, CommitPosterior.commit_sha, CommitPosterior.hardware_class))
        .where(or_(CommitPosterior.standing == Standing.HELD, HeldDecision.decision.is_not(None)))
        .order_by(CommitPosterior.updated_at.desc())
        .limit(MAX_LISTED)
    )
    if project_id is not None:
        query = query.where(CommitPosterior.project_id == project_id)
    return [
        HeldResult(
            project=project, sha=posterior.commit_sha, hardware_class=posterior.hardware_class,
            experiment_id=experiment.id, title=experiment.title, volunteer=volunteer,
            posterior=Posterior.model_validate(posterior, from_attributes=True),
            decision=HeldDecisionKind(decision.decision) if decision else None,
            reason=decision.reason if decision else "",
        )
        for posterior, experiment, project, volunteer, decision in session.execute(query)
    ]  # fmt: skip
