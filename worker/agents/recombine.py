"""The agents that put experiments together from existing steps.

`adopt` re-applies those of others to the parent, the most promising first, and leaves out those that conflict; `ablate`
reverts one of those that led to the parent; `combine` re-applies steps, sets constants to the values that the
coordinator's model draws as gains, and moves some more to values of its own, to learn of them.
"""

from collections.abc import Mapping
from dataclasses import replace

from shared.claims import REPLICATION
from shared.experiments import MAX_SETTINGS, AxisDirection, JobKind, Proposal, Setting, StepFate, StepReport
from shared.findings import FindingDraft
from shared.formatting import count_noun, format_change
from shared.runs import RunOutcome, RunReport
from worker.agents.base import Agent, AgentError, AssignmentImpossible, Draft, Task, shorten, state_claim
from worker.agents.edits import EditError, check_files
from worker.agents.search import draw_values, find_editable
from worker.agents.search_space import (
    Constant,
    ConstantsError,
    is_fixed,
    read_constants,
    read_settings,
    read_values,
    rewrite_constants,
)
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
    predicted = task.assignment.predicted_effect if len(done) == len(task.steps) else None  # it is that of all of them
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
        value=shorten(numbers, 200), predicted_effect=predicted, refuted_by=refuted,
        settings=settings, steps=[StepReport(experiment_id=number, fate=fate) for number, fate in fates.items()],
    )  # fmt: skip


AXIS = "several constants"


class CombineAgent(Agent):
    """Drafts experiments of the kind `combine`."""

    name = "combination"
    wants_trials = True
    kinds = frozenset({JobKind.COMBINE})

    def propose(self, task: Task) -> Draft:
        """Change the base as the assignment says. Raises AssignmentImpossible if nothing is left of it."""
        base = {path: text for path, text in task.base.files.items() if path in task.contract.files.editable}
        files: Mapping[str, str] = base
        fates = []
        for step in task.steps:
            fate, files = try_step(task, files, step.before, step.after)
            fates.append(StepReport(experiment_id=step.step.experiment_id, fate=fate))
        path, source = find_editable(replace(task, base=task.base.model_copy(update={"files": dict(files)})))
        try:
            before = read_values(base[path])
            asked = fit_settings(read_constants(source), task.assignment.settings)
            source = rewrite_constants(source, asked)
            set_already = [name for name, value in read_values(source).items() if value != before.get(name)]
            own = draw_values(task, source, task.assignment.new_values, keep=set_already)
            files = {**files, path: rewrite_constants(source, own)}
        except ConstantsError as error:
            raise AgentError(f"{path}: {error}") from error
        changed = {path: text for path, text in files.items() if text != base[path]}
        if not changed:
            raise AssignmentImpossible("nothing is left to combine: the parent has it all")
        moves = [f"{n} {before[n]!r} -> {v!r}" for n, v in (asked | own).items() if n in before]
        proposal = _describe_combination(task, fates, moves, own, read_settings({**base, **changed}))
        return Draft(proposal, changed, self.name, is_code=True)

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        """See `Agent`: names the parts, and what was expected of them."""
        if report.outcome is not RunOutcome.OK:
            return super().write_finding(task, draft, report)
        predicted = draft.proposal.predicted_effect
        expected = (
            "Nothing was expected of these parts together; regression over several such runs tells them apart."
            if predicted is None
            else f"By a linear model the parts that are known add up to {format_change(predicted)}. The rest of the "
            "effect is that of new values, interaction and noise."
        )
        return FindingDraft(
            claim=state_claim(task, draft),
            mechanism=expected,
            caveats=f"{REPLICATION} Which of the changes matter was not measured one by one.",
            agent=self.name,
        )


def fit_settings(constants: Mapping[str, Constant], asked: Mapping[str, Setting]) -> dict[str, Setting]:
    """The asked values that this file's constants can take and do not have; what is marked as fixed stays."""
    fitting: dict[str, Setting] = {}
    for name, value in asked.items():
        constant = constants.get(name)
        if constant is None or is_fixed(constant):
            continue
        old = constant.value
        if type(old) is float and type(value) is int:
            value = float(value)
        if type(old) is type(value) and value != old:
            fitting[name] = value
    return fitting


def _describe_combination(
    task: Task, fates: list[StepReport], moves: list[str], own: Mapping[str, Setting], settings: dict[str, Setting]
) -> Proposal:
    done = [f"#{step.experiment_id}" for step in fates if step.fate is StepFate.DONE]
    left = [f"#{step.experiment_id} ({step.fate.value})" for step in fates if step.fate is not StepFate.DONE]
    reason = "A linear model of all runs draws these changes as gains together." if len(moves) > len(own) else ""
    if own:
        reason += f" {', '.join(own)} {'was' if len(own) == 1 else 'were'} moved besides, to learn of other values."
    if left:
        reason += f" Left out: {', '.join(left)}."
    metric, asked = task.contract.objective.metric, task.assignment
    is_whole = not left and all(settings.get(name) == value for name, value in asked.settings.items())
    return Proposal(
        title=shorten(f"Combine {count_noun(len(done) + len(moves), 'change')}: {', '.join(done + moves)}", 200),
        hypothesis=shorten(reason.strip(), 4000),
        axis=AXIS,
        direction=AxisDirection.CHANGE,
        value=shorten(", ".join(done + moves), 200),
        predicted_effect=asked.predicted_effect if is_whole else None,  # it is that of all of them
        refuted_by=f"{metric} is no better than the parent's: the effects do not add up, or the new values cost more.",
        settings=dict(list(settings.items())[:MAX_SETTINGS]),
        steps=fates,
    )
