"""Chooses what a `combine` job changes: settings and code steps that an additive model of all runs draws as gains.

The model is a project's, over all hardware classes, and is fitted again once it can have grown by a sixteenth, unless
fits then took more than a two-hundredth of a processor's time. It chooses what to measure and what to build upon. No
claim rests on it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from threading import Lock
from time import monotonic, thread_time
from typing import NamedTuple

import numpy as np

from coordinator.db.cache import CachePerDatabase
from coordinator.db.engine import Conn
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.selection import step_queries
from coordinator.selection.additive_model import AdditiveModel, Prior, Row
from coordinator.selection.parents import Candidate
from coordinator.selection.step_queries import MeasuredExperiment, split_axes
from shared.experiments import MAX_SETTINGS, MAX_STEPS, Assignment, JobKind, Setting, Step
from shared.formatting import count_noun, format_change

CHANGES = 3
"""Constants that a job changes besides what the model chooses, to values that nobody tried."""

MIN_RUNS = 8  # of experiments, before a model is fitted
GROWTH = 16  # the model is fitted again when runs came since that are at least this part of it
MAX_AGE_SECONDS = 120.0  # after which any new run is reason to fit again
FIT_SHARE = 0.005  # of a processor's time that fits of one project take at most
MAX_MODELS = 64
MAX_NAMED = 8  # changes that a sentence names
MOST_CONSTANTS, MOST_STEPS = 128, 256  # axes of a model, those that most commits changed
LONGEST_TEXT = 80  # characters of a setting that is modelled
IS_STEP = "#"  # begins the axis of a code step

Settings = Mapping[str, Setting]


class Known(NamedTuple):
    """A project's model, with the settings and steps of each commit that differ from the reference, by sha."""

    model: AdditiveModel
    reference: Settings
    commits: Mapping[str, Settings]
    steps: Mapping[str, Step]

    def find_best(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """The measured commit that the model expects most of."""
        known = [one for one in candidates if one.sha in self.commits and not one.is_suspect]
        return min(known, key=lambda one: (self.model.predict(self.commits[one.sha]), one.sha), default=None)


class LastFit(NamedTuple):
    """The outcome of a project's last fit: no model where too few of the `runs` that were read are of experiments.

    `through_id` is the newest run then, `seconds` the CPU time that it took, `ended_at` its end by the monotonic clock.
    """

    known: Known | None
    runs: int
    through_id: int
    ended_at: float
    seconds: float

    def is_fresh(self, moment: float) -> bool:
        """Whether it is too soon to fit again, whatever came since."""
        return self.known is not None and moment - self.ended_at < self.seconds / FIT_SHARE

    def is_due(self, newest: int, moment: float) -> bool:
        """Whether to fit again, where `newest` is the number of the newest run."""
        new = newest - self.through_id
        if new == 0 or self.is_fresh(moment):
            return False
        looked_at = self.runs if self.known is not None else self.through_id  # of many that failed few may be left
        return new >= looked_at // GROWTH or moment - self.ended_at > MAX_AGE_SECONDS


_fits = CachePerDatabase[int, LastFit](MAX_MODELS)
_fitting = Lock()


def read_model(session: Conn, project: Project) -> Known | None:
    """The project's model; None while there are too few runs. A fit that another thread makes is not waited for."""
    kept, key = _fits.for_database(session), project.id
    last = kept.find(key)
    if last is not None and last.is_fresh(monotonic()):
        return last.known
    newest = step_queries.find_newest_run(session, project.id)
    if last is not None and not last.is_due(newest, monotonic()):
        return last.known
    if not _fitting.acquire(blocking=last is None):
        return last.known if last is not None else None
    try:
        began = thread_time()
        known, runs = _fit(session, project)
        return kept.store(key, LastFit(known, runs, newest, monotonic(), thread_time() - began)).known
    finally:
        _fitting.release()


def _fit(session: Conn, project: Project) -> tuple[Known | None, int]:
    """The model that the newest runs give, if they suffice, and how many they are."""
    contract = projects.contract_of(project)
    evidence, sign = contract.evidence, contract.objective.sign
    runs = step_queries.list_runs(session, project.id)
    if sum(run.sha != project.root_sha for run in runs) < MIN_RUNS:
        return None, len(runs)
    tried = step_queries.list_measured(session, project.id, [run.sha for run in runs])
    reference = find_reference(tried, project.root_sha)
    commits = limit_axes(describe_commits(tried, project.root_sha, reference))
    told = [run for run in runs if run.sha in commits]
    if sum(run.sha != project.root_sha for run in told) < MIN_RUNS:
        return None, len(runs)
    rows = [Row(commits[run.sha], run.worker_id, run.hardware_class, sign * run.metric) for run in told]
    prior = Prior(evidence.noise_sd, evidence.effect_sd, evidence.typical_offset_sd)
    steps = {IS_STEP + str(one.step.experiment_id): one.step for one in tried if one.kind != JobKind.DRAFT}
    measured = {run.sha for run in runs}
    modelled = {sha: commits[sha] for sha in commits if sha in measured}
    return Known(AdditiveModel(rows, reference, prior), reference, modelled, steps), len(runs)


def find_reference(tried: Sequence[MeasuredExperiment], root_sha: str) -> dict[str, Setting]:
    """The value from which each constant's effects are counted: the one that most children of the root have, else most
    experiments, because the root's own settings are not known."""
    counts: dict[str, Counter[Setting]] = {}
    for children in (True, False):
        for one in tried:
            if (one.step.parent_sha == root_sha) is children:
                for name, value in one.settings.items():
                    if children or name not in counts:
                        counts.setdefault(name, Counter())[value] += 1
    return {name: values.most_common(1)[0][0] for name, values in counts.items()}


def describe_commits(
    tried: Sequence[MeasuredExperiment], root_sha: str, reference: Settings
) -> dict[str, dict[str, Setting]]:
    """Each commit's settings that differ from the reference, and its code steps. `tried` begins with the oldest."""
    steps: dict[str, frozenset[str]] = {root_sha: frozenset()}
    commits: dict[str, dict[str, Setting]] = {root_sha: {}}
    for one in tried:
        done = frozenset(IS_STEP + str(number) for number in one.done_steps)
        held = steps.get(one.step.parent_sha, frozenset())
        held = held - done if one.kind == JobKind.ABLATE else held | done
        if one.kind in (JobKind.IMPROVE, JobKind.DRAFT) and not split_axes(one.axis) <= one.settings.keys():
            held |= {IS_STEP + str(one.step.experiment_id)}
        steps[one.step.sha] = held
        settings = {
            name: value
            for name, value in one.settings.items()
            if value != reference[name] and not name.startswith(IS_STEP)
        }
        commits[one.step.sha] = settings | dict.fromkeys(sorted(held), True)
    return commits


def limit_axes(commits: Mapping[str, Settings]) -> dict[str, Settings]:
    """Commits with the axes that most of them changed: the names in proposals must not decide what a fit costs."""
    counts = Counter(
        axis
        for settings in commits.values()
        for axis, value in settings.items()
        if not isinstance(value, str) or len(value) <= LONGEST_TEXT
    )
    constants = [axis for axis, _ in counts.most_common() if not axis.startswith(IS_STEP)][:MOST_CONSTANTS]
    steps = [axis for axis, _ in counts.most_common() if axis.startswith(IS_STEP)][:MOST_STEPS]
    kept = {*constants, *steps}
    return {
        sha: {
            axis: value
            for axis, value in settings.items()
            if axis in kept and (not isinstance(value, str) or len(value) <= LONGEST_TEXT)
        }
        for sha, settings in commits.items()
    }


def choose_combination(known: Known, base: Candidate, sign: float, rng: np.random.Generator) -> Assignment:
    """The assignment of a job to combine, on a base commit."""
    if base.sha not in known.commits:
        return Assignment(new_values=CHANGES)
    before, drawn = known.commits[base.sha], known.model.draw(rng)
    numbers = [axis for axis in drawn if axis in known.steps and axis not in before]
    numbers = sorted(numbers, key=lambda axis: known.model.predict({axis: True}))[:MAX_STEPS]
    after = {axis: value for axis, value in drawn.items() if not axis.startswith(IS_STEP)}
    after |= dict.fromkeys([axis for axis in before if axis.startswith(IS_STEP)] + numbers, True)
    changed = {
        axis: after.get(axis, known.reference[axis])
        for axis in known.model.values
        if not axis.startswith(IS_STEP) and not known.model.are_alike(axis, after.get(axis), before.get(axis))
    }
    effect = known.model.predict(after) - known.model.predict(before)
    return Assignment(
        steps=[known.steps[axis] for axis in numbers],
        settings=dict(list(changed.items())[:MAX_SETTINGS]),
        new_values=CHANGES,
        predicted_effect=sign * effect,
    )


def explain_combination(known: Known, asked: Assignment) -> str:
    """Why a job changes what it does, as sentences for people."""
    new = f"{count_noun(asked.new_values, 'constant')} at once to new values"
    if asked.predicted_effect is None:
        return f"No run of this commit is in the model yet: changing {new} tells of each of them."
    parts = [f"#{step.experiment_id}" for step in asked.steps] + list(asked.settings)
    shown = ", ".join(parts[:MAX_NAMED]) + (f" and {len(parts) - MAX_NAMED} more" if len(parts) > MAX_NAMED else "")
    draws = f"draws {shown} as gains over the best commit" if parts else "expects most of this commit"
    return (
        f"A linear model of {count_noun(known.model.runs, 'run')} {draws}; the sum of their effects is expected to be "
        f"{format_change(asked.predicted_effect)}. The job also moves {new}, to learn of them. Only its measurement "
        "counts."
    )


class Importance(NamedTuple):
    """A setting's part of the variance that the model explains, and the value that it expects most of: its effect
    against the `reference`, with one sd, in the metric's unit. Where that is no gain, the reference is the best.
    `effects` are those of all values, lower for better."""

    name: str
    share: float
    reference: Setting | None
    best: Setting
    effect: float
    sd: float
    values: int
    effects: Sequence[tuple[Setting, float]]


class Importances(NamedTuple):
    """The settings, the most important first; the part of all changes of code together; and the number of runs that
    all of it was learnt from."""

    found: list[Importance]
    code_share: float
    runs: int


def view_importances(session: Conn, project: Project, most: int) -> Importances | None:
    """A project's settings by importance, at most `most`; None while there are too few runs for a model."""
    known = read_model(session, project)
    return None if known is None else order_settings(known, projects.contract_of(project).objective.sign, most)


def order_settings(known: Known, sign: float, most: int) -> Importances:
    """The settings of a model by importance, at most `most`."""
    found, model = list[Importance](), known.model
    by_share = sorted(model.shares.items(), key=lambda one: -one[1])
    for name, share in [one for one in by_share if not one[0].startswith(IS_STEP)][:most]:
        every = model.list_effects(name)
        best, effect, sd = min(every, key=lambda one: one[1])
        reference = known.reference.get(name)
        effects = [*((value, mean) for value, mean, _ in every), *([] if reference is None else [(reference, 0.0)])]
        values = len(model.values[name])
        found.append(Importance(name, share, reference, best, sign * effect, sd, values, effects))
    code_share = sum(share for name, share in by_share if name.startswith(IS_STEP))
    return Importances(found, code_share, model.runs)
