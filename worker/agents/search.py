"""The agent without a language model: it changes one or two constants by a tree-structured Parzen estimator (TPE).

Every experiment that the task lists is a trial: measured ones with their metric, failed ones as bad, running ones as
if they would end badly (Optuna's constant liar), so that concurrent workers spread out.
"""

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from operator import itemgetter

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from shared.experiments import MAX_SETTINGS, AxisDirection, JobKind, Proposal, Setting, Trial
from shared.findings import FindingDraft
from shared.formatting import count_noun
from shared.runs import RunOutcome, RunReport
from worker.agents.base import Agent, AgentError, Draft, Task, shorten
from worker.agents.search_space import (
    ConstantsError,
    NumberRange,
    SearchSpace,
    fits_proposal,
    read_spaces,
    read_values,
    rewrite_constants,
)

STARTUP_TRIALS = 4
"""Measured trials before the estimator is used; until then steps are drawn around the parent."""

FIRST_STEP_SD = 0.2
"""Sd of those first steps, as a share of the range."""

SECOND_CONSTANT_SHARE = 0.2
"""Share of drafts that change a second constant, to find interactions."""

REFUSALS_BEFORE_INSISTING = 2
"""Refused near-duplicates after which the agent insists instead of giving the job back."""

INSISTS = "The trials repeatedly lead the search here, and this parent may behave differently."
RANKED_TRIALS = 12
"""Measured trials from which on a finding says how important a constant is."""

NEXT_DRAWS = 20
"""Candidates drawn for a value that no trial has."""

ATTEMPTS = 200
"""Candidates drawn before the agent gives up: late in a search most are too close to an earlier trial."""


class SearchAgent(Agent):
    """Searches the constants of the first editable Python file. The same task always gives the same draft."""

    name = "search"
    wants_trials = True
    kinds = frozenset({JobKind.IMPROVE, JobKind.TUNE})

    def propose(self, task: Task) -> Draft:
        """Draft a change of one or two constants that no trial has. Raises AgentError if none is left."""
        path, source = find_editable(task)
        try:
            current, spaces = read_values(source), read_spaces(source)
        except ConstantsError as error:
            raise AgentError(f"{path}: {error}") from error
        if not spaces:
            raise AgentError(f"{path} has no constant to search: no UPPER_CASE number or bool at module level")
        search = _Search(task, current, _narrow(spaces, task))
        changes = search.draw()
        settings = current | changes
        objective = task.contract.objective
        least = f"{objective.min_effect:g} {'lower' if objective.sign > 0 else 'higher'}"
        moves = ", ".join(f"{n} {current[n]!r} -> {v!r}" for n, v in changes.items())
        proposal = Proposal(
            title=shorten(moves, 200),
            hypothesis=search.reason(changes),
            axis=shorten(" and ".join(changes), 200),
            direction=_direction(current, changes),
            value=shorten(", ".join(repr(v) for v in changes.values()), 200),
            predicted_effect=search.predict_effect(changes),
            refuted_by=f"The mean {objective.metric} of replicated runs is not at least {least} than the parent's.",
            settings=dict([item for item in settings.items() if fits_proposal(*item)][:MAX_SETTINGS]),
            insists=INSISTS if len(task.refused) >= REFUSALS_BEFORE_INSISTING else "",
        )
        return Draft(proposal, {path: rewrite_constants(source, changes)}, self.name)

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        """See `Agent`: what the trials show of the changed constants, this run among them."""
        plain = super().write_finding(task, draft, report)
        path, source = find_editable(task)
        if report.metric is None or draft.agent != self.name or path not in draft.files:
            return plain
        current, spaces, after = read_values(source), read_spaces(source), read_values(draft.files[path])
        changes = {name: after[name] for name in spaces if name in after and after[name] != current[name]}
        trial = Trial(
            sha=report.commit_sha, parent_sha=task.base.sha, title=draft.proposal.title, axis=draft.proposal.axis,
            settings=draft.proposal.settings, metric_mean=report.metric, metric_sd=None, outcome=report.outcome,
        )  # fmt: skip
        search = _Search(replace(task, trials=(*task.trials, trial)), current, spaces)
        names = " and ".join(changes)
        confounded = f" {names} changed together: the effect does not tell which of them it is due to."
        return plain.model_copy(
            update={
                "mechanism": shorten(" ".join(search.explain(changes)), 1200),
                "caveats": plain.caveats + (confounded if len(changes) > 1 else ""),
                "refuted_by": draft.proposal.refuted_by,
                "follow_ups": shorten(" ".join(search.suggest(changes)), 1200),
            }
        )


def draw_values(task: Task, source: str, count: int, keep: Collection[str]) -> dict[str, Setting]:
    """New values for up to `count` constants of a file, at most half of those that may change and none of `keep`.
    Raises ConstantsError; AgentError if every draw was tried already."""
    spaces = read_spaces(source)
    free = [name for name in spaces if name not in keep]
    return _Search(task, read_values(source), spaces).draw_several(free, min(count, (len(spaces) + 1) // 2, len(free)))


class _Search:
    """The search for one draft: evaluates the trials and draws candidates."""

    def __init__(self, task: Task, current: Mapping[str, Setting], spaces: Mapping[str, SearchSpace]) -> None:
        self.task, self.current, self.spaces = task, dict(current), spaces
        self.sign = task.contract.objective.sign
        self.random = random.Random(task.seed)
        self.by_sha = {t.sha: t for t in task.trials}
        self.metrics = {t.sha: t.metric_mean for t in task.trials if t.metric_mean is not None}
        if task.base.posterior is not None:
            self.metrics[task.base.sha] = task.base.posterior.metric_mean
        # The same constants may belong to several commits (an edit of code between them); each is a trial.
        self.measured = [(t, m) for t in task.trials if (m := self.metrics.get(t.sha)) is not None]
        self.weights = self._weigh_axes()
        self.taken = [t.settings for t in task.trials] + [dict(d.proposal.settings) for d in task.refused]
        sampler = optuna.samplers.TPESampler(n_startup_trials=0, constant_liar=True, seed=task.seed % 2**32)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(sampler=sampler)
        self.study.add_trials(self._history())

    def draw(self) -> dict[str, Setting]:
        """New values for one or two constants. Raises AgentError if every candidate was tried already."""
        for _ in range(ATTEMPTS):
            candidate = self._candidate(self._draw_axes())
            moved = all(not self.spaces[n].are_close(v, self.current[n]) for n, v in candidate.items())
            settings = self.current | candidate
            if moved and not any(self._are_same(settings, taken) for taken in self.taken):
                return candidate
        raise AgentError(f"all candidates drawn from {self.task.base.sha[:10]} have been tried already")

    def draw_several(self, free: Sequence[str], count: int) -> dict[str, Setting]:
        """New values for `count` of these constants. Raises AgentError if every candidate was tried already."""
        for attempt in range(ATTEMPTS):
            left, names = list(free), list[str]()
            while len(names) < count:
                names.append(self.random.choices(left, [self.weights[name] for name in left])[0])
                left.remove(names[-1])
            drawn = self._candidate(names) if names else {}
            moved = {n: v for n, v in drawn.items() if not self.spaces[n].are_close(v, self.current[n])}
            settings = self.current | moved
            is_enough = len(moved) == count or (moved and attempt >= ATTEMPTS // 2)
            if is_enough and not any(self._are_same(settings, taken) for taken in self.taken):
                return moved
        raise AgentError(f"all candidates drawn from {self.task.base.sha[:10]} have been tried already")

    def reason(self, changes: Mapping[str, Setting]) -> str:
        """The hypothesis: what the trials show along these constants."""
        return " ".join(self._reason(name, value) for name, value in changes.items())

    def predict_effect(self, changes: Mapping[str, Setting]) -> float:
        """Child minus parent: the mean effect of earlier changes in that direction, else the smallest improvement."""
        direction = _direction(self.current, changes)
        effects = [effect for name in changes for move, effect in self._moves(name) if move == direction]
        return sum(effects) / len(effects) if effects else -self.sign * self.task.contract.objective.min_effect

    def explain(self, changes: Mapping[str, Setting]) -> Iterator[str]:
        """The importance of constants by the trials, the direction that helped, and whether two add up."""
        importances = self._rank_constants()
        order = list(importances)
        for name in changes:
            if name in importances:
                place, share = order.index(name) + 1, 100 * importances[name]
                yield (
                    f"{name} ranks {place} of {len(order)} constants by importance, with {share:.0f} % (PED-ANOVA over "
                    f"{count_noun(len(self.measured), 'measured trial')})."
                )
            moves = self._moves(name)
            for direction in (AxisDirection.UP, AxisDirection.DOWN, AxisDirection.CHANGE):
                effects = [self.sign * effect for move, effect in moves if move == direction]
                if len(effects) > 1:
                    helped = sum(effect < 0 for effect in effects)
                    way = "" if direction is AxisDirection.CHANGE else f" {direction}"
                    yield f"Of {len(effects)} measured steps of {name}{way}, {helped or 'none'} looked better."
        alone = {name: self._find_alone(name, value) for name, value in changes.items()}
        effects = [effect for effect in alone.values() if effect is not None]
        together = self._moved_by(self.measured[-1][1])
        if len(changes) > 1 and len(effects) == len(changes) and together is not None:
            parts = ", ".join(f"{name} {effect:+.4g}" for name, effect in alone.items())
            yield (
                f"Alone, as first measured: {parts}; together {together:+.4g}. The interaction is the difference, "
                f"{together - sum(effects):+.4g}, where the noise of a run is {self.task.contract.evidence.noise_sd:g}."
            )

    def suggest(self, changes: Mapping[str, Setting]) -> Iterator[str]:
        """Next experiments: a constant alone that was changed with others, and values that no trial has."""
        if len(changes) > 1:
            for name, value in changes.items():
                if self._find_alone(name, value) is None:
                    yield f"{name} = {value!r} alone was not tried: it would tell the constants' parts."
        for name in changes if len(self.measured) >= STARTUP_TRIALS else ():
            tried = [t.settings[name] for t in self.task.trials if name in t.settings]
            drawn = (self._candidate([name])[name] for _ in range(NEXT_DRAWS))
            new = (v for v in drawn if not any(self.spaces[name].are_close(v, other) for other in tried))
            if (untried := next(new, None)) is not None:
                best = min((m * self.sign, repr(t.settings[name])) for t, m in self.measured if name in t.settings)[1]
                yield f"Next for {name}: {untried!r}, which no trial has; the best trial has {best}."

    def _rank_constants(self) -> dict[str, float]:
        """The importance of constants, the most important first; empty while there are few trials."""
        if len(self.measured) < RANKED_TRIALS:
            return {}
        with suppress(ValueError, RuntimeError):  # too few trials that differ
            return optuna.importance.get_param_importances(
                self.study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
        return {}

    def _find_alone(self, name: str, value: Setting) -> float | None:
        """The effect of this change of one constant alone on this parent, child minus parent."""
        settings = self.current | {name: value}
        for trial, metric in self.measured:
            if self._are_same(settings, self.current | dict(trial.settings)):
                return self._moved_by(metric)
        return None

    def _moved_by(self, metric: float) -> float | None:
        parent = self.metrics.get(self.task.base.sha)
        return None if parent is None else metric - parent

    def _weigh_axes(self) -> dict[str, float]:
        """Weight of each constant in the draw: higher if it improved the metric, or was rarely tried."""
        weights = {}
        for name in self.spaces:
            effects = [effect * self.sign for _, effect in self._moves(name)]
            weights[name] = (1 + sum(effect < 0 for effect in effects)) / (1 + len(effects))
        return weights

    def _draw_axes(self) -> list[str]:
        names = list(self.spaces)
        first = self.random.choices(names, [self.weights[name] for name in names])[0]
        rest = [name for name in names if name != first]
        if not rest or self.random.random() >= SECOND_CONSTANT_SHARE:
            return [first]
        return [first, self.random.choice(rest)]

    def _moves(self, name: str) -> list[tuple[AxisDirection, float]]:
        """Direction and effect of each measured change of this constant."""
        moves = []
        for trial, metric in self.measured:
            parent = self.by_sha.get(trial.parent_sha or "")
            if parent is None or parent.sha not in self.metrics:
                continue
            if name in trial.settings and name in parent.settings and trial.settings[name] != parent.settings[name]:
                direction = _direction(parent.settings, {name: trial.settings[name]})
                moves.append((direction, metric - self.metrics[parent.sha]))
        return moves

    def _candidate(self, names: Iterable[str]) -> dict[str, Setting]:
        if len(self.measured) < STARTUP_TRIALS:
            return {name: self._first_step(name) for name in names}
        asked = self.study.ask({name: _distribution(self.spaces[name]) for name in names})
        return {name: _value(self.spaces[name], asked.params[name]) for name in names}

    def _first_step(self, name: str) -> Setting:
        space = self.spaces[name]
        if not isinstance(space, NumberRange):
            return self.random.choice(space.values)
        return space.at(space.position(float(self.current[name])) + self.random.gauss(0.0, FIRST_STEP_SD))

    def _history(self) -> Iterator[FrozenTrial]:
        values = [m * self.sign for _, m in self.measured]
        worst = max(values, default=0.0) + 1.0
        for trial in self.task.trials:
            params = {n: _param(s, trial.settings[n]) for n, s in self.spaces.items() if _knows(trial, n, s)}
            distributions = {n: _distribution(self.spaces[n]) for n in params}
            metric = self.metrics.get(trial.sha)
            if metric is None and trial.outcome in _FAILED:
                yield create_trial(value=worst, params=params, distributions=distributions)
            elif metric is None:
                yield create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
            else:
                yield create_trial(value=metric * self.sign, params=params, distributions=distributions)

    def _are_same(self, one: Mapping[str, Setting], other: Mapping[str, Setting]) -> bool:
        def are_close(name: str) -> bool:
            space = self.spaces.get(name)
            return one[name] == other[name] if space is None else space.are_close(one[name], other[name])

        return one.keys() == other.keys() and all(map(are_close, one))

    def _reason(self, name: str, value: Setting) -> str:
        measured = [(metric * self.sign, trial) for trial, metric in self.measured if name in trial.settings]
        known = [trial.settings[name] for _, trial in sorted(measured, key=itemgetter(0))]
        here = repr(self.current[name])
        if len({str(v) for v in known}) < 3:
            tried = ", ".join(dict.fromkeys(map(repr, known))) or here
            return f"{name} has been tried only at {tried}; trying {value!r} measures its sensitivity."
        best = known[: max(2, len(known) // 4)]
        listed = ", ".join(dict.fromkeys(map(repr, best[:5])))
        return f"The best {len(best)} of {len(known)} measured trials have {name} at {listed}; the parent has {here}."


_FAILED = {o.value for o in (RunOutcome.CRASHED, RunOutcome.TIMEOUT, RunOutcome.INVALID, RunOutcome.STOPPED_EARLY)}


def find_editable(task: Task) -> tuple[str, str]:
    """The file whose constants are searched. Raises AgentError."""
    for path in task.contract.files.editable:
        if path.endswith(".py") and path in task.base.files:
            return path, task.base.files[path]
    raise AgentError("the project has no editable Python file to search; use another agent")


def _narrow(spaces: dict[str, SearchSpace], task: Task) -> dict[str, SearchSpace]:
    """The constants that the job asks for; all of them if the file has none of those."""
    asked = task.assignment
    left = {n: s for n, s in spaces.items() if (n == asked.axis if asked.axis else n not in asked.avoid_axes)}
    return left or spaces


def _distribution(space: SearchSpace) -> BaseDistribution:
    """The search distribution: a number's position in its range, which accounts for the scale."""
    if isinstance(space, NumberRange):
        return FloatDistribution(0.0, 1.0)
    return CategoricalDistribution(space.values)


def _param(space: SearchSpace, value: Setting) -> Setting:
    return min(max(space.position(float(value)), 0.0), 1.0) if isinstance(space, NumberRange) else value


def _value(space: SearchSpace, param: Setting) -> Setting:
    return space.at(float(param)) if isinstance(space, NumberRange) else param


def _knows(trial: Trial, name: str, space: SearchSpace) -> bool:
    return name in trial.settings and space.holds(trial.settings[name])


def _direction(before: Mapping[str, Setting], changes: Mapping[str, Setting]) -> AxisDirection:
    """Up or down if one number changed, else a plain change."""
    if len(changes) != 1:
        return AxisDirection.CHANGE
    name, after = next(iter(changes.items()))
    old = before[name]
    if isinstance(old, bool | str) or isinstance(after, bool | str):
        return AxisDirection.CHANGE
    return AxisDirection.UP if after > old else AxisDirection.DOWN
