"""Chooses for a job the steps to adopt, the step to take out, the constant to tune and the axes to avoid.

What is known of a step is the effect it had on its own parent, as a posterior with the sign turned so that lower is
better. Effects are drawn from it (Thompson sampling, as for parents): a step is adopted if its draw is a gain that
matters, so a doubtful step is taken along now and then, and a proven one always. The step that is taken out is the one
whose draw is worst. Why gains of all lines are combined: docs/decisions/0010.
"""

from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.lineage import service as lineage
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.selection import queries, step_queries
from coordinator.selection.parents import Candidate
from coordinator.selection.step_queries import KnownStep
from shared.experiments import MAX_STEPS, Step

MIN_TRIES = 3
"""Tries of an axis without a gain after which it should be avoided."""

MAX_AVOIDED = 8

LINE_LOOKED_AT = 256
"""The nearest ancestors of a commit that count as its line."""

SIDE_LOOKED_AT = 32
MAX_SIDES = 8
"""MAX_SIDES parents of steps outside the line are traced back to it, each over SIDE_LOOKED_AT commits."""


def list_fitting(known: Sequence[KnownStep], changed: Mapping[str, frozenset[str]]) -> list[KnownStep]:
    """Steps that fit a commit: nothing has changed their axes since the commits that they were made from.

    `changed` has the axes that differ between a step's parent and the commit, by the parent; a step whose parent is not
    in it is left out. A step that the commit holds, or has adopted, changed them itself.
    """
    return [one for one in known if one.parent_sha in changed and not one.axes & changed[one.parent_sha]]


def combine(known: Sequence[KnownStep], min_effect: float, rng: Random | None) -> list[KnownStep]:
    """Steps to adopt: those drawn as gains that matter, the largest first, one for each axis, at most MAX_STEPS.

    Without a source of randomness, those that are expected to be.
    """
    drawn = sorted((_draw(one, rng) if rng else one.effect_mean, one.experiment_id, one) for one in known)
    taken: list[KnownStep] = []
    axes: set[str] = set()
    for effect, _, one in drawn:
        if effect >= -min_effect or len(taken) == MAX_STEPS:
            break
        if not one.axes & axes:
            taken.append(one)
            axes |= one.axes
    return taken


def is_due(base_mean: float, expected: float, rivals: Collection[float], effect_sd: float) -> bool:
    """Whether a combination on a base promises more, by a typical effect, than the best commit and others under way.

    `expected` is the sum of its steps' mean effects; `rivals` are the metrics of those, lower is better.
    """
    return base_mean + expected < min(rivals, default=base_mean) - effect_sd


def choose_ablation(known: Sequence[KnownStep], done: Collection[int], rng: Random) -> Step | None:
    """The step to take out: the one that most likely gained nothing. `done` are those that were taken out before."""
    drawn = [(_draw(one, rng), one.experiment_id, one) for one in known if one.experiment_id not in done]
    return max(drawn)[-1].step if drawn else None


def choose_constant(known: Sequence[KnownStep], rng: Random) -> str | None:
    """The constant to tune: one whose change mattered most, for better or worse."""
    drawn = [(abs(_draw(one, rng)), one.constant) for one in known if one.constant is not None]
    return max(drawn)[-1] if drawn else None


def choose_avoided(tries: Sequence[tuple[str, int]]) -> list[str]:
    """The axes that a stalled branch should leave: those tried most often since its last gain, at most half of them.

    `tries` are axes with how often each was tried.
    """
    often = sorted(((count, axis) for axis, count in tries if count >= MIN_TRIES), reverse=True)
    return [axis for _, axis in often[: min(MAX_AVOIDED, len(tries) // 2)]]


def _draw(one: KnownStep, rng: Random) -> float:
    return rng.gauss(one.effect_mean, one.effect_sd)


class Combination(NamedTuple):
    """Steps to adopt. `expected` is the sum of their mean effects, with the sign turned so that lower is better."""

    steps: list[Step]
    expected: float


def draw_combination(
    session: Session, project: Project, hardware_class: str, base_sha: str, rng: Random | None
) -> Combination | None:
    """Steps of all lines and classes that a commit could adopt; None where no gain was drawn, or is expected."""
    contract = projects.contract_of(project)
    sign, min_effect = contract.objective.sign, contract.objective.min_effect
    most_certain: dict[str, KnownStep] = {}
    for name in (hardware_class, *queries.list_other_classes(session, project.id, hardware_class)):
        for one in step_queries.list_promising(session, project.id, name, sign, min_effect):
            known = most_certain.get(one.sha)
            if known is None or one.effect_sd < known.effect_sd:
                most_certain[one.sha] = one
    if not most_certain:
        return None
    fitting = _list_fitting(session, base_sha, list(most_certain.values()))
    taken = combine(fitting, min_effect, rng)
    return Combination([one.step for one in taken], sum(one.effect_mean for one in taken)) if taken else None


def is_combination_due(
    session: Session, project: Project, hardware_class: str, base: Candidate, candidates: Sequence[Candidate],
    combination: Combination,
) -> bool:  # fmt: skip
    """Whether a combination promises more than the best commit of the class, and than what is under way."""
    contract = projects.contract_of(project)
    means = {candidate.sha: candidate.mean for candidate in candidates}
    under_way = queries.list_promises(session, project.id, hardware_class)
    sign = contract.objective.sign
    promised = [means[sha] + sign * effect for sha, effect in under_way if sha in means and effect is not None]
    return is_due(base.mean, combination.expected, [min(means.values()), *promised], contract.evidence.effect_sd)


def _list_fitting(session: Session, base_sha: str, known: Sequence[KnownStep]) -> list[KnownStep]:
    line = lineage.list_nearest(session, base_sha, LINE_LOOKED_AT)
    place = {sha: number for number, sha in enumerate(line)}
    sides = _trace_sides(session, place, known)
    looked_at = {*line, *(sha for side in sides.values() for sha in side), *(one.sha for one in known)}
    axes = step_queries.map_axes(session, sorted(looked_at))
    # What has changed in the line since each of its commits.
    since: list[frozenset[str]] = [frozenset()]
    for sha in line:
        since.append(since[-1] | axes.get(sha, frozenset()))
    changed: dict[str, frozenset[str]] = {sha: since[number] for sha, number in place.items()}
    for parent, side in sides.items():
        own = frozenset[str]().union(*(axes.get(sha, frozenset()) for sha in side[:-1]))
        changed[parent] = since[place[side[-1]]] | own
    return list_fitting([one._replace(axes=axes[one.sha]) for one in known], changed)


def _trace_sides(session: Session, place: Mapping[str, int], known: Sequence[KnownStep]) -> dict[str, list[str]]:
    """For parents of steps that are not in the line: the commits back to the first one that is, by the parent."""
    sides = {}
    outside = dict.fromkeys(one.parent_sha for one in known if one.parent_sha not in place)
    for parent in list(outside)[:MAX_SIDES]:
        side = lineage.list_nearest(session, parent, SIDE_LOOKED_AT)
        meeting = next((number for number, sha in enumerate(side) if sha in place), None)
        if meeting is not None:
            sides[parent] = side[: meeting + 1]
    return sides
