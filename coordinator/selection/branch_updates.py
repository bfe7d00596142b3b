"""Updates branches after an experiment: it may begin one, move its own head, or pause its own."""

from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.evidence import service as evidence
from coordinator.evidence.service import DerivedPosterior
from coordinator.experiments import service as experiments
from coordinator.lineage import branches
from coordinator.lineage import service as lineage
from coordinator.lineage.branches import BranchStatus
from coordinator.models import Branch
from coordinator.selection import queries
from shared.contract import Contract
from shared.experiments import JobKind, Proposal, Verdict
from shared.formatting import count_noun
from shared.projects import BranchState

MAX_NAME = 63


class NewExperiment(NamedTuple):
    """An experiment that was just stored, on the branch of its lease; `who` is its worker's name."""

    id: int
    project_id: int
    branch_id: int
    sha: str
    kind: JobKind
    hardware_class: str
    proposal: Proposal
    who: str


def follow(session: Session, contract: Contract, experiment: NewExperiment, posterior: DerivedPosterior | None) -> None:
    """Bring branches up to date after an experiment's first run; without a `posterior` it measured nothing."""
    if posterior is not None and _begin_branch(session, contract, experiment, posterior):
        return
    if posterior is not None and posterior.verdict is Verdict.IMPROVED:
        branch = lineage.get_branch(session, experiment.branch_id)
        if _is_ahead(session, branch, experiment.hardware_class, posterior):
            _take_further(session, branch, experiment, posterior)
            return
    status = branches.record_no_gain(session, experiment.branch_id)
    if branches.may_pause(status, 0, contract.diversity):
        _pause_if_stalled(session, contract, experiment, status)


def _take_further(session: Session, branch: Branch, experiment: NewExperiment, posterior: DerivedPosterior) -> None:
    """Have an experiment lead its branch, which resumes a paused one."""
    why = f"#{experiment.id} {experiment.proposal.title} leads provisionally, on {count_noun(posterior.runs, 'run')}."
    branches.move_head(session, branch, experiment.sha, experiment.who, why)
    branches.record_gain(session, branch, experiment.id)


def _begin_branch(session: Session, contract: Contract, experiment: NewExperiment, posterior: DerivedPosterior) -> bool:
    """Whether a branch begins with the experiment: its agent named one, or it is a draft that holds its ground."""
    if experiment.proposal.new_branch is not None:
        name, why = experiment.proposal.new_branch, f"#{experiment.id} begins it, as its agent proposed."
    elif experiment.kind is JobKind.DRAFT and _holds_ground(contract, posterior):
        name, why = f"draft-{experiment.id}", f"#{experiment.id} departs from its parent and holds its ground."
    else:
        return False
    if not branches.has_room(session, experiment.project_id, contract.diversity):
        return False
    if lineage.find_branch(session, experiment.project_id, name) is not None:
        name = f"{name[: MAX_NAME - len(str(experiment.id)) - 1]}-{experiment.id}"
    theme = experiment.proposal.title
    branch = branches.create_branch(session, experiment.project_id, name, theme, experiment.sha, experiment.who, why)
    experiments.move_to_branch(session, experiment.id, branch.id)
    evidence.record_changed(session, [experiment.sha])
    return True


def _holds_ground(contract: Contract, posterior: DerivedPosterior) -> bool:
    """Whether a departure is no worse than its parent, as far as one can tell."""
    if posterior.effect is None or posterior.verdict is Verdict.WORSE:
        return False
    return contract.objective.sign * posterior.effect.mean <= contract.objective.min_effect


def _is_ahead(session: Session, branch: Branch, hardware_class: str, posterior: DerivedPosterior) -> bool:
    """Whether an improvement is ahead of its branch's head; the head stays provisional."""
    head = evidence.find_posterior(session, branch.head_sha, hardware_class)
    return head is None or posterior.rank_score < head.rank_score


def _pause_if_stalled(session: Session, contract: Contract, experiment: NewExperiment, status: BranchStatus) -> None:
    """Pauses a branch that has stalled for long, if another one leads and no job on it is under way."""
    project_id, branch_id, hardware_class = experiment.project_id, experiment.branch_id, experiment.hardware_class
    rows = lineage.list_branch_rows(session, project_id)
    others = [row for row in rows if row.id != branch_id and row.state == BranchState.ACTIVE]
    if not others:
        return
    jobs = queries.count_in_flight(session, project_id)
    under_way = sum(job.jobs for job in jobs if job.branch_id == branch_id)
    if not branches.may_pause(status, under_way, contract.diversity):
        return
    branch = lineage.get_branch(session, branch_id)
    own = evidence.find_posterior(session, branch.head_sha, hardware_class)
    for other in others:
        head = evidence.find_posterior(session, other.head_sha, hardware_class)
        if head is not None and (own is None or head.rank_score < own.rank_score):
            why = f"It has gained nothing in {branch.experiments_without_gain} experiments, and {other.name} leads."
            branches.pause(session, branch, why)
            return
