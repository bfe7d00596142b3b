"""What jobs ask for: which steps to adopt, which one to take out, which constant to tune, which axes to leave. Pure.

What is known of a step is the effect it had on its own parent, as a posterior with the sign turned so that lower is
better. Effects are drawn from it (Thompson sampling, as for parents): a step is adopted if its draw is a gain that
matters, so a doubtful step is taken along now and then, and a proven one always. The step that is taken out is the one
whose draw is worst. Why gains of all lines are combined: docs/decisions/0010.
"""

from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import NamedTuple

from shared.experiments import MAX_STEPS, Step

AND = " and "
"""What stands between several axes of one experiment."""

MIN_TRIES = 3
"""An axis that was tried so often without a gain is one to leave."""

MAX_AVOIDED = 8


class KnownStep(NamedTuple):
    """A measured step. `axes` are what it changed; `constant` is the one constant of the code that it changed."""

    experiment_id: int
    title: str
    sha: str
    parent_sha: str
    effect_mean: float
    effect_sd: float
    axes: frozenset[str] = frozenset()
    constant: str | None = None

    @property
    def step(self) -> Step:
        """As jobs tell of it."""
        return Step(experiment_id=self.experiment_id, title=self.title, sha=self.sha, parent_sha=self.parent_sha)


def split_axes(text: str) -> frozenset[str]:
    """The axes that an experiment names."""
    return frozenset(text.split(AND))


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
