"""Experiments as other features look them up: by commit, by lease, and with what they tried."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, case, false, func, select

from coordinator.db.cache import CachePerDatabase
from coordinator.db.engine import Conn
from coordinator.evidence.changes import list_changed
from coordinator.models import CommitPosterior, Experiment, Finding, Run, table_of
from coordinator.models.experiments import MEASURED
from coordinator.models.findings import IS_SHOWN
from shared.claims import is_bare, write_out
from shared.experiments import Posterior

LINEAGE_CACHE_SECONDS = 1.0
MAX_CACHED_LINEAGES, MAX_CACHED_SETTINGS = 64, 512
KEPT_ROWS = 4_096
"""Number of experiments whose claims are kept as they were written last: 4 MB in all."""


class MadeExperiment(NamedTuple):
    """An experiment by what it made."""

    id: int
    title: str
    commit_sha: str


class TriedExperiment(NamedTuple):
    """An experiment in a context pack: what was tried, its result, and its author's claim, unless it was retracted or
    says no more than title and result, in the `hardware_class` of its first run. It `is_hidden` while its author is in
    quarantine; then nothing that the author wrote is shown."""

    id: int
    title: str
    topic: str
    outcome: str
    reason: str
    metric_mean: float | None
    metric_sd: float | None
    runs: int | None
    effect_mean: float | None
    effect_sd: float | None
    verdict: str | None
    finding_id: int | None
    claim: str | None
    is_hidden: bool = False
    checkers: int | None = None
    standing: str | None = None
    hardware_class: str = ""


@lru_cache(maxsize=KEPT_ROWS)
def _read_tried(row: tuple[Any, ...]) -> TriedExperiment:
    """A row with its claim as of now; None where that is empty or bare. Packs that are made together quote the same."""
    tried = TriedExperiment._make(row)
    if tried.claim is None:
        return tried
    return tried._replace(claim=write_claim(tried.claim, tried.title, tried._asdict(), tried.outcome))


def write_claim(claim: str, title: str, known: Mapping[str, Any], outcome: str = "") -> str | None:
    """A stored claim with the numbers of the posterior that columns hold; None if it says no more than the title."""
    if is_bare(claim, title):
        return None
    columns = {name: known[name] for name in _CLAIMED}
    return write_out(claim, Posterior.model_construct(**columns) if columns["runs"] else None, outcome)


_CLAIMED = ("metric_mean", "metric_sd", "effect_mean", "effect_sd", "runs", "checkers", "verdict", "standing")

_lineages = CachePerDatabase[tuple[str, ...], tuple[Sequence[TriedExperiment], float]](MAX_CACHED_LINEAGES)
_settings = CachePerDatabase[str, dict[str, Any]](MAX_CACHED_SETTINGS)
_EXPERIMENTS, _RUNS, _POSTERIORS, _FINDINGS = (table_of(model) for model in (Experiment, Run, CommitPosterior, Finding))
_MADE = select(*(_EXPERIMENTS.c[name] for name in MadeExperiment._fields))
_BY_LEASE = _MADE.where(_EXPERIMENTS.c.lease_id == bindparam("lease_id"))
_BY_COMMIT = _MADE.where(_EXPERIMENTS.c.commit_sha == bindparam("sha"))
_SETTINGS = select(_EXPERIMENTS.c.settings).where(_EXPERIMENTS.c.commit_sha == bindparam("sha"))
_TRIED = select(
    _EXPERIMENTS.c.id,
    _EXPERIMENTS.c.title,
    _EXPERIMENTS.c.topic,
    _RUNS.c.outcome,
    _RUNS.c.reason,
    *(_POSTERIORS.c[name] for name in ("metric_mean", "metric_sd", "runs", "effect_mean", "effect_sd", "verdict")),
    case((IS_SHOWN, _FINDINGS.c.id)),
    case((IS_SHOWN, _FINDINGS.c.claim)),
    func.coalesce(_FINDINGS.c.is_hidden, false()),
    *(_POSTERIORS.c[name] for name in ("checkers", "standing")),
    _RUNS.c.hardware_class,
).select_from(MEASURED.outerjoin(_FINDINGS, _FINDINGS.c.experiment_id == _EXPERIMENTS.c.id))
_TRIED_BY_COMMIT = _TRIED.where(_EXPERIMENTS.c.commit_sha.in_(bindparam("shas", expanding=True))).order_by(
    _EXPERIMENTS.c.id
)
_TRIED_BY_LEASE = _TRIED.add_columns(_EXPERIMENTS.c.lease_id).where(
    _EXPERIMENTS.c.lease_id.in_(bindparam("lease_ids", expanding=True))
)
_TRIED_BY_PARENT = (
    _TRIED.where(_EXPERIMENTS.c.parent_sha == bindparam("parent_sha"))
    .where(_RUNS.c.hardware_class == bindparam("hardware_class"), _FINDINGS.c.is_hidden.is_not(True))
    .order_by(_EXPERIMENTS.c.id.desc())
    .limit(bindparam("limit"))
)


def find_experiment_by_commit(session: Conn, sha: str) -> MadeExperiment | None:
    row = session.execute(_BY_COMMIT, {"sha": sha}).first()
    return MadeExperiment._make(row) if row else None


def find_settings(session: Conn, sha: str) -> dict[str, Any]:
    """The settings of the experiment that made a commit; empty for the root, whose are not known. They never change."""
    kept = _settings.for_database(session)
    known = kept.find(sha)
    if known is None:
        found: dict[str, Any] | None = session.scalar(_SETTINGS, {"sha": sha})
        return {} if found is None else kept.store(sha, found)
    return known


def find_experiment_by_lease(session: Conn, lease_id: UUID) -> MadeExperiment | None:
    """The experiment that a lease made, if it made one."""
    row = session.execute(_BY_LEASE, {"lease_id": lease_id}).first()
    return MadeExperiment._make(row) if row else None


def list_tried(session: Conn, shas: Sequence[str]) -> list[TriedExperiment]:
    """The experiments that made these commits, oldest first."""
    rows = session.execute(_TRIED_BY_COMMIT, {"shas": list(shas)}).all()
    return [_read_tried(tuple(row)) for row in rows]


def map_tried_by_lease(session: Conn, lease_ids: Sequence[UUID]) -> dict[UUID, TriedExperiment]:
    """The experiments that these leases made, by the lease."""
    if not lease_ids:
        return {}
    rows = session.execute(_TRIED_BY_LEASE, {"lease_ids": list(lease_ids)}).all()
    return {lease_id: _read_tried(tuple(row)) for *row, lease_id in rows}


def list_siblings(session: Conn, parent_sha: str, hardware_class: str, limit: int) -> list[TriedExperiment]:
    """Experiments that were made from the same parent, newest first, without those of authors in quarantine."""
    given = {"parent_sha": parent_sha, "hardware_class": hardware_class, "limit": limit}
    return [_read_tried(tuple(row)) for row in session.execute(_TRIED_BY_PARENT, given).all()]


def list_lineage_tried(session: Conn, shas: Sequence[str]) -> Sequence[TriedExperiment]:
    """As `list_tried`; what other processes changed within the last second may be missing."""
    cache, key, moment = _lineages.for_database(session), tuple(shas), monotonic()
    known = cache.find(key)
    if known is not None and moment - known[1] < LINEAGE_CACHE_SECONDS:
        changed = list_changed(session, since=known[1])
        if changed is not None and changed.isdisjoint(key):
            return known[0]
    return cache.store(key, (list_tried(session, shas), moment))[0]
