"""The complete history of a project, failures included: as a pack, and as a git bundle, which is a pack with refs."""

from collections.abc import Iterator
from itertools import chain
from tempfile import SpooledTemporaryFile
from typing import IO

from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.git_http import queries
from coordinator.git_http.contents import list_objects
from coordinator.git_http.listing import ObjectList
from coordinator.git_http.packs import stream_pack
from coordinator.git_http.walk import MissingCommit

MEMORY_BYTES = 256 * 1024
"""A bundle's list of refs goes to a temporary file when it is longer."""


def list_history(session: Session, project_id: int) -> ObjectList:
    """Every object of the project."""
    commits = queries.list_all_commits(session, project_id)
    return list_objects(session, (MissingCommit(c.sha, c.tree_sha, c.parent_tree_sha) for c in commits))


def write_bundle_header(session: Session, project_id: int) -> IO[bytes]:
    """A bundle's beginning: HEAD, the branches, and a tag for each experiment, because a clone takes all tags along.

    To be read once and closed.
    """
    header = SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115  the stream closes it
    branches = queries.list_branch_refs(session, project_id)
    header.write(f"# v2 git bundle\n{branches[0].sha} HEAD\n".encode())
    for ref in chain(branches, queries.list_experiment_refs(session, project_id)):
        header.write(f"{ref.sha} {ref.name}\n".encode())
    header.write(b"\n")
    header.seek(0)
    return header


def stream_bundle(database: Database, header: IO[bytes], objects: ObjectList) -> Iterator[bytes]:
    """A bundle, in chunks."""
    with header:
        while chunk := header.read(MEMORY_BYTES):
            yield chunk
    yield from stream_pack(database, objects)
