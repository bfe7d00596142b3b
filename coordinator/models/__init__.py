"""All tables. Importing this package is what Alembic and `create_all` need to know them."""

from coordinator.models.accounts import Token, Volunteer
from coordinator.models.autoresearch import ImportedLine, ImportedSession
from coordinator.models.base import Base, include_name, table_of
from coordinator.models.events import Event
from coordinator.models.evidence import (
    Calibration,
    CommitPosterior,
    DueReplication,
    EvidenceEpoch,
    Run,
    TrustRecord,
)
from coordinator.models.experiments import AssembledStep, Experiment
from coordinator.models.findings import Citation, Finding, FindingNote, FindingTag, FindingVersion
from coordinator.models.leases import ContextPack, Lease
from coordinator.models.lineage import Branch, BranchMove, Commit, StoredObject
from coordinator.models.novelty import Embedding
from coordinator.models.projects import KindShare, Project
from coordinator.models.workers import Worker

__all__ = [
    "AssembledStep",
    "Base",
    "Branch",
    "BranchMove",
    "Calibration",
    "Citation",
    "Commit",
    "CommitPosterior",
    "ContextPack",
    "DueReplication",
    "Embedding",
    "Event",
    "EvidenceEpoch",
    "Experiment",
    "Finding",
    "FindingNote",
    "FindingTag",
    "FindingVersion",
    "ImportedLine",
    "ImportedSession",
    "KindShare",
    "Lease",
    "Project",
    "Run",
    "StoredObject",
    "Token",
    "TrustRecord",
    "Volunteer",
    "Worker",
    "include_name",
    "table_of",
]
