"""Novelty of a proposal's code: the same files, among finished work and among what others hold reserved."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.experiments import service as experiments
from coordinator.lineage import service as lineage
from coordinator.novelty import queries


@dataclass(frozen=True)
class Duplicate:
    """Why a proposal is not new; `experiment_id` is None where nothing finished holds the code."""

    experiment_id: int | None
    reason: str


def find_duplicate(session: Session, project_id: int, tree_sha: str, lease_id: UUID) -> Duplicate | None:
    """What already holds exactly these files, or None: then nobody else finds them free meanwhile."""
    queries.lock_code(session, tree_sha)
    commit = lineage.find_commit_by_tree(session, project_id, tree_sha)
    if commit is not None:
        experiment = experiments.find_experiment_by_commit(session, commit.sha)
        if experiment is None:
            return Duplicate(None, "These are exactly the files of the project's seed: the proposal changes nothing.")
        return Duplicate(experiment.id, f"Experiment {experiment.id} ({experiment.title}) has exactly these files.")
    if queries.is_reserved(session, project_id, tree_sha, lease_id):
        return Duplicate(None, "Another worker is running exactly these files now.")
    return None
