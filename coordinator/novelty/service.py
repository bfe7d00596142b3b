"""Novelty of a proposal's code, among finished work and what others hold reserved: the same files, or code that does
the same whatever it looks like."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.experiments import service as experiments
from coordinator.lineage import service as lineage
from coordinator.novelty import queries
from coordinator.novelty.fingerprint import fingerprint
from shared.leases import LeaseState


@dataclass(frozen=True)
class Duplicate:
    """Why a proposal is not new; `experiment_id` is None where nothing finished holds the code."""

    experiment_id: int | None
    reason: str


@dataclass(frozen=True)
class ProposedCode:
    """The tree that a proposal makes, and the fingerprints of its editable files and of its parent's."""

    tree_sha: str
    fingerprint: str
    parent_fingerprint: str


def describe_code(tree_sha: str, parent_files: Mapping[str, str], files: Mapping[str, str]) -> ProposedCode:
    """What is compared of a proposal. `parent_files` are all editable files of the parent, `files` the changed ones."""
    return ProposedCode(tree_sha, fingerprint({**parent_files, **files}), fingerprint(parent_files))


def find_duplicate(session: Session, project_id: int, code: ProposedCode, lease_id: UUID) -> Duplicate | None:
    """What already holds this code, or None: then nobody else finds it free meanwhile."""
    queries.lock_code(session, code.fingerprint)
    commit = lineage.find_commit_by_tree(session, project_id, code.tree_sha)
    if commit is not None:
        experiment = experiments.find_experiment_by_commit(session, commit.sha)
        if experiment is None:
            return Duplicate(None, "These are exactly the files of the project's seed: the proposal changes nothing.")
        return Duplicate(experiment.id, f"Experiment {experiment.id} ({experiment.title}) has exactly these files.")
    if queries.is_reserved(session, project_id, code.tree_sha, lease_id):
        return Duplicate(None, "Another worker is running exactly these files now.")
    if code.fingerprint == code.parent_fingerprint:
        return Duplicate(None, "Only looks differ from the parent (comments, layout, names): it would do the same.")
    same = queries.find_same_code(session, project_id, code.fingerprint, lease_id)
    if same is None:
        return None
    if same[1] is not LeaseState.DONE:
        return Duplicate(None, "Another worker is running code now that does the same, though it looks different.")
    experiment = experiments.find_experiment_by_lease(session, same[0])
    if experiment is None:
        return None
    reason = f"Experiment {experiment.id} ({experiment.title}) has code that does the same, though it looks different."
    return Duplicate(experiment.id, reason)
