"""A project's history: an append-only log of what was measured and written, of which nothing is ever rewritten.

Each leaf of the log is one line of canonical JSON, an object with one key, the leaf's kind. `shared.merkle` makes a
tree of them, and `shared.checkpoints` signs its root.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256
from typing import Any
from uuid import UUID

from shared.experiments import JobKind
from shared.findings import FindingDraft, NoteKind
from shared.protocol import Count, Message, Number, Sha, Text, Timestamp
from shared.runs import RunOutcome

WORDS = tuple(FindingDraft.model_fields)
"""The fields of a paper that have a hash."""


class LeafKind(StrEnum):
    LOG = "log"  # the first leaf: the project, and the key that signs
    RESULT = "result"  # a run
    PAPER = "paper"  # a version of a finding's words
    NOTE = "note"  # a retraction, its reversal, or another note beside a finding
    MODERATION = "moderation"  # a decision of moderators that changes what counts
    KEY = "key"  # another key signs from here on
    RESTORED = "restored"  # the database was filled from a backup; what followed it before is lost


class ResultLeaf(Message):
    """A run, as it stands in the export of runs."""

    id: Count
    uuid: UUID
    lease_id: UUID
    project: Text
    commit_sha: Sha
    experiment_id: Count | None
    kind: JobKind
    worker: Text
    volunteer: Text
    hardware_class: Text
    seed: Count | None
    outcome: RunOutcome
    metric: Number | None
    rung: Text | None
    steps: Count | None
    tokens: Count | None
    training_seconds: Number | None
    started_at: Timestamp | None
    finished_at: Timestamp | None
    created_at: Timestamp


class PaperLeaf(Message):
    """A version of a finding's words, by the hash of `WORDS` in canonical JSON: words may have to be hidden."""

    finding_id: Count
    experiment_id: Count
    version: Count
    words_sha256: Text


class NoteLeaf(Message):
    """A note beside a finding, by the hash of its text."""

    id: Count
    finding_id: Count
    kind: NoteKind
    text_sha256: Text
    created_at: Timestamp


class InclusionProof(Message):
    """A proof that a run's leaf is in the log. `leaf` is the line that was hashed; `hashes` are those of RFC 9162, in
    hexadecimal, for the tree of `checkpoint`."""

    number: Count
    leaf: Text
    hashes: list[Text]
    checkpoint: Text


class ConsistencyProof(Message):
    """A proof that the log of `checkpoint` begins with the first `since` leaves: `hashes` of RFC 9162."""

    since: Count
    hashes: list[Text]
    checkpoint: Text


def write_leaf(kind: LeafKind, content: Mapping[str, Any] | Message) -> str:
    """A leaf's line, without its end."""
    fields = content.model_dump(mode="json") if isinstance(content, Message) else content
    return write_canonical({kind.value: fields})


def read_leaf(line: str) -> tuple[LeafKind, dict[str, Any]]:
    """The kind and fields of a leaf. Raises ValueError for a line that is none."""
    document = json.loads(line)
    if not isinstance(document, dict) or len(document) != 1:
        raise ValueError("a leaf is an object with one key")
    ((kind, content),) = document.items()
    if not isinstance(content, dict):
        raise ValueError("a leaf holds an object")
    return LeafKind(kind), content


def write_canonical(document: Any) -> str:
    """JSON with sorted keys and no spaces."""
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hash_words(words: Mapping[str, Any]) -> str:
    """The hash of a paper's words, whatever else the mapping holds."""
    return hash_text(write_canonical({name: words[name] for name in WORDS}))


def hash_text(text: str) -> str:
    return sha256(text.encode()).hexdigest()
