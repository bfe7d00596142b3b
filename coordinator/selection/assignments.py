"""From a decision to a job: what it asks for besides its kind and parent, from the database."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from sqlalchemy.orm import Session

from coordinator.lineage import service as lineage
from coordinator.lineage.service import BranchRow
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.selection import queries, step_queries
from coordinator.selection.assembly import choose_ablation, choose_avoided, choose_axis, choose_steps
from coordinator.selection.parents import count_noun
from coordinator.selection.policy import Decision
from shared.experiments import Assignment, JobKind

LINE_LOOKED_AT = 1_024
"""So many of a parent's nearest ancestors are looked at for what it holds already."""

STACK_LOOKED_AT = 64
"""So many of them for a step to take out."""

NOTHING = Assignment()


def assign(
    session: Session, project: Project, hardware_class: str, decision: Decision, stalled: BranchRow | None, rng: Random
) -> tuple[Decision, Assignment]:
    """What a decided job asks for; `stalled` is its branch, if that has gained nothing for long.

    Where there is nothing to adopt, to take out or to tune, the job becomes one to improve the same parent.
    """
    if decision.kind is JobKind.ADOPT:
        return _adopt(session, project, hardware_class, decision, rng)
    if decision.kind is JobKind.ABLATE:
        return _ablate(session, project, hardware_class, decision, rng)
    if decision.kind is JobKind.TUNE:
        return _tune(session, project, hardware_class, decision, rng)
    if stalled is not None and decision.kind.makes_experiment:
        return _leave_axes(session, project, decision, stalled)
    return decision, NOTHING


def _adopt(
    session: Session, project: Project, hardware_class: str, decision: Decision, rng: Random
) -> tuple[Decision, Assignment]:
    """Steps of other lines, from this class and from others: what helps on one kind of hardware may on another."""
    contract = projects.contract_of(project)
    line = lineage.list_nearest(session, decision.base_sha, LINE_LOOKED_AT)
    classes = [hardware_class, *queries.list_other_classes(session, project.id, hardware_class)]
    known = {}
    for name in classes[::-1]:  # what was measured in this class itself goes before
        for one in step_queries.list_best_steps(session, project.id, name, contract.objective.sign):
            known[one.step.sha] = one
    others = [one for sha, one in known.items() if sha not in line]
    adopted = step_queries.find_adopted(session, line)
    steps = choose_steps(others, adopted, contract.objective.min_effect, rng)
    if not steps:
        return _improve(decision, "There is nothing to adopt"), NOTHING
    numbers = ", ".join(f"#{step.experiment_id}" for step in steps)
    why = f"{decision.why} What {numbers} changed elsewhere looks like a gain, and is not in this line."
    return replace(decision, why=why), Assignment(steps=steps)


def _ablate(
    session: Session, project: Project, hardware_class: str, decision: Decision, rng: Random
) -> tuple[Decision, Assignment]:
    """A step of the parent's own stack; its last one is left alone, since without it there is the commit before."""
    sign = projects.contract_of(project).objective.sign
    line = lineage.list_nearest(session, decision.base_sha, STACK_LOOKED_AT)
    known = step_queries.list_steps_of_commits(session, line[1:], hardware_class, sign)
    known += step_queries.list_steps(session, sorted(step_queries.find_adopted(session, line)), hardware_class, sign)
    step = choose_ablation(known, step_queries.find_ablated(session, line), rng)
    if step is None:
        return _improve(decision, "There is no step to take out"), NOTHING
    why = f"{decision.why} Does its gain stay without #{step.experiment_id}, which may have gained nothing?"
    return replace(decision, why=why), Assignment(steps=[step])


def _tune(
    session: Session, project: Project, hardware_class: str, decision: Decision, rng: Random
) -> tuple[Decision, Assignment]:
    sign = projects.contract_of(project).objective.sign
    axis = choose_axis(step_queries.list_best_constants(session, project.id, hardware_class, sign), rng)
    if axis is None:
        return _improve(decision, "No constant is known to matter"), NOTHING
    why = f"{decision.why} {axis} mattered where it was changed: which value is best here?"
    return replace(decision, why=why), Assignment(axis=axis)


def _leave_axes(
    session: Session, project: Project, decision: Decision, stalled: BranchRow
) -> tuple[Decision, Assignment]:
    tries = step_queries.count_tries(session, project.id, stalled.id, stalled.gained_experiment_id or 0)
    avoided = choose_avoided(tries)
    if not avoided:
        return decision, NOTHING
    why = (
        f"{decision.why} {stalled.name} has gained nothing in {count_noun(stalled.fruitless, 'experiment')}: try "
        f"another axis than {_join(avoided)}."
    )
    return replace(decision, why=why), Assignment(avoid_axes=avoided)


def _improve(decision: Decision, reason: str) -> Decision:
    why = f"{decision.why} {reason}, so it is to be improved."
    return replace(decision, kind=JobKind.IMPROVE, why=why)


def _join(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
