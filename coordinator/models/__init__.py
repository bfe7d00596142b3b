"""All tables. Importing this package is what Alembic and `create_all` need to know them."""

from coordinator.models.accounts import (
    WORKER_NAME,
    AuditEntry,
    BrowserSession,
    FindingReport,
    Invitation,
    Password,
    QueueMark,
    SignInLink,
    Token,
    Volunteer,
    Worker,
)
from coordinator.models.base import Base, include_name, table_of, view_of
from coordinator.models.evidence import (
    Calibration,
    CommitPosterior,
    DueReplication,
    EvidenceEpoch,
    HeldDecision,
    HoldoutCheck,
    HoldoutSecret,
    PastOffset,
    Promotion,
    PromotionLease,
    Run,
    TrustAgreement,
    TrustRecord,
)
from coordinator.models.experiments import (
    AssembledStep,
    DeferredText,
    Embedding,
    Experiment,
    ImportedLine,
    ImportedSession,
)
from coordinator.models.findings import Citation, Finding, FindingNote, FindingTag, FindingVersion
from coordinator.models.history import HistoryEntry, HistoryHead, HistoryKey
from coordinator.models.leases import ContextPack, Lease
from coordinator.models.lineage import Branch, BranchMove, Commit, StoredObject
from coordinator.models.progress import ClassProgress, Contribution, LeaderChange, StoredBin, StoredDigest, TopicCount
from coordinator.models.projects import Event, KindShare, NoticePosition, Project, StoredSettings
