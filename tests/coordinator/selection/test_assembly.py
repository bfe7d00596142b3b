"""What is adopted, taken out and tuned."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from coordinator.selection.assembly import KnownStep, choose_ablation, choose_avoided, choose_axis, choose_steps
from shared.experiments import MAX_STEPS, Step

MIN_EFFECT = 0.002


def known(number: int, mean: float, sd: float = 0.001, **changes: object) -> KnownStep:
    step = Step(experiment_id=number, title=f"step {number}", sha=f"{number:040x}", parent_sha="0" * 40)
    return KnownStep(step, mean, sd)._replace(**changes)


STEPS = st.lists(st.tuples(st.floats(-0.05, 0.05), st.floats(1e-6, 0.02)), max_size=60).map(
    lambda effects: [known(number, mean, sd) for number, (mean, sd) in enumerate(effects, start=1)]
)


@given(STEPS, st.sets(st.integers(1, 60)), st.integers(0, 2**32))
def test_steps_to_adopt(steps: list[KnownStep], included: set[int], seed: int) -> None:
    """None twice, none that is there already, all that are surely gains while there is room, and no sure loss."""
    chosen = [step.experiment_id for step in choose_steps(steps, included, MIN_EFFECT, Random(seed))]
    assert len(set(chosen)) == len(chosen) <= MAX_STEPS and not included.intersection(chosen)
    sure = {s.step.experiment_id for s in steps if s.effect_mean + 8 * s.effect_sd < -MIN_EFFECT} - included
    losses = {s.step.experiment_id for s in steps if s.effect_mean - 8 * s.effect_sd > -MIN_EFFECT}
    assert not losses.intersection(chosen)
    assert sure <= set(chosen) or len(chosen) == MAX_STEPS


def test_the_largest_gain_comes_first() -> None:
    steps = [known(1, -0.01), known(2, -0.03), known(3, -0.02), known(4, 0.03)]
    assert [s.experiment_id for s in choose_steps(steps, set(), MIN_EFFECT, Random(1))] == [2, 3, 1]


def test_a_doubtful_step_is_adopted_now_and_then() -> None:
    drawn = [bool(choose_steps([known(1, 0.0, 0.004)], set(), MIN_EFFECT, Random(seed))) for seed in range(400)]
    assert 0.2 < sum(drawn) / 400 < 0.42  # P(N(0, 0.004) < −0.002) = 0.31


def test_the_step_that_gained_least_is_taken_out_once() -> None:
    steps = [known(1, -0.02), known(2, 0.01), known(3, -0.01)]
    step = choose_ablation(steps, set(), Random(1))
    assert step is not None and step.experiment_id == 2
    step = choose_ablation(steps, {2}, Random(1))
    assert step is not None and step.experiment_id == 3
    assert choose_ablation(steps, {1, 2, 3}, Random(1)) is None


def test_the_constant_that_mattered_most_is_tuned() -> None:
    constants = [
        known(1, -0.001, axis="DEPTH", is_constant=True),
        known(2, 0.03, axis="WIDTH", is_constant=True),
        known(3, -0.09, axis="the shape of the loss"),
    ]
    assert choose_axis(constants, Random(1)) == "WIDTH"
    assert choose_axis(constants[2:], Random(1)) is None


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 20)))
def test_a_stalled_branch_leaves_its_busiest_axes_and_keeps_others(tries: dict[str, int]) -> None:
    avoided = choose_avoided(list(tries.items()))
    assert len(avoided) <= len(tries) / 2 and all(tries[axis] >= 3 for axis in avoided)
    left = [count for axis, count in tries.items() if axis not in avoided]
    assert not avoided or len(avoided) == 8 or min(tries[axis] for axis in avoided) >= sorted(left)[0]
