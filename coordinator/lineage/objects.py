"""The object store: git objects as rows, compressed. Nothing else reads or writes the table `git_objects`."""

import zlib
from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.models import StoredObject
from shared.commits import GitObject, parse_tree


class ObjectMissingError(Exception):
    """An object that a commit needs is not in the store: the database is damaged."""


def add_objects(session: Session, objects: Iterable[GitObject]) -> None:
    """Store objects that are not there yet. The same content has the same name, so nothing is ever overwritten."""
    wanted = {obj.sha: obj for obj in objects}
    stored = set(session.scalars(select(StoredObject.sha).where(StoredObject.sha.in_(wanted))))
    for sha, obj in wanted.items():
        if sha not in stored:
            row = StoredObject(sha=sha, kind=obj.kind, size=len(obj.data), data=zlib.compress(obj.data, level=9))
            session.add(row)
    session.flush()


def get_object(session: Session, sha: str) -> GitObject:
    """One object. Raises ObjectMissingError."""
    row = session.get(StoredObject, sha)
    if row is None:
        raise ObjectMissingError(f"the git object {sha} is missing from the database")
    return GitObject(sha, row.kind, zlib.decompress(row.data))


def list_tree(session: Session, tree_sha: str, prefix: str = "") -> dict[str, str]:
    """All files below a tree: path -> blob sha."""
    entries: dict[str, str] = {}
    for name, is_folder, sha in parse_tree(get_object(session, tree_sha).data):
        if is_folder:
            entries |= list_tree(session, sha, f"{prefix}{name}/")
        else:
            entries[prefix + name] = sha
    return entries


def read_text(session: Session, blob_sha: str) -> str:
    """A file's content. Every file that was let in is UTF-8."""
    return get_object(session, blob_sha).data.decode()
