"""What jobs ask for: which steps to adopt, which one to take out, which constant to tune, which axes to leave. Pure.

What is known of a step is the effect it had on its own parent, as a posterior with the sign turned so that lower is
better. Effects are drawn from it (Thompson sampling, as for parents): a step is adopted if its draw is a gain that
matters, so a doubtful step is taken along now and then, and a proven one always. The step that is taken out is the one
whose draw is worst.
"""

from collections.abc import Collection, Sequence
from random import Random
from typing import NamedTuple

from shared.experiments import MAX_STEPS, Step

MIN_TRIES = 3
"""An axis that was tried so often without a gain is one to leave."""

MAX_AVOIDED = 8


class KnownStep(NamedTuple):
    """A measured step. `axis` is what it changed, and `is_constant` whether that is a constant of the code."""

    step: Step
    effect_mean: float
    effect_sd: float
    axis: str = ""
    is_constant: bool = False


def choose_steps(known: Sequence[KnownStep], included: Collection[int], min_effect: float, rng: Random) -> list[Step]:
    """Steps to adopt, the largest gain first, at most MAX_STEPS. `included` are those that the parent has already."""
    drawn = [(_draw(one, rng), one.step) for one in known if one.step.experiment_id not in included]
    gains = sorted((effect, step.experiment_id, step) for effect, step in drawn if effect < -min_effect)
    return [step for *_, step in gains[:MAX_STEPS]]


def choose_ablation(known: Sequence[KnownStep], done: Collection[int], rng: Random) -> Step | None:
    """The step to take out: the one that most likely gained nothing. `done` are those that were taken out before."""
    drawn = [(_draw(one, rng), one.step.experiment_id, one.step) for one in known if one.step.experiment_id not in done]
    return max(drawn)[-1] if drawn else None


def choose_axis(known: Sequence[KnownStep], rng: Random) -> str | None:
    """The constant to tune: one whose change mattered most, for better or worse."""
    drawn = [(abs(_draw(one, rng)), one.axis) for one in known if one.is_constant]
    return max(drawn)[-1] if drawn else None


def choose_avoided(tries: Sequence[tuple[str, int]]) -> list[str]:
    """The axes that a stalled branch should leave: those tried most often since its last gain, at most half of them.

    `tries` are axes with how often each was tried.
    """
    often = sorted(((count, axis) for axis, count in tries if count >= MIN_TRIES), reverse=True)
    return [axis for _, axis in often[: min(MAX_AVOIDED, len(tries) // 2)]]


def _draw(one: KnownStep, rng: Random) -> float:
    return rng.gauss(one.effect_mean, one.effect_sd)
