"""Packs a database more tightly: objects that could be deltas become so, and chains that are too long are cut.

Commits are taken parents first, so that a base is final before its deltas are made. Each batch is encoded in a reading
session, then written in a short transaction; an interrupted run leaves a sound database, and the next one goes on.
"""

from collections.abc import Iterable
from contextlib import closing
from itertools import groupby, islice
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.admin import queries
from coordinator.admin.console import ShowProgress
from coordinator.db.database import Database
from coordinator.db.engine import LabelledRow
from coordinator.lineage import objects
from coordinator.lineage.objects import MAX_CHAIN, ObjectRow
from coordinator.models import Commit
from shared.commits import GitObject

COMMITS_AT_ONCE = 100


class Repacked(NamedTuple):
    """The result of a repack, real or planned. Bytes are those of stored object contents."""

    commits: int
    objects_rewritten: int
    bytes_before: int
    bytes_after: int


def repack(database: Database, show_progress: ShowProgress, *, dry_run: bool = False) -> Repacked:
    """Make deltas where that pays. A dry run only estimates, as if each object's chain stayed as short as it is."""
    with database.read() as listing, closing(queries.stream_steps(listing)) as steps:
        total, before = queries.count_rows(listing, Commit), objects.count_bytes(listing)
        commits, rewritten, saved = 0, 0, 0
        for _, generation in groupby(steps, key=lambda step: step.depth):
            while some := list(islice(generation, COMMITS_AT_ONCE)):
                with database.read() as session:
                    encoded = _encode(session, some)
                    was = objects.count_bytes(session, [obj.sha for obj in encoded])
                saved += was - sum(len(obj.data) for obj in encoded)
                rewritten += len(encoded) if dry_run or not encoded else _store(database, encoded)
                commits += len(some)
                show_progress("commits", commits, total)
    if dry_run:
        return Repacked(total, rewritten, before, before - saved)
    with database.read() as session:
        return Repacked(total, rewritten, before, objects.count_bytes(session))


def _encode(session: Session, steps: Iterable[LabelledRow]) -> list[ObjectRow]:
    """Objects that these commits brought, as far as they can be stored in a better way."""
    predecessors = _list_predecessors(session, steps)
    versions = objects.read_versions(session, predecessors.keys())
    improvable = [version for version in versions.values() if not 1 <= version.deltas <= MAX_CHAIN]
    encoded = objects.encode(session, (version.object for version in improvable), predecessors)
    bases = {sha: version.chain[1] if version.deltas else None for sha, version in versions.items()}
    return [obj for obj in encoded if obj.base_sha != bases[obj.sha]]


def _list_predecessors(session: Session, steps: Iterable[LabelledRow]) -> dict[str, str]:
    known: dict[str, GitObject] = {}
    predecessors: dict[str, str] = {}
    for step in steps:
        before = objects.read_snapshot(session, step.parent_tree_sha, known)
        known |= before.trees
        after = objects.read_snapshot(session, step.tree_sha, known)
        known |= after.trees
        for sha, old in objects.list_predecessors(after, before).items():
            predecessors.setdefault(sha, old)
    return predecessors


def _store(database: Database, encoded: list[ObjectRow]) -> int:
    with database.write() as session:
        return objects.replace_encodings(session, encoded)
