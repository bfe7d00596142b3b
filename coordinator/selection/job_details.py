"""Chooses what a job asks for besides its kind and parent: steps, a constant, or axes to avoid."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from sqlalchemy.orm import Session

from coordinator.lineage import service as lineage
from coordinator.lineage.service import BranchRow
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.selection import step_queries
from coordinator.selection.frontier import count_tries
from coordinator.selection.policy import Decision, Snapshot
from coordinator.selection.recombine import (
    Combination,
    choose_ablation,
    choose_avoided,
    choose_constant,
    draw_combination,
    is_combination_due,
)
from shared.experiments import Assignment, JobKind
from shared.formatting import count_noun

STACK_LOOKED_AT = 64  # nearest ancestors among which a step to take out is chosen

NOTHING = Assignment()


@dataclass(frozen=True)
class Assigner:
    """Finds what a job asks for, in a project and a hardware class."""

    session: Session
    project: Project
    hardware_class: str
    rng: Random

    def assign(
        self, decision: Decision, snapshot: Snapshot, branches: Sequence[BranchRow]
    ) -> tuple[Decision, Assignment]:
        """The job: an adoption where one is due; to improve the parent where its own kind finds nothing to do."""
        if not decision.kind.makes_experiment:
            return decision, NOTHING
        if combination := self._find_combination(decision, snapshot):
            return self._adopt(decision, combination)
        if decision.kind is JobKind.ADOPT:
            return _improve(decision, "There is no step to adopt"), NOTHING
        if decision.kind is JobKind.ABLATE:
            return self._ablate(decision)
        if decision.kind is JobKind.TUNE:
            return self._tune(decision)
        stalled = {known.id for known in snapshot.branches if known.is_stalled}
        branch = next((row for row in branches if row.id == decision.branch_id and row.id in stalled), None)
        return self._leave_axes(decision, branch) if branch else (decision, NOTHING)

    @property
    def _sign(self) -> float:
        return projects.contract_of(self.project).objective.sign

    def _find_combination(self, decision: Decision, snapshot: Snapshot) -> Combination | None:
        """The steps that the parent should adopt: drawn for a job to adopt, else the best ones where that is due."""
        if JobKind.ADOPT not in snapshot.kinds or not snapshot.shares.get(JobKind.ADOPT):
            return None
        where = self.session, self.project, self.hardware_class
        rng = self.rng if decision.kind is JobKind.ADOPT else None
        combination = draw_combination(*where, decision.base_sha, rng)
        if combination is None or decision.kind is JobKind.ADOPT:
            return combination
        base = next(candidate for candidate in snapshot.candidates if candidate.sha == decision.base_sha)
        return combination if is_combination_due(*where, base, snapshot.candidates, combination) else None

    def _adopt(self, decision: Decision, combination: Combination) -> tuple[Decision, Assignment]:
        numbers = ", ".join(f"#{step.experiment_id}" for step in combination.steps)
        why = f"{decision.why} The changes of {numbers} look like gains, and this line does not have them."
        effect = self._sign * combination.expected
        asked = Assignment(steps=combination.steps, predicted_effect=effect)
        return replace(decision, kind=JobKind.ADOPT, why=why), asked

    def _ablate(self, decision: Decision) -> tuple[Decision, Assignment]:
        """A step of the parent's own stack; its last one is left alone, since without it there is the commit before."""
        line = lineage.list_nearest(self.session, decision.base_sha, STACK_LOOKED_AT)
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


def _improve(decision: Decision, reason: str) -> Decision:
    return replace(decision, kind=JobKind.IMPROVE, why=f"{decision.why} {reason}, so the job is to improve it.")


def _join(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
