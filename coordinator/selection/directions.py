"""What a new experiment does to branches: it may begin one, take its own further, or let it come to rest."""

from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.evidence import service as evidence
from coordinator.evidence.service import DerivedPosterior
from coordinator.experiments import service as experiments
from coordinator.lineage import service as lineage
from coordinator.models import Branch
from coordinator.selection import queries
from shared.contract import Contract
from shared.experiments import JobKind, Proposal, Verdict
from shared.numbers import count_noun
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
    branch = lineage.get_branch(session, experiment.branch_id)
    is_gain = posterior is not None and _is_ahead(session, branch, experiment.hardware_class, posterior)
    if is_gain and posterior is not None:
        why = (
            f"#{experiment.id} {experiment.proposal.title} leads provisionally, on {count_noun(posterior.runs, 'run')}."
        )
        lineage.move_head(session, branch, experiment.sha, experiment.who, why)
    life = lineage.note_experiment(session, branch, experiment.id, is_gain=is_gain)
    if lineage.may_rest(life, 0, contract.diversity):
        _let_rest(session, contract, branch, experiment.hardware_class)


def _begin_branch(session: Session, contract: Contract, experiment: NewExperiment, posterior: DerivedPosterior) -> bool:
    """Whether a branch begins with the experiment: its agent named one, or it is a draft that holds its ground."""
    if experiment.proposal.new_branch is not None:
        name, why = experiment.proposal.new_branch, f"#{experiment.id} begins it, as its agent proposed."
    elif experiment.kind is JobKind.DRAFT and _holds_ground(contract, posterior):
        name, why = f"draft-{experiment.id}", f"#{experiment.id} departs from its parent and holds its ground."
    else:
        return False
    if not lineage.has_room(session, experiment.project_id, contract.diversity):
        return False
    if lineage.find_branch(session, experiment.project_id, name) is not None:
        name = f"{name[: MAX_NAME - len(str(experiment.id)) - 1]}-{experiment.id}"
    theme = experiment.proposal.title
    branch = lineage.create_branch(session, experiment.project_id, name, theme, experiment.sha, experiment.who, why)
    experiments.move_to_branch(session, experiment.id, branch.id)
    evidence.note_changed(session, [experiment.sha])
    return True


def _holds_ground(contract: Contract, posterior: DerivedPosterior) -> bool:
    """Whether a departure is no worse than its parent, as far as one can tell."""
    if posterior.effect is None or posterior.verdict is Verdict.WORSE:
        return False
    return contract.objective.sign * posterior.effect.mean <= contract.objective.min_effect


def _is_ahead(session: Session, branch: Branch, hardware_class: str, posterior: DerivedPosterior) -> bool:
    """Whether an experiment is an improvement, and ahead of its branch's head; the head stays provisional."""
    if posterior.verdict is not Verdict.IMPROVED:
        return False
    head = evidence.find_posterior(session, branch.head_sha, hardware_class)
    return head is None or posterior.rank_score < head.rank_score


def _let_rest(session: Session, contract: Contract, branch: Branch, hardware_class: str) -> None:
    """Let a branch rest that has stalled for long, if another one leads; what is under way on it is waited for."""
    rows = lineage.list_branch_rows(session, branch.project_id)
    others = [row for row in rows if row.id != branch.id and row.state == BranchState.LIVING]
    if not others:
        return
    jobs = queries.count_in_flight(session, branch.project_id)
    under_way = sum(job.jobs for job in jobs if job.branch_id == branch.id)
    if not lineage.may_rest(lineage.life_of(branch), under_way, contract.diversity):
        return
    own = evidence.find_posterior(session, branch.head_sha, hardware_class)
    for other in others:
        head = evidence.find_posterior(session, other.head_sha, hardware_class)
        if head is not None and (own is None or head.rank_score < own.rank_score):
            why = f"It has gained nothing in {branch.fruitless} experiments, and {other.name} leads."
            lineage.rest(session, branch, why)
            return
