"""Updates branches after an experiment: it may begin one, move its own head, or pause its own."""

from math import inf
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.db.engine import Conn, objects_of
from coordinator.evidence.posteriors import DerivedPosterior, find_posterior
from coordinator.evidence.statistics import SURE, probability_of_gain
from coordinator.experiments import service as experiments
from coordinator.experiments.lookup import MadeExperiment
from coordinator.lineage import branches
from coordinator.lineage.branches import BranchStatus, find_branch, get_branch, list_branch_rows
from coordinator.models import Branch, Experiment
from coordinator.selection import queries
from shared.contract import Contract
from shared.experiments import Dispute, JobKind, Proposal, Standing, Verdict
from shared.formatting import count_noun
from shared.projects import BranchState

MAX_NAME = 63


class NewExperiment(NamedTuple):
    """An experiment that was just stored, on the branch of its lease; `who` is the name of its volunteer."""

    id: int
    project_id: int
    branch_id: int
    sha: str
    kind: JobKind
    hardware_class: str
    proposal: Proposal
    who: str
    volunteer_id: int


def follow(session: Conn, contract: Contract, experiment: NewExperiment, posterior: DerivedPosterior | None) -> None:
    """Bring branches up to date after an experiment's first run; without a `posterior` it measured nothing."""
    if posterior is not None and _begin_branch(session, contract, experiment, posterior):
        return
    if posterior is not None and _is_gain(contract, posterior):
        with objects_of(session) as objects:
            branch = get_branch(objects, experiment.branch_id)
            if posterior.rank_score < _score_head(session, branch.head_sha, experiment.hardware_class):
                made = MadeExperiment(experiment.id, experiment.proposal.title, experiment.sha)
                _move_head(objects, branch, made, experiment.who, posterior, is_new=True)
                return
    status = branches.record_no_gain(session, experiment.project_id, experiment.branch_id)
    if branches.may_pause(status, 0, contract.diversity):
        _pause_if_stalled(session, contract, experiment, status)


def follow_measurement(
    session: Conn, contract: Contract, made: MadeExperiment, who: str, hardware_class: str, posterior: DerivedPosterior
) -> None:
    """Move the head of an experiment's branch there, once measurements after its first run make its gain sure."""
    if not _is_gain(contract, posterior):
        return
    with objects_of(session) as objects:
        branch = get_branch(objects, objects.get_one(Experiment, made.id).branch_id)
        if posterior.rank_score < _score_head(session, branch.head_sha, hardware_class) < inf:
            _move_head(objects, branch, made, who, posterior, is_new=False)


def _move_head(
    session: Session, branch: Branch, made: MadeExperiment, who: str, posterior: DerivedPosterior, *, is_new: bool
) -> None:
    runs = count_noun(posterior.runs, "run")
    why = f"#{made.id} {made.title} is provisionally the best of the branch, on {runs}."
    branches.move_head(session, branch, made.commit_sha, who, why)
    branches.record_gain(session, branch, made.id, is_new=is_new)  # also resumes a paused branch


def _is_gain(contract: Contract, posterior: DerivedPosterior) -> bool:
    """Whether an experiment is surely better than its parent by an effect that matters, and is not in doubt."""
    objective = contract.objective
    if posterior.effect is None or posterior.standing == Standing.HELD or posterior.dispute != Dispute.NONE:
        return False
    return probability_of_gain(posterior.effect, objective.sign, objective.min_effect) >= SURE


def _score_head(session: Conn, head_sha: str, hardware_class: str) -> float:
    """The rank score of a branch's head in a class; infinite where it was not measured there."""
    posterior = find_posterior(session, head_sha, hardware_class)
    return inf if posterior is None else posterior.rank_score


def _begin_branch(session: Conn, contract: Contract, experiment: NewExperiment, posterior: DerivedPosterior) -> bool:
    """Whether a branch begins with the experiment: its agent named one, or it is a draft no worse than its parent.

    The experiment of a newcomer's agent stays where it is, and the branch waits for approval.
    """
    named_by = experiment.volunteer_id if experiment.proposal.new_branch is not None else None
    if experiment.proposal.new_branch is not None:
        name, why = experiment.proposal.new_branch, f"Its agent proposed a new branch with #{experiment.id}."
        state = branches.admit(session, experiment.project_id, contract.diversity, experiment.volunteer_id)
    elif experiment.kind == JobKind.DRAFT and _is_no_worse(contract, posterior):
        name, why = f"draft-{experiment.id}", f"The draft #{experiment.id} is no worse than its parent."
        has_room = branches.has_room(session, experiment.project_id, contract.diversity)
        state = BranchState.ACTIVE if has_room else None
    else:
        return False
    if state is None:
        return False
    with objects_of(session) as objects:
        if find_branch(objects, experiment.project_id, name) is not None:
            name = f"{name[: MAX_NAME - len(str(experiment.id)) - 1]}-{experiment.id}"
        theme = experiment.proposal.title
        branch = branches.create_branch(
            objects, experiment.project_id, name, theme, experiment.sha, experiment.who, why, state, named_by
        )
        if state == BranchState.PROPOSED:
            return False
        experiments.move_to_branch(objects, experiment.id, experiment.sha, branch.id)
        branch.experiments = 1
        return True


def _is_no_worse(contract: Contract, posterior: DerivedPosterior) -> bool:
    """Whether a draft is no worse than its parent, within the smallest effect that matters."""
    if posterior.effect is None or posterior.verdict == Verdict.WORSE:
        return False
    return contract.objective.sign * posterior.effect.mean <= contract.objective.min_effect


def _pause_if_stalled(session: Conn, contract: Contract, experiment: NewExperiment, status: BranchStatus) -> None:
    """Pauses a branch that has stalled for long, if another one leads and no job on it is under way."""
    rows = list_branch_rows(session, experiment.project_id)
    others = [row for row in rows if row.id != experiment.branch_id and row.state == BranchState.ACTIVE]
    if not others:
        return
    jobs = queries.count_in_flight(session, experiment.project_id)
    under_way = sum(job.jobs for job in jobs if job.branch_id == experiment.branch_id)
    if not branches.may_pause(status, under_way, contract.diversity):
        return
    with objects_of(session) as objects:
        branch = get_branch(objects, experiment.branch_id)
        own = _score_head(session, branch.head_sha, experiment.hardware_class)
        scores = ((other, _score_head(session, other.head_sha, experiment.hardware_class)) for other in others)
        leader = next((other for other, score in scores if score < own), None)
        if leader is not None:
            count = count_noun(branch.experiments_without_gain, "experiment")
            branches.pause(objects, branch, f"No gain in its last {count}, and {leader.name} is ahead.")
