"""What is known of steps: their effects, which of them a commit holds, and which axes were tried."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row, Select, bindparam, func, select
from sqlalchemy.orm import Session

from coordinator.models import AssembledStep, CommitPosterior, Experiment, table_of
from coordinator.selection.assembly import KnownStep
from shared.experiments import JobKind, Standing, Step, StepFate

BEST_STEPS = 192
"""So many of a class's best commits, of each standing, are looked at for steps to adopt."""

BEST_TUNED = 64
TRIES_LOOKED_AT = 2_000
NAMES_AT_ONCE = 500
RELIED_UPON = (Standing.VERIFIED, Standing.SINGLE_OWNER, Standing.PROVISIONAL)

_EXPERIMENTS, _POSTERIORS, _STEPS = table_of(Experiment), table_of(CommitPosterior), table_of(AssembledStep)
_EFFECTS = (
    *(_EXPERIMENTS.c[name] for name in ("id", "title", "commit_sha", "parent_sha")),
    *(_POSTERIORS.c[name] for name in ("effect_mean", "effect_sd")),
)
_CONSTANTS = (*_EFFECTS, *(_EXPERIMENTS.c[name] for name in ("axis", "settings")))


def _select_known(*columns: Any) -> Select[*tuple[Any, ...]]:
    known = select(*columns).join_from(_POSTERIORS, _EXPERIMENTS, _EXPERIMENTS.c.commit_sha == _POSTERIORS.c.commit_sha)
    return known.where(
        _POSTERIORS.c.effect_mean.is_not(None), _POSTERIORS.c.hardware_class == bindparam("hardware_class")
    )


def _select_best(*columns: Any) -> Select[*tuple[Any, ...]]:
    best = _select_known(*columns).where(
        _POSTERIORS.c.project_id == bindparam("project_id"), _POSTERIORS.c.standing == bindparam("standing")
    )
    return best.order_by(_POSTERIORS.c.rank_score).limit(bindparam("limit"))


_BEST_STEPS, _BEST_CONSTANTS = _select_best(*_EFFECTS), _select_best(*_CONSTANTS)
_OF_COMMITS = _select_known(*_EFFECTS).where(_POSTERIORS.c.commit_sha.in_(bindparam("shas", expanding=True)))
_OF_EXPERIMENTS = _select_known(*_EFFECTS).where(_EXPERIMENTS.c.id.in_(bindparam("ids", expanding=True)))
_ASSEMBLED = select(_STEPS.c.step_id).join_from(_STEPS, _EXPERIMENTS, _EXPERIMENTS.c.id == _STEPS.c.experiment_id)
_ADOPTED = _ASSEMBLED.where(_EXPERIMENTS.c.kind == JobKind.ADOPT, _STEPS.c.fate != StepFate.CONFLICT)
_ADOPTED_BY_COMMITS = _ADOPTED.where(_EXPERIMENTS.c.commit_sha.in_(bindparam("shas", expanding=True)))
_ADOPTED_BY_STEPS = _ADOPTED.where(_STEPS.c.experiment_id.in_(bindparam("ids", expanding=True)))
_ABLATED = _ASSEMBLED.where(
    _EXPERIMENTS.c.kind == JobKind.ABLATE, _EXPERIMENTS.c.parent_sha.in_(bindparam("shas", expanding=True))
)
_TRIED = (
    select(_EXPERIMENTS.c.axis, _EXPERIMENTS.c.branch_id)
    .where(_EXPERIMENTS.c.project_id == bindparam("project_id"), _EXPERIMENTS.c.id > bindparam("after_id"))
    .order_by(_EXPERIMENTS.c.id.desc())
    .limit(TRIES_LOOKED_AT)
    .subquery()
)
_AXES = select(_TRIED.c.axis, func.count()).where(_TRIED.c.branch_id == bindparam("branch_id")).group_by(_TRIED.c.axis)


def list_best_steps(session: Session, project_id: int, hardware_class: str, sign: float) -> list[KnownStep]:
    """Steps that led to the best commits of a class; `sign` turns effects so that lower is better."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "limit": BEST_STEPS}
    return [
        _view_step(row, sign)
        for standing in RELIED_UPON
        for row in session.execute(_BEST_STEPS, given | {"standing": standing})
    ]


def list_best_constants(session: Session, project_id: int, hardware_class: str, sign: float) -> list[KnownStep]:
    """Steps that led to the best commits of a class, with what they changed."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "limit": BEST_TUNED}
    return [
        _view_step(row, sign)._replace(axis=row.axis, is_constant=row.axis in row.settings)
        for standing in RELIED_UPON
        for row in session.execute(_BEST_CONSTANTS, given | {"standing": standing})
    ]


def list_steps_of_commits(session: Session, shas: Sequence[str], hardware_class: str, sign: float) -> list[KnownStep]:
    """The steps that made these commits, as far as they were measured in the class."""
    rows = (session.execute(_OF_COMMITS, {"shas": some, "hardware_class": hardware_class}) for some in _batches(shas))
    return [_view_step(row, sign) for found in rows for row in found]


def list_steps(session: Session, ids: Sequence[int], hardware_class: str, sign: float) -> list[KnownStep]:
    """The steps of these experiments, as far as they were measured in the class."""
    rows = (session.execute(_OF_EXPERIMENTS, {"ids": some, "hardware_class": hardware_class}) for some in _batches(ids))
    return [_view_step(row, sign) for found in rows for row in found]


def find_adopted(session: Session, shas: Sequence[str]) -> set[int]:
    """Experiments whose steps these commits adopted, and what those had adopted themselves."""
    adopted = {step for some in _batches(shas) for step in session.scalars(_ADOPTED_BY_COMMITS, {"shas": some})}
    new = adopted
    while new:
        below = {step for some in _batches(sorted(new)) for step in session.scalars(_ADOPTED_BY_STEPS, {"ids": some})}
        new = below - adopted
        adopted |= new
    return adopted


def find_ablated(session: Session, shas: Sequence[str]) -> set[int]:
    """Experiments whose steps were taken out of one of these commits, to see what becomes of it."""
    return {step for some in _batches(shas) for step in session.scalars(_ABLATED, {"shas": some})}


def count_tries(session: Session, project_id: int, branch_id: int, after_id: int) -> list[tuple[str, int]]:
    """The axes of a branch's experiments after one of them, with how often each was tried."""
    given = {"project_id": project_id, "branch_id": branch_id, "after_id": after_id}
    return [(axis, count) for axis, count in session.execute(_AXES, given)]


def _view_step(row: Row[Any], sign: float) -> KnownStep:
    step = Step(experiment_id=row.id, title=row.title, sha=row.commit_sha, parent_sha=row.parent_sha)
    return KnownStep(step, sign * row.effect_mean, row.effect_sd)


def _batches(names: Sequence[Any]) -> Iterator[list[Any]]:
    """Names in parts that one statement takes."""
    for start in range(0, len(names), NAMES_AT_ONCE):
        yield list(names[start : start + NAMES_AT_ONCE])
