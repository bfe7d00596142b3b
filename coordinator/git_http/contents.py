"""What commits consist of: their trees and files, as far as the client does not have them."""

from collections.abc import Iterable, Iterator
from itertools import islice

from sqlalchemy.orm import Session

from coordinator.git_http.listing import Listed, ObjectList
from coordinator.git_http.walk import MissingCommit
from coordinator.lineage.objects import read_versions
from shared.commits import parse_tree

COMMITS_AT_ONCE = 200

Folder = dict[str, tuple[bool, str]]
"""A tree's entries: name -> whether it is a folder, and its sha."""


def list_objects(session: Session, commits: Iterable[MissingCommit]) -> ObjectList:
    """The commits, and what of their trees is not in their base's tree. Raises ObjectMissingError."""
    objects = ObjectList()
    left = iter(commits)
    while some := list(islice(left, COMMITS_AT_ONCE)):
        objects.add(Listed(commit.sha, None) for commit in some)
        objects.add(_list_new(session, [Listed(commit.tree_sha, commit.base_tree_sha) for commit in some]))
    return objects


def _list_new(session: Session, trees: list[Listed]) -> Iterator[Listed]:
    """The trees, and what is in them that is not at the same place in the tree beside each; level by level."""
    while trees := [tree for tree in trees if tree.sha != tree.held_sha]:
        folders = _read_folders(session, {sha for tree in trees for sha in tree if sha is not None})
        below: list[Listed] = []
        for tree in trees:
            yield tree
            held = folders[tree.held_sha] if tree.held_sha else {}
            for name, (is_folder, sha) in folders[tree.sha].items():
                was_folder, held_sha = held.get(name, (is_folder, None))
                like = Listed(sha, held_sha if was_folder == is_folder else None)
                if is_folder:
                    below.append(like)
                elif sha != held_sha:
                    yield like
        trees = below


def _read_folders(session: Session, shas: set[str]) -> dict[str, Folder]:
    versions = read_versions(session, shas)
    return {
        sha: {name: (is_folder, entry_sha) for name, is_folder, entry_sha in parse_tree(version.object.data)}
        for sha, version in versions.items()
    }
