"""Reads steps: their effects, their changes, and which of them a commit holds."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Float, Select, bindparam, select
from sqlalchemy.orm import Session, aliased

from coordinator.db.statements import Prepared
from coordinator.models import AssembledStep, CommitPosterior, Experiment, table_of
from shared.experiments import JobKind, Standing, Step, StepFate

AND = " and "
"""The separator between several axes of one experiment."""

LOOKED_AT = 256
"""Number of a class's best commits, of each standing, that are searched for steps to adopt."""

BEST_TUNED = 64
PROMISING_SD = 2.0
"""A step whose effect may be a gain that matters, within so many sd, is worth a draw."""

TRIES_LOOKED_AT = 2_000
NAMES_AT_ONCE = 500
RELIED_UPON = (Standing.VERIFIED, Standing.SINGLE_OWNER, Standing.PROVISIONAL)

_EXPERIMENTS, _POSTERIORS, _STEPS = table_of(Experiment), table_of(CommitPosterior), table_of(AssembledStep)
_STEP = tuple(_EXPERIMENTS.c[name] for name in ("id", "title", "commit_sha", "parent_sha"))


class KnownStep(NamedTuple):
    """A measured step. `axes` are what it changed; `constant` is the one constant of the code that it changed."""

    experiment_id: int
    title: str
    sha: str
    parent_sha: str
    effect_mean: float
    effect_sd: float
    axes: frozenset[str] = frozenset()
    constant: str | None = None

    @property
    def step(self) -> Step:
        """The step as jobs name it."""
        return Step(experiment_id=self.experiment_id, title=self.title, sha=self.sha, parent_sha=self.parent_sha)


def split_axes(text: str) -> frozenset[str]:
    """The axes that an experiment names."""
    return frozenset(text.split(AND))


def _select_best(limit: int) -> Select[*tuple[Any, ...]]:
    """The effects of a class's best commits of one standing, in the index's order."""
    return (
        select(*(_POSTERIORS.c[name] for name in ("commit_sha", "effect_mean", "effect_sd")))
        .where(
            _POSTERIORS.c.project_id == bindparam("project_id"),
            _POSTERIORS.c.hardware_class == bindparam("hardware_class"),
            _POSTERIORS.c.standing == bindparam("standing"),
        )
        .order_by(_POSTERIORS.c.rank_score, _POSTERIORS.c.commit_sha)
        .limit(limit)
    )


_BEST, _TUNED = _select_best(LOOKED_AT).subquery(), _select_best(BEST_TUNED).subquery()
_SIGN, _SDS = bindparam("sign", type_=Float), bindparam("sds", type_=Float)
_MIN_EFFECT = bindparam("min_effect", type_=Float)
_PROMISING = Prepared(
    select(*_STEP, _BEST.c.effect_mean, _BEST.c.effect_sd)
    .join_from(_BEST, _EXPERIMENTS, _EXPERIMENTS.c.commit_sha == _BEST.c.commit_sha)
    .where(_SIGN * _BEST.c.effect_mean - _SDS * _BEST.c.effect_sd < -_MIN_EFFECT)
)
_CONSTANTS = Prepared(
    select(*_STEP, _TUNED.c.effect_mean, _TUNED.c.effect_sd, _EXPERIMENTS.c.axis, _EXPERIMENTS.c.settings)
    .join_from(_TUNED, _EXPERIMENTS, _EXPERIMENTS.c.commit_sha == _TUNED.c.commit_sha)
    .where(_TUNED.c.effect_mean.is_not(None))
)
_KNOWN = (
    select(*_STEP, _POSTERIORS.c.effect_mean, _POSTERIORS.c.effect_sd)
    .join_from(_POSTERIORS, _EXPERIMENTS, _EXPERIMENTS.c.commit_sha == _POSTERIORS.c.commit_sha)
    .where(_POSTERIORS.c.effect_mean.is_not(None), _POSTERIORS.c.hardware_class == bindparam("hardware_class"))
)
_SHAS: BindParameter[str] = bindparam("shas", expanding=True)
_IDS: BindParameter[int] = bindparam("ids", expanding=True)
_OF_COMMITS = Prepared(_KNOWN.where(_POSTERIORS.c.commit_sha.in_(_SHAS)))
_OF_EXPERIMENTS = Prepared(_KNOWN.where(_EXPERIMENTS.c.id.in_(_IDS)))
_ASSEMBLED = select(_STEPS.c.step_id).join_from(_STEPS, _EXPERIMENTS, _EXPERIMENTS.c.id == _STEPS.c.experiment_id)
_ADOPTED = Prepared(
    _ASSEMBLED.where(
        _EXPERIMENTS.c.kind == JobKind.ADOPT, _STEPS.c.fate == StepFate.DONE, _EXPERIMENTS.c.commit_sha.in_(_SHAS)
    )
)
_ADOPTED_BY = Prepared(
    _ASSEMBLED.where(
        _EXPERIMENTS.c.kind == JobKind.ADOPT, _STEPS.c.fate == StepFate.DONE, _STEPS.c.experiment_id.in_(_IDS)
    )
)
_EFFECTS = Prepared(
    select(_EXPERIMENTS.c.id, _EXPERIMENTS.c.kind, _POSTERIORS.c.effect_mean, _POSTERIORS.c.effect_sd)
    .join_from(_EXPERIMENTS, _POSTERIORS, _EXPERIMENTS.c.commit_sha == _POSTERIORS.c.commit_sha)
    .where(_POSTERIORS.c.effect_mean.is_not(None), _EXPERIMENTS.c.id.in_(_IDS))
)
_ABLATED = Prepared(_ASSEMBLED.where(_EXPERIMENTS.c.kind == JobKind.ABLATE, _EXPERIMENTS.c.parent_sha.in_(_SHAS)))
_OTHERS = aliased(_EXPERIMENTS)
_DONE = (_STEPS.c.experiment_id == _EXPERIMENTS.c.id) & (_STEPS.c.fate == StepFate.DONE)
_AXES = Prepared(
    select(_EXPERIMENTS.c.commit_sha, _EXPERIMENTS.c.axis, _OTHERS.c.axis)
    .select_from(_EXPERIMENTS.outerjoin(_STEPS, _DONE).outerjoin(_OTHERS, _OTHERS.c.id == _STEPS.c.step_id))
    .where(_EXPERIMENTS.c.commit_sha.in_(_SHAS))
)
_TRIES = Prepared(
    select(_EXPERIMENTS.c.id, _EXPERIMENTS.c.axis, _EXPERIMENTS.c.branch_id)
    .where(_EXPERIMENTS.c.project_id == bindparam("project_id"), _EXPERIMENTS.c.id > bindparam("after_id"))
    .order_by(_EXPERIMENTS.c.id.desc())
    .limit(TRIES_LOOKED_AT)
)


def list_promising(
    session: Session, project_id: int, hardware_class: str, sign: float, min_effect: float
) -> list[KnownStep]:
    """Steps that led to the best commits of a class and may be gains; `sign` turns effects so that lower is better."""
    given = {
        "project_id": project_id, "hardware_class": hardware_class, "sign": sign, "min_effect": min_effect,
        "sds": PROMISING_SD,
    }  # fmt: skip
    return [
        _view_step(row, sign)
        for standing in RELIED_UPON
        for row in _PROMISING.all(session, given | {"standing": standing})
    ]


def list_constants(session: Session, project_id: int, hardware_class: str, sign: float) -> list[KnownStep]:
    """Steps that led to the best commits of a class, each with the constant that it changed."""
    given = {"project_id": project_id, "hardware_class": hardware_class}
    known = []
    for standing in RELIED_UPON:
        for *step, axis, settings in _CONSTANTS.all(session, given | {"standing": standing}):
            known.append(_view_step(step, sign)._replace(constant=axis if axis in settings else None))
    return known


def list_steps_of_commits(session: Session, shas: Sequence[str], hardware_class: str, sign: float) -> list[KnownStep]:
    """The steps that made these commits, as far as they were measured in the class."""
    rows = (_OF_COMMITS.all(session, {"shas": some, "hardware_class": hardware_class}) for some in _batches(shas))
    return [_view_step(row, sign) for found in rows for row in found]


def list_steps(session: Session, ids: Sequence[int], hardware_class: str, sign: float) -> list[KnownStep]:
    """The steps of these experiments, as far as they were measured in the class."""
    rows = (_OF_EXPERIMENTS.all(session, {"ids": some, "hardware_class": hardware_class}) for some in _batches(ids))
    return [_view_step(row, sign) for found in rows for row in found]


def find_adopted(session: Session, shas: Sequence[str]) -> set[int]:
    """Experiments whose steps these commits adopted."""
    return {step for some in _batches(shas) for (step,) in _ADOPTED.all(session, {"shas": some})}


def find_adopted_by(session: Session, ids: Sequence[int]) -> set[int]:
    """Experiments whose steps these experiments adopted."""
    return {step for some in _batches(ids) for (step,) in _ADOPTED_BY.all(session, {"ids": some})}


def list_most_certain_effects(session: Session, ids: Sequence[int]) -> list[tuple[JobKind, float]]:
    """The experiments' kinds, and their effects in the class where each is known best."""
    most_certain: dict[int, tuple[float, JobKind, float]] = {}
    for some in _batches(ids):
        for number, kind, mean, sd in _EFFECTS.all(session, {"ids": some}):
            if number not in most_certain or sd < most_certain[number][0]:
                most_certain[number] = (sd, JobKind(kind), mean)
    return [(kind, mean) for _, kind, mean in most_certain.values()]


def find_ablated(session: Session, shas: Sequence[str]) -> set[int]:
    """Experiments whose steps were taken out of one of these commits, to see what becomes of it."""
    return {step for some in _batches(shas) for (step,) in _ABLATED.all(session, {"shas": some})}


def map_axes(session: Session, shas: Sequence[str]) -> dict[str, frozenset[str]]:
    """The axes that each commit changed: its own, or those of the steps it was made from."""
    found: dict[str, frozenset[str]] = {}
    for some in _batches(shas):
        for sha, own, of_step in _AXES.all(session, {"shas": some}):
            found[sha] = found.get(sha, frozenset()) | split_axes(own if of_step is None else of_step)
    return found


def list_tries(session: Session, project_id: int, after_id: int) -> list[tuple[int, str, int]]:
    """The experiments after one of them, newest first, each with its number, axis and branch."""
    rows = _TRIES.all(session, {"project_id": project_id, "after_id": after_id})
    return [(number, axis, branch_id) for number, axis, branch_id in rows]


def _view_step(row: Sequence[Any], sign: float) -> KnownStep:
    """A row that begins with the columns of a step, and its effect."""
    number, title, sha, parent_sha, mean, sd = row[:6]
    return KnownStep(number, title, sha, parent_sha, sign * mean, sd)


def _batches(names: Sequence[Any]) -> Iterator[list[Any]]:
    """Names in parts that one statement takes."""
    for start in range(0, len(names), NAMES_AT_ONCE):
        yield list(names[start : start + NAMES_AT_ONCE])
