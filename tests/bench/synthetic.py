"""A large swarm's past, made quickly: objects through the store's own encoding, rows copied from one real experiment.

Each experiment changes one to five lines of a file of 25 kB. Parents are drawn from fifty commits, of which one in five
experiments takes a place, so lines of descent grow to hundreds of commits, as in a search that keeps what helps.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from coordinator.lineage.objects import MAX_CHAIN, LoadedObject, ObjectRow, encode_one
from shared.commits import CommitWords, GitObject, build_blob, build_commit, build_trees
from tests.support.messages import AUTHOR

FILE_BYTES = 25_000
FRONTIER = 50
EDITED_LINES = (1, 1, 2, 5)
_NUMBER = re.compile(r" = [0-9][0-9.e-]*\n")
_ADDED = re.compile(r"\nSCALE_[0-9]+ = [0-9.e-]+\n")
_BEFORE_DEFINITION = re.compile(r"\n\n\n(?=def |class )")
Row = dict[str, Any]


@dataclass(frozen=True)
class Leaf:
    """A commit that experiments may start from."""

    sha: str
    depth: int
    text: str
    files: dict[str, str]
    version: LoadedObject


def write_program() -> str:
    """A file of about 25 kB that compiles, and reads like a training script: the seed's own, and its harness."""
    seed = Path("seed")
    paths = [seed / "gpt-cpu" / "train.py", *sorted((seed / "harness").glob("*.py"))]
    text = "".join(path.read_text() for path in paths)
    end = re.compile(r"\n(?=def |class )").search(text, FILE_BYTES)  # whole definitions, so that it compiles
    assert end is not None
    return text[: end.start() + 1]


def edit(text: str, random: Random) -> str:
    """A small change, after which the file still compiles: another number, a new constant, a constant less."""
    for _ in range(random.choice(EDITED_LINES)):
        what = random.random()
        if what < 0.6:
            place, new = random.choice(list(_NUMBER.finditer(text))), f" = {random.uniform(1e-4, 1):.3g}\n"
        elif what < 0.9 or not (added := list(_ADDED.finditer(text))):
            place = random.choice(list(_BEFORE_DEFINITION.finditer(text)))
            new = f"\nSCALE_{random.randrange(100)} = {random.uniform(1e-4, 1):.3g}\n\n\n"
        else:
            place, new = random.choice(added), "\n"
        text = text[: place.start()] + new + text[place.end() :]
    return text


def list_sentences() -> list[str]:
    """Sentences about many things: the words of proposals that are not alike."""
    text = " ".join(path.read_text() for path in sorted(Path("docs").rglob("*.md")))
    return [sentence for sentence in re.split(r"(?<=[.:])\s+", text) if sentence.count(" ") > 5]


class Growth:
    """Makes experiments one after the other; the same ones each time."""

    def __init__(self, root: Leaf, template: dict[str, Row]) -> None:
        self.random = Random(1)
        self.template = template
        self.made = 0
        self.shas = [root.sha]
        self._frontier = [root]
        self._whole = {root.version.object.sha: root.version}

    def grow(self, count: int) -> Iterator[dict[str, list[Row]]]:
        """`count` experiments as rows, table by table in the order in which they may be inserted."""
        for _ in range(count):
            self.made += 1
            parent = self.random.choice(self._frontier)
            leaf, encoded, tree_sha = self._experiment(parent)
            if len(self._frontier) < FRONTIER:
                self._frontier.append(leaf)
            elif self.random.random() < 0.2:
                self._frontier[self.random.randrange(FRONTIER)] = leaf
            self.shas.append(leaf.sha)
            yield {"git_objects": [row._asdict() for row in encoded], **self._rows(parent, leaf, tree_sha)}

    def _experiment(self, parent: Leaf) -> tuple[Leaf, list[ObjectRow], str]:
        text = edit(parent.text, self.random)
        blob = build_blob(text)
        base = parent.version if parent.version.deltas < MAX_CHAIN else self._whole[parent.version.chain[-1]]
        row = encode_one(blob, base)
        files = parent.files | {"train.py": blob.sha}
        tree_sha, trees = build_trees(files)
        commit = build_commit(tree_sha, parent.sha, CommitWords(AUTHOR, 1_790_000_000 + self.made, "SCALE → 0.3"))
        chain = [blob.sha, *base.chain] if row.base_sha else [blob.sha]
        version = LoadedObject(GitObject(blob.sha, "blob", blob.data), chain)
        if row.base_sha is None:
            self._whole[blob.sha] = version
        leaf = Leaf(commit.sha, parent.depth + 1, text, files, version)
        return leaf, [row, *(encode_one(obj) for obj in (*trees, commit))], tree_sha

    def _rows(self, parent: Leaf, leaf: Leaf, tree_sha: str) -> dict[str, list[Row]]:
        number, lease_id = 1_000 + self.made, UUID(int=self.made, version=4)
        run_id = UUID(int=2**64 + self.made, version=4)
        changes: dict[str, Row] = {
            "commits": {"sha": leaf.sha, "parent_sha": parent.sha, "tree_sha": tree_sha, "depth": leaf.depth},
            "leases": {"id": lease_id, "base_sha": parent.sha, "result_key": run_id},
            "context_packs": {"lease_id": lease_id},
            "experiments": {
                "id": number, "commit_sha": leaf.sha, "parent_sha": parent.sha, "lease_id": lease_id
            },
            "findings": {"id": number, "experiment_id": number},
            "runs": {
                "id": number, "uuid": run_id, "commit_sha": leaf.sha, "experiment_id": number, "lease_id": lease_id
            },
            "commit_posteriors": {"commit_sha": leaf.sha},
        }  # fmt: skip
        return {table: [self.template[table] | changed] for table, changed in changes.items()}
