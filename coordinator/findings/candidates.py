"""The findings that context packs choose from: a bounded part of all, read now and then and kept in this process.

A claim must not read thousands of rows, and what a pack quotes may be some seconds old: so each replica keeps, for each
project and hardware class, the newest findings and those of the best commits.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from math import exp2
from threading import Lock
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import Select, and_, bindparam, select
from sqlalchemy.orm import Session

from coordinator.db.statements import Prepared
from coordinator.findings.shelved import Shelved as Shelved
from coordinator.findings.shelved import ShelvedFinding as ShelvedFinding
from coordinator.findings.tokenizer import list_words
from coordinator.models import CommitPosterior, Experiment, Finding, table_of
from shared.experiments import Standing
from shared.findings import FindingState
from shared.protocol import now

NEWEST, BEST = 256, 32
"""The newest findings, and for each standing those of the best commits."""
STANDINGS = (Standing.VERIFIED, Standing.SINGLE_OWNER, Standing.PROVISIONAL)
KEPT_FOR = timedelta(seconds=10)
HALF_LIFE, STALEST = timedelta(days=30), 0.25
"""A finding's freshness halves in this time, and does not fall below a quarter."""


_FINDINGS, _EXPERIMENTS, _POSTERIORS = table_of(Finding), table_of(Experiment), table_of(CommitPosterior)
_IS_OWN_CLASS = and_(
    _POSTERIORS.c.commit_sha == _EXPERIMENTS.c.commit_sha, _POSTERIORS.c.hardware_class == _FINDINGS.c.hardware_class
)


def _columns() -> Select[*tuple[object, ...]]:
    return select(
        _FINDINGS.c.id,
        _FINDINGS.c.experiment_id,
        _EXPERIMENTS.c.title,
        _FINDINGS.c.claim,
        _EXPERIMENTS.c.topic,
        _FINDINGS.c.hardware_class,
        _FINDINGS.c.failure,
        _FINDINGS.c.pace,
        *(_POSTERIORS.c[name] for name in ("effect_mean", "effect_sd", "runs", "checkers", "verdict")),
        _FINDINGS.c.created_at,
    )


_NEWEST = Prepared(
    _columns()
    .select_from(
        _FINDINGS.join(_EXPERIMENTS, _EXPERIMENTS.c.id == _FINDINGS.c.experiment_id).outerjoin(
            _POSTERIORS, _IS_OWN_CLASS
        )
    )
    .where(_FINDINGS.c.project_id == bindparam("project_id"), _FINDINGS.c.state == FindingState.PUBLISHED)
    .order_by(_FINDINGS.c.id.desc())
    .limit(NEWEST)
)
_BEST = Prepared(
    _columns()
    .select_from(
        _POSTERIORS.join(_EXPERIMENTS, _EXPERIMENTS.c.commit_sha == _POSTERIORS.c.commit_sha).join(
            _FINDINGS, _FINDINGS.c.experiment_id == _EXPERIMENTS.c.id
        )
    )
    .where(
        _POSTERIORS.c.project_id == bindparam("project_id"),
        _POSTERIORS.c.hardware_class == bindparam("hardware_class"),
        _POSTERIORS.c.standing == bindparam("standing"),
        _FINDINGS.c.state == FindingState.PUBLISHED,
    )
    .order_by(_POSTERIORS.c.rank_score)
    .limit(BEST)
)


class Shelf:
    """What packs choose from. One for an application; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[tuple[int, str], tuple[datetime, Shelved]] = {}

    def read(self, session: Session, project_id: int, hardware_class: str) -> Shelved:
        """The newest findings of a project, and those of the best commits in a hardware class."""
        key, moment = (project_id, hardware_class), now()
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and moment - kept[0] < KEPT_FOR:
            return kept[1]
        found = Shelved(list_shelved(session, project_id, hardware_class))
        with self._lock:
            self._kept[key] = (moment, found)
        return found


def list_shelved(session: Session, project_id: int, hardware_class: str) -> Sequence[ShelvedFinding]:
    """Read them now."""
    rows = _NEWEST.all(session, {"project_id": project_id})
    for standing in STANDINGS:  # one by one, so that an index gives them in their order
        given = {"project_id": project_id, "hardware_class": hardware_class, "standing": standing}
        rows += _BEST.all(session, given)
    moment = now()
    return [_shelve(row, moment) for row in {row[0]: row for row in rows}.values()]


def _shelve(row: tuple[Any, ...], moment: datetime) -> ShelvedFinding:
    _, _, title, claim, topic, *_ = row
    one = ShelvedFinding._make((*row, _words_of(f"{title} {claim} {topic}"), 0.0))
    evidence = weigh_evidence(one.effect_mean, one.effect_sd, one.checkers or 0)
    return one._replace(weight=evidence * weigh_age(moment - one.created_at))


def weigh_evidence(effect_mean: float | None, effect_sd: float | None, checkers: int) -> float:
    """From 0 to 1: how far the effect is from what noise gives, and whether others measured it."""
    if effect_mean is None or not effect_sd:
        return 0.2
    deviations = abs(effect_mean) / effect_sd
    return (0.2 + deviations / (1 + deviations)) / 1.2 * (1 + checkers) / (2 + checkers)


def weigh_age(age: timedelta) -> float:
    """A finding's freshness, from 1 when it is new down to STALEST."""
    return max(STALEST, exp2(-max(0.0, age / HALF_LIFE)))


@lru_cache(maxsize=8_192)
def _words_of(text: str) -> frozenset[str]:
    """Most findings stand on the shelf for long, and their words are the same each time it is read."""
    return frozenset(list_words(text))


async def _get_shelf(request: Request) -> Shelf:
    shelf = request.app.state.shelf
    assert isinstance(shelf, Shelf)
    return shelf


CurrentShelf = Annotated[Shelf, Depends(_get_shelf)]
