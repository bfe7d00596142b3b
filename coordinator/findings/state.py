"""A finding's state. Pure: nobody else assigns it."""

from shared.findings import FindingState, NoteKind

_AFTER = {
    (FindingState.PUBLISHED, NoteKind.RETRACTION): FindingState.RETRACTED,
    (FindingState.RETRACTED, NoteKind.RESTORATION): FindingState.PUBLISHED,
    (FindingState.PUBLISHED, NoteKind.NOTE): FindingState.PUBLISHED,
    (FindingState.RETRACTED, NoteKind.NOTE): FindingState.RETRACTED,
}


class FindingTransitionError(Exception):
    """A step that a finding in this state cannot take."""


def after_note(state: FindingState, kind: NoteKind) -> FindingState:
    """The state after something was written beside a finding. Raises TransitionError."""
    if (state, kind) not in _AFTER:
        raise FindingTransitionError(f"a finding that is {state} takes no {kind}")
    return _AFTER[state, kind]
