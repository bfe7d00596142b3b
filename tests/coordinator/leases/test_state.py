"""The life of a lease, as pure transitions."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.leases import state
from coordinator.leases.state import LIVE, LeaseClock, TransitionError
from shared.contract import Budget
from shared.leases import LeaseState, Phase

START = datetime(2026, 1, 1, tzinfo=UTC)
BUDGET = Budget(training_seconds=300, starting_seconds=60, scoring_seconds=30)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_an_experiment_begins_with_drafting_a_measurement_ready() -> None:
    assert state.begin(True, BUDGET, START).state is LeaseState.DRAFTING
    assert state.begin(False, BUDGET, START).state is LeaseState.READY


def test_silence_ends_a_lease_after_three_heartbeats() -> None:
    clock = state.begin(False, BUDGET, START)
    expires = state.expires_at(clock, BUDGET)
    assert expires == after(180)
    assert state.effective_state(clock.state, expires, after(179)) is LeaseState.READY
    assert state.effective_state(clock.state, expires, after(180)) is LeaseState.EXPIRED


def test_heartbeats_without_progress_do_not_keep_a_training_alive() -> None:
    clock = state.renew(state.begin(False, BUDGET, START), Phase.TRAINING, 10, 0.1, after(10))
    for seconds in range(20, 120, 10):
        clock = state.renew(clock, Phase.TRAINING, 10, 0.1, after(seconds))
    assert state.expires_at(clock, BUDGET) == after(10 + 120)
    clock = state.renew(clock, Phase.TRAINING, 11, 0.1, after(120))
    assert state.expires_at(clock, BUDGET) == after(240)


def test_waiting_for_the_gpu_is_exempt_from_progress() -> None:
    clock = state.begin(False, BUDGET, START)
    for seconds in range(60, 3000, 60):
        clock = state.renew(clock, Phase.READY, 0, 0.0, after(seconds))
    assert state.expires_at(clock, BUDGET) > after(3000)


def test_a_crashed_run_is_mended_and_waits_for_the_gpu_again() -> None:
    clock = state.renew(state.begin(False, BUDGET, START), Phase.TRAINING, 10, 0.1, after(10))
    clock = state.renew(clock, Phase.READY, 0, 0.0, after(20))
    assert (clock.state, state.expires_at(clock, BUDGET)) == (LeaseState.READY, after(200))
    with pytest.raises(TransitionError, match="does not go back"):
        state.renew(clock, Phase.DRAFTING, 0, 0.0, after(30))


def test_nothing_outlives_the_deadline() -> None:
    clock = state.begin(False, BUDGET, START)
    assert clock.deadline_at == after(3600 + 2 * (60 + 300 + BUDGET.handover_seconds + 30)), (
        "an hour, the run before it, and its own"
    )
    for seconds in range(60, 5000, 60):
        clock = state.renew(clock, Phase.TRAINING, seconds, 0.5, after(seconds))
    assert state.expires_at(clock, BUDGET) == clock.deadline_at


def test_running_needs_an_accepted_proposal() -> None:
    clock = state.begin(True, BUDGET, START)
    with pytest.raises(TransitionError, match="has not been accepted"):
        state.renew(clock, Phase.TRAINING, 1, 0.0, after(1))
    clock = state.accept_proposal(clock, after(1))
    assert state.renew(clock, Phase.TRAINING, 1, 0.0, after(2)).state is LeaseState.RUNNING
    with pytest.raises(TransitionError):
        state.accept_proposal(clock, after(3))


def test_a_late_result_is_accepted_once() -> None:
    for ended in (LeaseState.RELEASED, LeaseState.EXPIRED, LeaseState.DRAFTING):
        clock = state.begin(True, BUDGET, START)
        clock = LeaseClock(**{**vars(clock), "state": ended})
        done = state.finish(clock, after(9999))
        assert done.state is LeaseState.DONE
        with pytest.raises(TransitionError):
            state.finish(done, after(10_000))


steps = st.lists(
    st.tuples(
        st.sampled_from(["beat", "accept", "again", "release", "finish"]),
        st.sampled_from(list(Phase)),
        st.floats(0, 500),
    ),
    max_size=30,
)


@given(needs_draft=st.booleans(), steps=steps)
def test_any_history_keeps_the_rules(needs_draft: bool, steps: list[tuple[str, Phase, float]]) -> None:
    clock, moment = state.begin(needs_draft, BUDGET, START), START
    for number, (action, phase, wait) in enumerate(steps):
        moment += timedelta(seconds=wait)
        before = clock
        try:
            if action == "beat":
                clock = state.renew(clock, phase, number, 0.0, moment)
            elif action == "accept":
                clock = state.accept_proposal(clock, moment)
            elif action == "again":
                clock = state.try_draft_again(clock, moment)
            elif action == "release":
                clock = state.release(clock, moment)
            else:
                clock = state.finish(clock, moment)
        except TransitionError:
            assert clock is before, "a refused transition changes nothing"
        if before.state not in LIVE:
            assert clock.state in (before.state, LeaseState.DONE), "an ended lease never lives again"
        if before.state is LeaseState.DONE:
            assert clock.state is LeaseState.DONE
        assert state.expires_at(clock, BUDGET) <= clock.deadline_at
        assert state.expires_at(clock, BUDGET) <= clock.heartbeat_at + state.TTL
