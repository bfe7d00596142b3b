"""Gains of all lines, put together: which steps a commit could adopt now, and whether that is due (decision 0010)."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.lineage import service as lineage
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.selection import queries, step_queries
from coordinator.selection.parents import Candidate
from coordinator.selection.recombine import KnownStep, combine, is_due, list_fitting
from shared.experiments import Step

LINE_LOOKED_AT = 256
"""So many of a commit's nearest ancestors are known as its line."""

SIDE_LOOKED_AT = 32
MAX_SIDES = 8
"""Parents of steps that are not in the line: so many are traced back to it, over so many commits each."""


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
