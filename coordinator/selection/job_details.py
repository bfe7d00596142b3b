"""Chooses what a job asks for besides its kind and parent: steps to adopt or take out, a constant, axes to avoid.

What is known of a step is the effect it had on its own parent, as a posterior with the sign turned so that lower is
better. Effects are drawn from it (Thompson sampling, as for parents), so a doubtful step is adopted now and then. Why
gains of all lines are combined: docs/decisions/0010.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

import numpy as np

from coordinator.db.engine import Conn
from coordinator.lineage.branches import BranchRow
from coordinator.lineage.commits import list_nearest
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.selection import queries, step_queries
from coordinator.selection.combinations import Known, choose_combination, explain_combination, read_model
from coordinator.selection.frontier import count_tries
from coordinator.selection.policy import Decision, Snapshot
from coordinator.selection.step_queries import KnownStep
from shared.contract import Contract
from shared.experiments import MAX_STEPS, Assignment, JobKind, Step
from shared.formatting import count_noun

MIN_TRIES = 3
"""Tries of an axis without a gain after which it should be avoided."""

MAX_AVOIDED = 8
LINE_LOOKED_AT = 256  # nearest ancestors of a commit that count as its line
STACK_LOOKED_AT = 64  # nearest ancestors among which a step to take out is chosen

SIDE_LOOKED_AT = 32
MAX_SIDES = 8
"""MAX_SIDES parents of steps outside the line are traced back to it, each over SIDE_LOOKED_AT commits."""

NOTHING = Assignment()


def list_fitting(known: Sequence[KnownStep], changed: Mapping[str, frozenset[str]]) -> list[KnownStep]:
    """Steps that fit a commit: their axes are not among those `changed` between their parent and the commit. A step
    whose parent is not in `changed` is left out; one that the commit holds changed its axes itself."""
    return [one for one in known if one.parent_sha in changed and not one.axes & changed[one.parent_sha]]


def combine(known: Sequence[KnownStep], min_effect: float, rng: Random | None) -> list[KnownStep]:
    """Steps to adopt: those drawn (without `rng`, expected) as gains that matter, the largest first, one for each axis,
    at most MAX_STEPS."""
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
    """Whether a combination on a base promises more, by a typical effect, than its `rivals`. `expected` is the sum of
    its steps' mean effects; lower is better."""
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
    """The axes that a stalled branch should leave: those tried most often since its last gain, at most half of them."""
    often = sorted(((count, axis) for axis, count in tries if count >= MIN_TRIES), reverse=True)
    return [axis for _, axis in often[: min(MAX_AVOIDED, len(tries) // 2)]]


def _draw(one: KnownStep, rng: Random) -> float:
    return rng.gauss(one.effect_mean, one.effect_sd)


class Combination(NamedTuple):
    """Steps to adopt. `expected` is the sum of their mean effects, with the sign turned so that lower is better."""

    steps: list[Step]
    expected: float


@dataclass(frozen=True)
class Assigner:
    """Finds what a job asks for, in a project and a hardware class."""

    session: Conn
    project: Project
    hardware_class: str
    rng: Random

    def assign(
        self, decision: Decision, snapshot: Snapshot, branches: Sequence[BranchRow]
    ) -> tuple[Decision, Assignment]:
        """The job: to improve the parent where its own kind finds nothing to do.

        While there is no model of all runs, an adoption comes first where one is due.
        """
        if not decision.kind.makes_experiment:
            return decision, NOTHING
        uses_model = JobKind.COMBINE in snapshot.kinds and bool(snapshot.shares.get(JobKind.COMBINE))
        known = read_model(self.session, self.project) if uses_model else None
        if decision.kind == JobKind.COMBINE and known is not None:
            return self._change_several(decision, snapshot, known)
        is_drawn = decision.kind == JobKind.ADOPT
        if (is_drawn or known is None) and (combination := self._find_combination(decision, snapshot)):
            return self._adopt(decision, combination)
        if decision.kind == JobKind.COMBINE:
            return _improve(decision, "Too little was measured to say what goes together"), NOTHING
        if decision.kind == JobKind.ADOPT:
            return _improve(decision, "There is no step to adopt"), NOTHING
        if decision.kind == JobKind.ABLATE:
            return self._ablate(decision)
        if decision.kind == JobKind.TUNE:
            return self._tune(decision)
        stalled = {known.id for known in snapshot.branches if known.is_stalled}
        branch = next((row for row in branches if row.id == decision.branch_id and row.id in stalled), None)
        return self._leave_axes(decision, branch) if branch else (decision, NOTHING)

    @property
    def _contract(self) -> Contract:
        return projects.contract_of(self.project)

    @property
    def _sign(self) -> float:
        return self._contract.objective.sign

    def _find_combination(self, decision: Decision, snapshot: Snapshot) -> Combination | None:
        """The steps that the parent should adopt: drawn for a job to adopt, else the best ones where that is due."""
        if JobKind.ADOPT not in snapshot.kinds or not snapshot.shares.get(JobKind.ADOPT):
            return None
        is_drawn = decision.kind == JobKind.ADOPT
        combination = self._combine(decision.base_sha, self.rng if is_drawn else None)
        return combination if combination and (is_drawn or self._is_due(combination, decision, snapshot)) else None

    def _combine(self, base_sha: str, rng: Random | None) -> Combination | None:
        """Steps of all lines and classes that a commit could adopt; None where no gain was drawn, or is expected."""
        min_effect = self._contract.objective.min_effect
        most_certain: dict[str, KnownStep] = {}
        others = queries.list_other_classes(self.session, self.project.id, self.hardware_class)
        for name in (self.hardware_class, *others):
            for one in step_queries.list_promising(self.session, self.project.id, name, self._sign, min_effect):
                known = most_certain.get(one.sha)
                if known is None or one.effect_sd < known.effect_sd:
                    most_certain[one.sha] = one
        if not most_certain:
            return None
        taken = combine(_find_fitting(self.session, base_sha, list(most_certain.values())), min_effect, rng)
        return Combination([one.step for one in taken], sum(one.effect_mean for one in taken)) if taken else None

    def _is_due(self, combination: Combination, decision: Decision, snapshot: Snapshot) -> bool:
        """Whether a combination promises more than the best commit of the class, and than what is under way."""
        means = {candidate.sha: candidate.mean for candidate in snapshot.candidates}
        under_way = queries.list_promises(self.session, self.project.id, self.hardware_class)
        promised = [
            means[sha] + self._sign * effect for sha, effect in under_way if sha in means and effect is not None
        ]
        rivals = [min(means.values()), *promised]
        effect_sd = self._contract.evidence.effect_sd
        return is_due(means[decision.base_sha], combination.expected, rivals, effect_sd)

    def _adopt(self, decision: Decision, combination: Combination) -> tuple[Decision, Assignment]:
        numbers = ", ".join(f"#{step.experiment_id}" for step in combination.steps)
        why = f"{decision.why} The changes of {numbers} look like gains, and this line does not have them."
        effect = self._sign * combination.expected
        asked = Assignment(steps=combination.steps, predicted_effect=effect)
        return replace(decision, kind=JobKind.ADOPT, why=why), asked

    def _change_several(self, decision: Decision, snapshot: Snapshot, known: Known) -> tuple[Decision, Assignment]:
        """Changes that a model of all runs draws as gains, on the commit of the branch that it expects most of."""
        drawn = {candidate.sha: candidate for candidate in snapshot.candidates}[decision.base_sha]
        near = [one for one in snapshot.candidates if one.branch_id == drawn.branch_id]
        base = known.find_best(near) or drawn
        generator = np.random.Generator(np.random.SFC64(self.rng.getrandbits(64)))
        asked = choose_combination(known, base, self._sign, generator)
        return replace(decision, base_sha=base.sha, why=explain_combination(known, asked)), asked

    def _ablate(self, decision: Decision) -> tuple[Decision, Assignment]:
        """A step of the parent's own stack; its last one is left alone, since without it there is the commit before."""
        line = list_nearest(self.session, decision.base_sha, STACK_LOOKED_AT)
        adopted = sorted(step_queries.find_adopted(self.session, line))
        known = step_queries.list_steps_of_commits(self.session, line[1:], self.hardware_class, self._sign)
        known += step_queries.list_steps(self.session, adopted, self.hardware_class, self._sign)
        step = choose_ablation(known, step_queries.find_ablated(self.session, line), self.rng)
        if step is None:
            return _improve(decision, "There is no step to take out"), NOTHING
        why = f"{decision.why} #{step.experiment_id} may have gained nothing: does the metric stay without its change?"
        return replace(decision, why=why), Assignment(steps=[step])

    def _tune(self, decision: Decision) -> tuple[Decision, Assignment]:
        known = step_queries.list_constants(self.session, self.project.id, self.hardware_class, self._sign)
        constant = choose_constant(known, self.rng)
        if constant is None:
            return _improve(decision, "No constant is known to have an effect"), NOTHING
        why = f"{decision.why} Changing {constant} had an effect; this job looks for its best value here."
        return replace(decision, why=why), Assignment(axis=constant)

    def _leave_axes(self, decision: Decision, branch: BranchRow) -> tuple[Decision, Assignment]:
        """Ask for another axis than those tried since the branch's last gain."""
        after = branch.gained_experiment_id or 0
        avoided = choose_avoided(count_tries(self.session, self.project.id, branch.id, after))
        if not avoided:
            return decision, NOTHING
        count = count_noun(branch.experiments_without_gain, "experiment")
        why = f"{decision.why} {branch.name} had no gain in its last {count}: try another axis than {_join(avoided)}."
        return replace(decision, why=why), Assignment(avoid_axes=avoided)


def _find_fitting(session: Conn, base_sha: str, known: Sequence[KnownStep]) -> list[KnownStep]:
    """The steps that fit a commit, each with its axes."""
    line = list_nearest(session, base_sha, LINE_LOOKED_AT)
    position = {sha: number for number, sha in enumerate(line)}
    sides = _trace_sides(session, position, known)
    looked_at = {*line, *(sha for side in sides.values() for sha in side), *(one.sha for one in known)}
    axes = step_queries.map_axes(session, sorted(looked_at))
    # What has changed in the line since each of its commits.
    since: list[frozenset[str]] = [frozenset()]
    for sha in line:
        since.append(since[-1] | axes.get(sha, frozenset()))
    changed: dict[str, frozenset[str]] = {sha: since[number] for sha, number in position.items()}
    for parent, side in sides.items():
        own = frozenset[str]().union(*(axes.get(sha, frozenset()) for sha in side[:-1]))
        changed[parent] = since[position[side[-1]]] | own
    return list_fitting([one._replace(axes=axes[one.sha]) for one in known], changed)


def _trace_sides(session: Conn, position: Mapping[str, int], known: Sequence[KnownStep]) -> dict[str, list[str]]:
    """For parents of steps that are not in the line: the commits back to the first one that is, by the parent."""
    sides = {}
    outside = dict.fromkeys(one.parent_sha for one in known if one.parent_sha not in position)
    for parent in list(outside)[:MAX_SIDES]:
        side = list_nearest(session, parent, SIDE_LOOKED_AT)
        meeting = next((number for number, sha in enumerate(side) if sha in position), None)
        if meeting is not None:
            sides[parent] = side[: meeting + 1]
    return sides


def _improve(decision: Decision, reason: str) -> Decision:
    return replace(decision, kind=JobKind.IMPROVE, why=f"{decision.why} {reason}, so the job is to improve it.")


def _join(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
