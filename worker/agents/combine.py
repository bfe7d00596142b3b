"""The agent that changes several things at once: it re-applies other experiments' steps, sets constants to the values
that the coordinator's model draws as gains, and moves some more to values of its own, to learn of them.
"""

from collections.abc import Mapping
from dataclasses import replace

from shared.claims import REPLICATION
from shared.experiments import MAX_SETTINGS, AxisDirection, JobKind, Proposal, Setting, StepFate, StepReport
from shared.findings import FindingDraft
from shared.formatting import count_noun
from shared.runs import RunOutcome, RunReport
from worker.agents.base import Agent, AgentError, AssignmentImpossible, Draft, Task, shorten, state_claim
from worker.agents.recombine import try_step
from worker.agents.search import draw_values, find_editable
from worker.agents.search_space import (
    Constant,
    ConstantsError,
    is_fixed,
    read_constants,
    read_settings,
    rewrite_constants,
)

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
            before = {name: constant.value for name, constant in read_constants(base[path]).items()}
            asked = fit_settings(read_constants(source), task.assignment.settings)
            source = rewrite_constants(source, asked)
            after = {name: constant.value for name, constant in read_constants(source).items()}
            set_already = [name for name, value in after.items() if value != before.get(name)]
            own = draw_values(task, source, task.assignment.new_values, keep=set_already)
            files = {**files, path: rewrite_constants(source, own)}
        except ConstantsError as error:
            raise AgentError(f"{path}: {error}") from error
        changed = {path: text for path, text in files.items() if text != base[path]}
        if not changed:
            raise AssignmentImpossible("nothing is left to combine: the parent has it all")
        moves = [f"{n} {before[n]!r} -> {v!r}" for n, v in (asked | own).items() if n in before]
        proposal = _describe(task, fates, moves, own, read_settings({**base, **changed}))
        return Draft(proposal, changed, self.name, is_code=True)

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        """See `Agent`: names the parts, and what was expected of them."""
        if report.outcome is not RunOutcome.OK:
            return super().write_finding(task, draft, report)
        predicted = task.assignment.predicted_effect
        expected = (
            "Nothing was expected of the parts yet; regression over several such runs tells them apart."
            if predicted is None
            else f"By a linear model the parts that are known add up to {predicted:+.4g}. The rest of the effect "
            "is that of new values, interaction and noise."
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


def _describe(
    task: Task, fates: list[StepReport], moves: list[str], own: Mapping[str, Setting], settings: dict[str, Setting]
) -> Proposal:
    done = [f"#{step.experiment_id}" for step in fates if step.fate is StepFate.DONE]
    left = [f"#{step.experiment_id} ({step.fate.value})" for step in fates if step.fate is not StepFate.DONE]
    reason = "A linear model of all runs draws these changes as gains together." if len(moves) > len(own) else ""
    if own:
        reason += f" {', '.join(own)} {'was' if len(own) == 1 else 'were'} moved besides, to learn of other values."
    if left:
        reason += f" Left out: {', '.join(left)}."
    metric = task.contract.objective.metric
    return Proposal(
        title=shorten(f"Combine {count_noun(len(done) + len(moves), 'change')}: {', '.join(done + moves)}", 200),
        hypothesis=shorten(reason.strip(), 4000),
        axis=AXIS,
        direction=AxisDirection.CHANGE,
        value=shorten(", ".join(done + moves), 200),
        predicted_effect=task.assignment.predicted_effect,
        refuted_by=f"{metric} is no better than the parent's: the effects do not add up, or the new values cost more.",
        settings=dict(list(settings.items())[:MAX_SETTINGS]),
        steps=fates,
    )
