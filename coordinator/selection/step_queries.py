"""Reads steps: their effects, their changes, and which of them a commit holds."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Executable, Float, Select, bindparam, func, select
from sqlalchemy.orm import aliased

from coordinator.db.engine import Conn, LabelledRow, batches
from coordinator.models import AssembledStep, CommitPosterior, Experiment, Run, table_of
from coordinator.models.base import is_of_class
from coordinator.models.experiments import IS_MEASUREMENT
from shared.experiments import JobKind, Setting, Standing, Step, StepFate

AND = " and "  # separates several axes of one experiment

LOOKED_AT = 256  # best commits of a class, of each standing, that are searched for steps to adopt
BEST_TUNED = 64
MODELLED_RUNS = 1024  # newest experiments, and runs of experiments, that the additive model learns from
MODELLED_SEED_RUNS = 256  # newest runs of the seed likewise: those of many newcomers must not take the others' place
PROMISING_SD = 2.0  # a step is considered if its effect may be a gain that matters within this many sd
TRIES_LOOKED_AT = 2_000
RELIED_UPON = (Standing.VERIFIED, Standing.CORROBORATED, Standing.SINGLE_OWNER, Standing.PROVISIONAL)

_EXPERIMENTS, _POSTERIORS, _STEPS, _RUNS = map(table_of, (Experiment, CommitPosterior, AssembledStep, Run))
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


class MeasuredExperiment(NamedTuple):
    """An experiment as the additive model reads it. `done_steps` are those that it adopted or took out."""

    step: Step
    kind: JobKind
    axis: str
    settings: dict[str, Setting]
    done_steps: frozenset[int]


PROJECT: BindParameter[int] = bindparam("project_id")
HARDWARE_CLASS: BindParameter[str] = bindparam("hardware_class")
SHAS: BindParameter[str] = bindparam("shas", expanding=True)


def take_best(query: Select[*tuple[Any, ...]], standing: Any, limit: int) -> Select[*tuple[Any, ...]]:
    """A query of posteriors for the best of a project, class and standing, in the index's order."""
    return (
        query.where(is_of_class(_POSTERIORS.c), _POSTERIORS.c.standing == standing)
        .order_by(_POSTERIORS.c.rank_score, _POSTERIORS.c.commit_sha)
        .limit(limit)
    )


_BEST_EFFECTS = select(_POSTERIORS.c.commit_sha, _POSTERIORS.c.effect_mean, _POSTERIORS.c.effect_sd)
_BEST = take_best(_BEST_EFFECTS, bindparam("standing"), LOOKED_AT).subquery()
_TUNED = take_best(_BEST_EFFECTS, bindparam("standing"), BEST_TUNED).subquery()
_SIGN, _MIN_EFFECT = bindparam("sign", type_=Float), bindparam("min_effect", type_=Float)
_PROMISING = (
    select(*_STEP, _BEST.c.effect_mean, _BEST.c.effect_sd)
    .join_from(_BEST, _EXPERIMENTS, _EXPERIMENTS.c.commit_sha == _BEST.c.commit_sha)
    .where(_SIGN * _BEST.c.effect_mean - PROMISING_SD * _BEST.c.effect_sd < -_MIN_EFFECT)
)
_CONSTANTS = (
    select(*_STEP, _TUNED.c.effect_mean, _TUNED.c.effect_sd, _EXPERIMENTS.c.axis, _EXPERIMENTS.c.settings)
    .join_from(_TUNED, _EXPERIMENTS, _EXPERIMENTS.c.commit_sha == _TUNED.c.commit_sha)
    .where(_TUNED.c.effect_mean.is_not(None))
)
_KNOWN = (
    select(*_STEP, _POSTERIORS.c.effect_mean, _POSTERIORS.c.effect_sd)
    .join_from(_POSTERIORS, _EXPERIMENTS, _EXPERIMENTS.c.commit_sha == _POSTERIORS.c.commit_sha)
    .where(_POSTERIORS.c.effect_mean.is_not(None), _POSTERIORS.c.hardware_class == HARDWARE_CLASS)
)
_IDS: BindParameter[int] = bindparam("ids", expanding=True)
_OF_COMMITS = _KNOWN.where(_POSTERIORS.c.commit_sha.in_(SHAS))
_OF_EXPERIMENTS = _KNOWN.where(_EXPERIMENTS.c.id.in_(_IDS))
_ASSEMBLED = select(_STEPS.c.step_id).join_from(_STEPS, _EXPERIMENTS, _EXPERIMENTS.c.id == _STEPS.c.experiment_id)
_ALL_ADOPTED = _ASSEMBLED.where(
    _EXPERIMENTS.c.kind.in_((JobKind.ADOPT, JobKind.COMBINE)), _STEPS.c.fate == StepFate.DONE
)
_ADOPTED = _ALL_ADOPTED.where(_EXPERIMENTS.c.commit_sha.in_(SHAS))
_ADOPTED_BY = _ALL_ADOPTED.where(_STEPS.c.experiment_id.in_(_IDS))
_EFFECTS = (
    select(_EXPERIMENTS.c.id, _EXPERIMENTS.c.kind, _POSTERIORS.c.effect_mean, _POSTERIORS.c.effect_sd)
    .join_from(_EXPERIMENTS, _POSTERIORS, _EXPERIMENTS.c.commit_sha == _POSTERIORS.c.commit_sha)
    .where(_POSTERIORS.c.effect_mean.is_not(None), _EXPERIMENTS.c.id.in_(_IDS))
)
_MODELLED = select(*_STEP, *(_EXPERIMENTS.c[name] for name in ("kind", "axis", "settings")))
_NEWEST_MODELLED = (
    _MODELLED.where(_EXPERIMENTS.c.project_id == PROJECT).order_by(_EXPERIMENTS.c.id.desc()).limit(MODELLED_RUNS)
)
_MODELLED_COMMITS = _MODELLED.where(_EXPERIMENTS.c.commit_sha.in_(SHAS))
_DONE_STEPS = select(_STEPS.c.experiment_id, _STEPS.c.step_id).where(
    _STEPS.c.experiment_id.in_(_IDS), _STEPS.c.fate == StepFate.DONE
)
_MODELLED_RUNS = (
    select(_RUNS.c.commit_sha.label("sha"), _RUNS.c.worker_id, _RUNS.c.hardware_class, _RUNS.c.metric)
    .where(_RUNS.c.project_id == PROJECT, IS_MEASUREMENT)
    .order_by(_RUNS.c.id.desc())
)
_OF_EXPERIMENTS_RUNS = _MODELLED_RUNS.where(_RUNS.c.experiment_id.is_not(None)).limit(MODELLED_RUNS)
_OF_SEED_RUNS = _MODELLED_RUNS.where(_RUNS.c.experiment_id.is_(None)).limit(MODELLED_SEED_RUNS)
_NEWEST_RUN = select(func.max(_RUNS.c.id)).where(_RUNS.c.project_id == PROJECT)
_ABLATED = _ASSEMBLED.where(_EXPERIMENTS.c.kind == JobKind.ABLATE, _EXPERIMENTS.c.parent_sha.in_(SHAS))
_OTHERS = aliased(_EXPERIMENTS)
_DONE = (_STEPS.c.experiment_id == _EXPERIMENTS.c.id) & (_STEPS.c.fate == StepFate.DONE)
_AXES = (
    select(_EXPERIMENTS.c.commit_sha, _EXPERIMENTS.c.axis, _OTHERS.c.axis)
    .select_from(_EXPERIMENTS.outerjoin(_STEPS, _DONE).outerjoin(_OTHERS, _OTHERS.c.id == _STEPS.c.step_id))
    .where(_EXPERIMENTS.c.commit_sha.in_(SHAS))
)
_TRIES = (
    select(_EXPERIMENTS.c.id, _EXPERIMENTS.c.axis, _EXPERIMENTS.c.branch_id)
    .where(_EXPERIMENTS.c.project_id == PROJECT, _EXPERIMENTS.c.id > bindparam("after_id"))
    .order_by(_EXPERIMENTS.c.id.desc())
    .limit(TRIES_LOOKED_AT)
)


def find_newest_run(session: Conn, project_id: int) -> int:
    """The number of the newest run; 0 if there is none."""
    return session.scalar(_NEWEST_RUN, {"project_id": project_id}) or 0


def list_measured(session: Conn, project_id: int, shas: Sequence[str]) -> list[MeasuredExperiment]:
    """The newest MODELLED_RUNS experiments, and those that made these commits, the oldest first: where many older ones
    are measured again, the newest runs are theirs."""
    found = {row[0]: row for row in session.execute(_NEWEST_MODELLED, {"project_id": project_id})}
    older = set(shas) - {row.commit_sha for row in found.values()}
    found |= {row[0]: row for row in _run_batches(session, _MODELLED_COMMITS, "shas", sorted(older))}
    rows = [found[number] for number in sorted(found)]
    done: dict[int, set[int]] = {}
    for number, step in _run_batches(session, _DONE_STEPS, "ids", list(found)):
        done.setdefault(number, set()).add(step)
    return [
        MeasuredExperiment(
            Step(experiment_id=number, title=title, sha=sha, parent_sha=parent), JobKind(kind), axis, settings,
            frozenset(done.get(number, ())),
        )
        for number, title, sha, parent, kind, axis, settings in rows
    ]  # fmt: skip


def list_runs(session: Conn, project_id: int) -> list[LabelledRow]:
    """The newest runs that count, of all classes: `sha`, `worker_id`, `hardware_class`, `metric`."""
    of_project = {"project_id": project_id}
    return [*session.execute(_OF_EXPERIMENTS_RUNS, of_project), *session.execute(_OF_SEED_RUNS, of_project)]


def list_promising(
    session: Conn, project_id: int, hardware_class: str, sign: float, min_effect: float
) -> list[KnownStep]:
    """Steps that led to the best commits of a class and may be gains; `sign` turns effects so that lower is better."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "sign": sign, "min_effect": min_effect}
    rows = (session.execute(_PROMISING, given | {"standing": standing}).all() for standing in RELIED_UPON)
    return [_view_step(row, sign) for row in chain.from_iterable(rows)]


def list_constants(session: Conn, project_id: int, hardware_class: str, sign: float) -> list[KnownStep]:
    """Steps that led to the best commits of a class, each with the constant that it changed."""
    given = {"project_id": project_id, "hardware_class": hardware_class}
    rows = (session.execute(_CONSTANTS, given | {"standing": standing}).all() for standing in RELIED_UPON)
    return [
        _view_step(step, sign)._replace(constant=axis if axis in settings else None)
        for *step, axis, settings in chain.from_iterable(rows)
    ]


def list_steps_of_commits(session: Conn, shas: Sequence[str], hardware_class: str, sign: float) -> list[KnownStep]:
    """The steps that made these commits, as far as they were measured in the class."""
    rows = _run_batches(session, _OF_COMMITS, "shas", shas, hardware_class=hardware_class)
    return [_view_step(row, sign) for row in rows]


def list_steps(session: Conn, ids: Sequence[int], hardware_class: str, sign: float) -> list[KnownStep]:
    """The steps of these experiments, as far as they were measured in the class."""
    rows = _run_batches(session, _OF_EXPERIMENTS, "ids", ids, hardware_class=hardware_class)
    return [_view_step(row, sign) for row in rows]


def find_adopted(session: Conn, shas: Sequence[str]) -> set[int]:
    """Experiments whose steps these commits adopted."""
    return {step for (step,) in _run_batches(session, _ADOPTED, "shas", shas)}


def find_adopted_by(session: Conn, ids: Sequence[int]) -> set[int]:
    """Experiments whose steps these experiments adopted."""
    return {step for (step,) in _run_batches(session, _ADOPTED_BY, "ids", ids)}


def list_most_certain_effects(session: Conn, ids: Sequence[int]) -> list[tuple[JobKind, float]]:
    """The experiments' kinds, and their effects in the class where each is known best."""
    most_certain: dict[int, tuple[float, JobKind, float]] = {}
    for number, kind, mean, sd in _run_batches(session, _EFFECTS, "ids", ids):
        if number not in most_certain or sd < most_certain[number][0]:
            most_certain[number] = (sd, JobKind(kind), mean)
    return [(kind, mean) for _, kind, mean in most_certain.values()]


def find_ablated(session: Conn, shas: Sequence[str]) -> set[int]:
    """Experiments whose steps were taken out of one of these commits, to see what becomes of it."""
    return {step for (step,) in _run_batches(session, _ABLATED, "shas", shas)}


def map_axes(session: Conn, shas: Sequence[str]) -> dict[str, frozenset[str]]:
    """The axes that each commit changed: its own, or those of the steps it was made from."""
    found: dict[str, frozenset[str]] = {}
    for sha, own, of_step in _run_batches(session, _AXES, "shas", shas):
        found[sha] = found.get(sha, frozenset()) | split_axes(own if of_step is None else of_step)
    return found


def list_tries(session: Conn, project_id: int, after_id: int) -> list[tuple[Any, ...]]:
    """The experiments after one of them, newest first, each with its number, axis and branch."""
    return [tuple(row) for row in session.execute(_TRIES, {"project_id": project_id, "after_id": after_id})]


def _view_step(row: Sequence[Any], sign: float) -> KnownStep:
    """A row that begins with the columns of a step, and its effect."""
    number, title, sha, parent_sha, mean, sd = row[:6]
    return KnownStep(number, title, sha, parent_sha, sign * mean, sd)


def _run_batches(
    session: Conn, statement: Executable, name: str, values: Sequence[Any], **given: Any
) -> Iterator[Sequence[Any]]:
    """The rows of a statement whose list parameter `name` takes these values."""
    for some in batches(values):
        yield from session.execute(statement, given | {name: some})
