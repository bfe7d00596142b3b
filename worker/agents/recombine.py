"""The agent that combines steps by rule: `adopt` re-applies other experiments' steps to the parent, the most promising
first, and leaves out those that conflict; `ablate` reverts one of the steps that led to the parent.
"""

from collections.abc import Mapping

from shared.claims import REPLICATION
from shared.experiments import AxisDirection, JobKind, Proposal, StepFate, StepReport
from shared.findings import FindingDraft
from shared.runs import RunOutcome, RunReport
from worker.agents.base import Agent, AssignmentImpossible, Draft, Task, shorten, state_claim
from worker.agents.edits import EditError, check_files
from worker.agents.search_space import read_settings
from worker.git.merge import MergeConflict, reapply

_FATES = {
    StepFate.CONFLICT: "conflicts with the code here",
    StepFate.IDLE: "changes nothing here",
    StepFate.SKIPPED: "left out, because that combination was tried already",
}


class RecombineAgent(Agent):
    """Drafts experiments of the kinds `adopt` and `ablate`."""

    name = "assembly"
    kinds = frozenset({JobKind.ADOPT, JobKind.ABLATE})

    def propose(self, task: Task) -> Draft:
        """Combine the task's steps. Raises AssignmentImpossible if none of them applies."""
        fates: dict[int, StepFate] = {}
        base = {path: text for path, text in task.base.files.items() if path in task.contract.files.editable}
        files: Mapping[str, str] = base
        wanted = len(task.steps) - len(task.refused)
        for number, step in enumerate(task.steps):
            before, after = (step.before, step.after) if task.kind is JobKind.ADOPT else (step.after, step.before)
            fate = StepFate.SKIPPED
            if number < wanted:
                fate, files = try_step(task, files, before, after)
            fates[step.step.experiment_id] = fate
        try:
            changed = check_files(files, base, task.contract.files)
        except EditError as error:
            steps = ", ".join(f"#{step.step.experiment_id}" for step in task.steps) or "no steps"
            raise AssignmentImpossible(f"{steps} cannot be combined: {error}") from error
        return Draft(_describe(task, fates, read_settings({**base, **changed})), changed, self.name, is_code=True)

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        """See `Agent`: names the steps that were combined or left out."""
        if report.outcome is not RunOutcome.OK:
            return super().write_finding(task, draft, report)
        left_out = [step for step in draft.proposal.steps if step.fate is not StepFate.DONE]
        why = "; ".join(f"#{step.experiment_id} {_FATES[step.fate]}" for step in left_out)
        effects = (
            "Each step was measured alone, on another parent; this run shows whether their effects add up."
            if task.kind is JobKind.ADOPT
            else "Only this step was reverted; its effect here is the difference from the parent."
        )
        return FindingDraft(
            claim=state_claim(task, draft),
            mechanism=effects,
            caveats=" ".join([REPLICATION, *([f"Left out: {why}."] if why else [])]),
            agent=self.name,
        )


def try_step(
    task: Task, files: Mapping[str, str], before: Mapping[str, str], after: Mapping[str, str]
) -> tuple[StepFate, Mapping[str, str]]:
    """Apply a step to the files if possible: its fate, and the resulting files."""
    try:
        merged = reapply(files, before, after)
        if merged == files:
            return StepFate.IDLE, files
        check_files(merged, files, task.contract.files)
    except (MergeConflict, EditError):  # a merge that is not valid Python, or too large, is a conflict too
        return StepFate.CONFLICT, files
    return StepFate.DONE, merged


def _describe(task: Task, fates: Mapping[int, StepFate], settings: dict[str, bool | int | float | str]) -> Proposal:
    done = [step for step in task.steps if fates[step.step.experiment_id] is StepFate.DONE]
    numbers = ", ".join(f"#{step.step.experiment_id}" for step in done)
    described = [
        f"#{step.step.experiment_id} ({step.step.title})"
        + ("" if step in done else f": {_FATES[fates[step.step.experiment_id]]}")
        for step in task.steps
    ]
    metric = task.contract.objective.metric
    if task.kind is JobKind.ADOPT:
        title, axis = f"Adopt {numbers}", "steps of other lines"
        reason = f"Each step looked like a gain where it was measured and is missing here: {'; '.join(described)}."
        refuted = f"{metric} is no better than the parent's: the effects do not add up."
    else:
        title, axis = f"Without {described[0]}", "steps of this line"
        reason = f"If {metric} does not change, this step contributes nothing: {described[0]}."
        refuted = f"{metric} is worse than the parent's: the step contributes."
    return Proposal(
        title=shorten(title, 200), hypothesis=shorten(reason, 4000), axis=axis, direction=AxisDirection.CHANGE,
        value=shorten(numbers, 200), predicted_effect=task.assignment.predicted_effect, refuted_by=refuted,
        settings=settings, steps=[StepReport(experiment_id=number, fate=fate) for number, fate in fates.items()],
    )  # fmt: skip
