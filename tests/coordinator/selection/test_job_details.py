"""Steps to adopt and to take out, constants to tune."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from coordinator.selection.job_details import (
    choose_ablation,
    choose_avoided,
    choose_constant,
    combine,
    is_due,
    list_fitting,
)
from coordinator.selection.step_queries import KnownStep, split_axes
from shared.experiments import MAX_STEPS

MIN_EFFECT = 0.002


def known(number: int, mean: float, sd: float = 0.001, **changes: object) -> KnownStep:
    return KnownStep(number, f"step {number}", f"{number:040x}", "0" * 40, mean, sd)._replace(**changes)


AXES = st.frozensets(st.sampled_from("abcdefgh"), min_size=1, max_size=2)
STEPS = st.lists(st.tuples(st.floats(-0.05, 0.05), st.floats(1e-6, 0.02), AXES), max_size=60).map(
    lambda effects: [known(number, mean, sd, axes=axes) for number, (mean, sd, axes) in enumerate(effects, start=1)]
)


@given(STEPS, st.integers(0, 2**32))
def test_a_combination(steps: list[KnownStep], seed: int) -> None:
    """Each step once, one for each axis, no sure loss, and no sure gain left out for which there is room."""
    taken = combine(steps, MIN_EFFECT, Random(seed))
    axes = [axis for one in taken for axis in one.axes]
    assert len(axes) == len(set(axes)) and len(taken) <= MAX_STEPS and all(one in steps for one in taken)
    assert not any(one.effect_mean - 8 * one.effect_sd > -MIN_EFFECT for one in taken)
    sure = [one for one in steps if one.effect_mean + 8 * one.effect_sd < -MIN_EFFECT]
    assert len(taken) == MAX_STEPS or all(one.axes.intersection(axes) for one in sure)


def test_the_largest_gain_comes_first() -> None:
    steps = [known(n, mean, axes=frozenset({str(n)})) for n, mean in ((1, -0.01), (2, -0.03), (3, -0.02), (4, 0.03))]
    assert [one.experiment_id for one in combine(steps, MIN_EFFECT, Random(1))] == [2, 3, 1]
    assert len(combine([known(n, -0.01, axes=frozenset({str(n)})) for n in range(40)], MIN_EFFECT, Random(1))) == 16


def test_without_a_draw_steps_that_are_expected_to_gain_are_taken() -> None:
    steps = [known(1, -0.0025, 0.004), known(2, 0.0, 0.004), known(3, -0.003, 0.004), known(4, -MIN_EFFECT / 2, 0.004)]
    assert [one.experiment_id for one in combine(steps, MIN_EFFECT, None)] == [3, 1]


def test_a_doubtful_step_is_adopted_now_and_then() -> None:
    drawn = [bool(combine([known(1, 0.0, 0.004)], MIN_EFFECT, Random(seed))) for seed in range(400)]
    assert 0.2 < sum(drawn) / 400 < 0.42  # P(N(0, 0.004) < −0.002) = 0.31


def test_a_step_fits_where_nothing_changed_its_axes_since() -> None:
    step = known(1, -0.01, axes=split_axes("DEPTH and WIDTH"))
    parent = step.parent_sha
    assert list_fitting([step], {parent: frozenset({"HEADS"})}) == [step]
    assert list_fitting([step], {parent: frozenset({"HEADS", "WIDTH"})}) == []
    assert list_fitting([step], {}) == []


def test_a_combination_is_due_when_it_promises_more_than_all_others() -> None:
    assert is_due(3.2, -0.1, [3.18, 3.15], effect_sd=0.02)
    assert not is_due(3.2, -0.06, [3.18, 3.15], effect_sd=0.02)
    assert not is_due(3.2, -0.1, [3.18, 3.11], effect_sd=0.02), "one that promises as much is under way"


def test_the_step_that_gained_least_is_taken_out_once() -> None:
    steps = [known(1, -0.02), known(2, 0.01), known(3, -0.01)]
    step = choose_ablation(steps, set(), Random(1))
    assert step is not None and step.experiment_id == 2
    step = choose_ablation(steps, {2}, Random(1))
    assert step is not None and step.experiment_id == 3
    assert choose_ablation(steps, {1, 2, 3}, Random(1)) is None


def test_the_constant_that_mattered_most_is_tuned() -> None:
    constants = [
        known(1, -0.001, constant="DEPTH"),
        known(2, 0.03, constant="WIDTH"),
        known(3, -0.09),
    ]
    assert choose_constant(constants, Random(1)) == "WIDTH"
    assert choose_constant(constants[2:], Random(1)) is None


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 20)))
def test_a_stalled_branch_leaves_its_busiest_axes_and_keeps_others(tries: dict[str, int]) -> None:
    avoided = choose_avoided(list(tries.items()))
    assert len(avoided) <= len(tries) / 2 and all(tries[axis] >= 3 for axis in avoided)
    left = [count for axis, count in tries.items() if axis not in avoided]
    assert not avoided or len(avoided) == 8 or min(tries[axis] for axis in avoided) >= sorted(left)[0]
