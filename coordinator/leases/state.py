"""The life of a lease as pure transitions (docs/architecture.md). Nobody else decides a lease's state or its expiry.

    (nothing) ──claim──► DRAFTING ──proposal accepted──► READY ◄──► RUNNING ──► REPORTING ──result──► DONE
                            └── time runs out, or given back ──► EXPIRED or RELEASED

A job that measures an existing commit has nothing to draft and begins READY. A run that crashed is mended, and waits
for its worker's device again. EXPIRED is never written by a timer: a lease is expired when its `expires_at` lies
behind. It is written where something is given away because of that, so that a clock which goes back, or another
replica's, does not bring the lease back to life.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.contract import Budget
from shared.leases import LeaseState, Phase

HEARTBEAT_SECONDS = 60.0
TTL = timedelta(seconds=180)
"""Three heartbeats: two may be lost."""

TRAINING_CAP = timedelta(seconds=120)
WAITING_ALLOWANCE = timedelta(hours=1)
"""How long a job may in all be drafted, wait and be delivered, beyond two runs: the one before it on its worker's
device, and its own."""

LIVE = frozenset({LeaseState.DRAFTING, LeaseState.READY, LeaseState.RUNNING, LeaseState.REPORTING})

STATE_OF_PHASE = {
    Phase.DRAFTING: LeaseState.DRAFTING,
    Phase.READY: LeaseState.READY,
    Phase.STARTING: LeaseState.RUNNING,
    Phase.TRAINING: LeaseState.RUNNING,
    Phase.SCORING: LeaseState.RUNNING,
    Phase.REPORTING: LeaseState.REPORTING,
}
_ORDER = [LeaseState.DRAFTING, LeaseState.READY, LeaseState.RUNNING, LeaseState.REPORTING]


class TransitionError(Exception):
    """The lease cannot go where it was asked to go; the message says why."""


@dataclass(frozen=True)
class LeaseClock:
    """All that a lease's state and expiry depend on. `progressed_at` is when step, share or phase last changed."""

    state: LeaseState
    phase: Phase
    step: int
    share: float
    phase_started_at: datetime
    heartbeat_at: datetime
    progressed_at: datetime
    deadline_at: datetime


def begin(needs_draft: bool, budget: Budget, now: datetime, before: Budget | None = None) -> LeaseClock:
    """A new lease. The run `before` it on its worker's device may have another budget."""
    phase = Phase.DRAFTING if needs_draft else Phase.READY
    longest = budget.longest_run_seconds + (before or budget).longest_run_seconds
    deadline = now + WAITING_ALLOWANCE + timedelta(seconds=longest)
    return LeaseClock(STATE_OF_PHASE[phase], phase, 0, 0.0, now, now, now, deadline)


def begin_expired(issued_at: datetime, now: datetime) -> LeaseClock:
    """The lease of a job that a worker gave itself while nobody could be asked: nothing but its late result is due."""
    began = min(issued_at, now)
    return LeaseClock(LeaseState.EXPIRED, Phase.REPORTING, 0, 0.0, began, began, began, now)


def expires_at(clock: LeaseClock, budget: Budget) -> datetime:
    """When the lease ends unless something is heard: the earliest of heartbeat, progress and deadline."""
    ends = [clock.heartbeat_at + TTL, clock.deadline_at]
    if clock.phase == Phase.DRAFTING:
        ends.append(clock.progressed_at + timedelta(seconds=budget.drafting_seconds))
    elif clock.phase == Phase.STARTING:
        ends.append(clock.phase_started_at + timedelta(seconds=budget.starting_seconds) + TTL)
    elif clock.phase == Phase.TRAINING:
        ends.append(clock.progressed_at + TRAINING_CAP)
    elif clock.phase == Phase.SCORING:
        ends.append(clock.phase_started_at + timedelta(seconds=budget.scoring_seconds) + TTL)
    return min(ends)


def effective_state(state: LeaseState, expires: datetime, now: datetime) -> LeaseState:
    """The state that counts at a moment: a live lease whose time is up is EXPIRED."""
    return LeaseState.EXPIRED if state in LIVE and expires <= now else state


def renew(clock: LeaseClock, phase: Phase, step: int, share: float, now: datetime) -> LeaseClock:
    """After a heartbeat. Raises TransitionError for an ended lease and for a step back or past the proposal."""
    if clock.state not in LIVE:
        raise TransitionError(f"the lease is {clock.state}")
    state = STATE_OF_PHASE[phase]
    is_repair = clock.state == LeaseState.RUNNING and state == LeaseState.READY
    if _ORDER.index(state) < _ORDER.index(clock.state) and not is_repair:
        raise TransitionError(f"a lease that is {clock.state} does not go back to {state}")
    if clock.state == LeaseState.DRAFTING and state != LeaseState.DRAFTING:
        raise TransitionError("the proposal has not been accepted yet")
    new_phase = phase is not clock.phase
    progressed = new_phase or step != clock.step or share != clock.share
    return replace(
        clock,
        state=state,
        phase=phase,
        step=step,
        share=share,
        heartbeat_at=now,
        phase_started_at=now if new_phase else clock.phase_started_at,
        progressed_at=now if progressed else clock.progressed_at,
    )


def accept_proposal(clock: LeaseClock, now: datetime) -> LeaseClock:
    """After the proposal was accepted. Raises TransitionError where there is nothing to draft any more."""
    if clock.state != LeaseState.DRAFTING:
        raise TransitionError(f"a lease that is {clock.state} takes no proposal")
    return _enter(clock, LeaseState.READY, Phase.READY, now)


def try_draft_again(clock: LeaseClock, now: datetime) -> LeaseClock:
    """After a proposal was turned down: the agent drafts again, which counts as progress."""
    if clock.state != LeaseState.DRAFTING:
        raise TransitionError(f"a lease that is {clock.state} takes no proposal")
    return replace(clock, heartbeat_at=now, progressed_at=now)


def release(clock: LeaseClock, now: datetime) -> LeaseClock:
    """After the job was given back. Raises TransitionError if it has ended already."""
    if clock.state not in LIVE:
        raise TransitionError(f"the lease is {clock.state}")
    return replace(clock, state=LeaseState.RELEASED, heartbeat_at=now)


def expire(clock: LeaseClock) -> LeaseClock:
    """After its time ran out, for good. Raises TransitionError if it has ended already."""
    if clock.state not in LIVE:
        raise TransitionError(f"the lease is {clock.state}")
    return replace(clock, state=LeaseState.EXPIRED)


def finish(clock: LeaseClock, now: datetime) -> LeaseClock:
    """After a result was stored: whatever the state was before, a first result is accepted whenever it comes."""
    if clock.state == LeaseState.DONE:
        raise TransitionError("the lease has its result")
    return _enter(clock, LeaseState.DONE, Phase.REPORTING, now)


def _enter(clock: LeaseClock, state: LeaseState, phase: Phase, now: datetime) -> LeaseClock:
    return replace(clock, state=state, phase=phase, phase_started_at=now, heartbeat_at=now, progressed_at=now)
