"""Novelty of a proposal, among finished work and what others hold reserved.

The same code is recognised by its files, or by what it does however it looks; a similar idea by the constant that it
moves, or, where only words describe it, by the embedding of its words and diff. Work that was never measured does not
count, and a reservation ends with its lease.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING
from uuid import UUID

from coordinator.db.engine import Conn
from coordinator.db.locks import lock_hashes
from coordinator.experiments.lookup import find_experiment_by_commit, find_experiment_by_lease, map_tried_by_lease
from coordinator.lineage.commits import find_commit_by_tree
from coordinator.models import view_of
from coordinator.novelty import queries
from coordinator.novelty.fingerprint import fingerprint
from coordinator.novelty.ideas import Idea, identify_idea
from coordinator.novelty.queries import CodeHolder
from coordinator.novelty.similarity import Similarity
from shared.experiments import Proposal, SimilarWork
from shared.runs import RunOutcome

if TYPE_CHECKING:
    from coordinator.novelty.vector_index import Vector

SUBJECT = "proposal"
"""The kind of text that embeddings of proposals are; their keys are leases."""

TRIED = frozenset({RunOutcome.OK, RunOutcome.STOPPED_EARLY})
"""A run that crashed shows nothing of its idea."""

PARENTS_REMEMBERED = 64
MAX_SHOWN = 5
NEIGHBOURS = 12
"""Number of nearest proposals to check, since some belong to leases that ended without a result."""


@dataclass(frozen=True)
class Duplicate:
    """Why a proposal is not new; the experiment and its commit are None where nothing finished holds the code."""

    reason: str
    experiment_id: int | None = None
    sha: str | None = None


@dataclass(frozen=True)
class ProposedCode:
    """The tree that a proposal makes, fingerprints of its editable files and of its parent's, and its idea.

    `parts` are its words and its diff, empty where its idea says all; `vector` is theirs, None until it is known.
    """

    tree_sha: str
    fingerprint: str
    parent_fingerprint: str
    idea: Idea
    vector: "Vector | None" = None
    parts: tuple[str, ...] = ()


def describe_code(
    tree_sha: str, parent_sha: str, proposal: Proposal, parent_files: Mapping[str, str], files: Mapping[str, str]
) -> ProposedCode:
    """Parts of a proposal that are compared. `parent_files` are its parent's editable files, `files` the changed."""
    after = {**parent_files, **files}
    idea = identify_idea(proposal, parent_sha, parent_files, after)
    return ProposedCode(tree_sha, fingerprint(after), fingerprint(parent_files), idea)


def add_parts(
    code: ProposedCode, proposal: Proposal, before: Mapping[str, str], files: Mapping[str, str]
) -> ProposedCode:
    """With its words and its diff, to be embedded outside of transactions."""
    words = f"{proposal.title}. {proposal.hypothesis} {proposal.axis} {proposal.direction.value} {proposal.value}"
    changes = (_list_changes(before.get(path, ""), text) for path, text in sorted(files.items()))
    return replace(code, parts=(words, "\n".join(line for lines in changes for line in lines)))


def embed(code: ProposedCode, similarity: Similarity) -> ProposedCode:
    """With the vector of its parts, if it has any and the embedder answers in time. Call it outside of transactions."""
    return replace(code, vector=similarity.embed(code.parts, is_request=True)) if code.parts else code


def _list_changes(before: str, after: str) -> list[str]:
    """The lines that go and come, without those around them."""
    old, old_lines = _split(before)
    new = after.splitlines()
    new_lines = set(new)
    gone = [f"- {line.strip()}" for line in old if line not in new_lines]
    return gone + [f"+ {line.strip()}" for line in new if line not in old_lines]


@lru_cache(maxsize=PARENTS_REMEMBERED)
def _split(text: str) -> tuple[list[str], set[str]]:
    """A parent's lines, in their order and as a set: it has many children."""
    lines = text.splitlines()
    return lines, set(lines)


def lock_code(session: Conn, code: ProposedCode) -> None:
    """Until the transaction ends, nobody else finds this code or its idea free."""
    lock_hashes(session, [code.fingerprint, code.idea.on_parent])


def list_holders(session: Conn, project_id: int, code: ProposedCode, lease_id: UUID) -> list[CodeHolder]:
    """The other leases that hold this code; nobody else finds it free meanwhile."""
    lock_code(session, code)
    return queries.list_holders(session, project_id, code.tree_sha, code.fingerprint, lease_id)


def find_duplicate(
    session: Conn, project_id: int, code: ProposedCode, holders: Sequence[CodeHolder]
) -> Duplicate | None:
    """The commit or lease that holds this code, or None; `holders` are from the same transaction."""
    commit = find_commit_by_tree(session, project_id, code.tree_sha)
    if commit is not None:
        experiment = find_experiment_by_commit(session, commit.sha)
        if experiment is None:
            return Duplicate("These are exactly the files of the project's seed: the proposal changes nothing.")
        reason = f"Experiment {experiment.id} ({experiment.title}) has exactly these files."
        return Duplicate(reason, experiment.id, commit.sha)
    if any(holder.has_files and holder.is_live for holder in holders):
        return Duplicate("Another worker is running exactly these files now.")
    if code.fingerprint == code.parent_fingerprint:
        return Duplicate("Only comments, layout or names differ from the parent's: the code would do the same.")
    same = next((holder for holder in holders if holder.is_done or holder.is_live), None)
    if same is None:
        return None
    if not same.is_done:
        return Duplicate("Another worker is running code now that does the same, though it looks different.")
    experiment = find_experiment_by_lease(session, same.id)
    if experiment is None:
        return None
    reason = f"Experiment {experiment.id} ({experiment.title}) has code that does the same, though it looks different."
    return Duplicate(reason, experiment.id, experiment.commit_sha)


def find_same_idea(session: Conn, project_id: int, code: ProposedCode, lease_id: UUID) -> list[SimilarWork]:
    """Others that try the same step of the same constant, on this parent or on another one, or did so."""
    found = queries.list_same_idea(session, project_id, code.idea, lease_id, MAX_SHOWN)
    return _view_similar(session, dict.fromkeys(found))


def find_neighbours(
    session: Conn, similarity: Similarity, project_id: int, code: ProposedCode, lease_id: UUID
) -> list[SimilarWork]:
    """Others whose words and diff say much the same, the nearest first."""
    if code.vector is None:
        return []
    near = similarity.find(session, project_id, SUBJECT, code.vector, NEIGHBOURS) or []
    keys = {UUID(one.key): one.similarity for one in near if one.similarity >= similarity.embedder.near}
    return _view_similar(session, {key: value for key, value in keys.items() if key != lease_id})


def remember(session: Conn, similarity: Similarity, project_id: int, code: ProposedCode, lease_id: UUID) -> None:
    """Store an accepted proposal's vector, now or later, so that others find it."""
    if code.vector is not None:
        similarity.store(session, project_id, SUBJECT, str(lease_id), code.vector)
    elif code.parts:
        similarity.defer(session, project_id, SUBJECT, str(lease_id), code.parts)


def _view_similar(session: Conn, similarities: Mapping[UUID, float | None]) -> list[SimilarWork]:
    """Those of the leases that were measured or are under way, with what came of them."""
    leases = queries.list_leases(session, list(similarities)) if similarities else []
    tried = map_tried_by_lease(session, [lease.id for lease in leases if lease.is_done])
    similar = []
    for lease in leases:
        known = tried.get(lease.id)
        if (known is None and lease.is_done) or (known is not None and known.outcome not in TRIED):
            continue
        similar.append(
            view_of(
                SimilarWork,
                Proposal.model_validate(lease.proposal),
                experiment_id=known.id if known else None,
                outcome=known.outcome if known else "running",
                effect_mean=known.effect_mean if known else None,
                effect_sd=known.effect_sd if known else None,
                similarity=similarities[lease.id],
            )
        )
    return sorted(similar, key=lambda one: -(one.similarity or 1.0))
