"""The number of examples that a property test draws: few in the gate, many in the nightly profile of hypothesis."""

from hypothesis import settings

GATE, NIGHTLY = "gate", "explore"


def register_profiles() -> None:
    """The gate draws the same examples each time. No example is timed: a busy machine is not a fault."""
    settings.register_profile(GATE, deadline=None, max_examples=30, derandomize=True)
    settings.register_profile(NIGHTLY, deadline=None, max_examples=3000)
    settings.load_profile(GATE)


def choose_examples(gate: int, nightly: int) -> int:
    """The number for a test whose examples are costly."""
    return nightly if settings.get_current_profile_name() == NIGHTLY else gate
