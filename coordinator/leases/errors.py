"""Errors of requests about leases."""

from coordinator.http.errors import SwarmError
from shared.protocol import Versions


class LeaseUnknownError(SwarmError, status=404, title="There is no such lease"):
    pass


class LeaseForeignError(SwarmError, status=403, title="The lease belongs to somebody else"):
    pass


class LeaseTokenError(SwarmError, status=403, code="lease-token-wrong", title="The lease's token is wrong"):
    pass


class LeaseEndedError(SwarmError, status=410, title="The lease has ended"):
    """The worker should stop drafting or heartbeating; a finished run may still be delivered."""


class LeaseTransitionError(SwarmError, status=409, title="The lease cannot do that now"):
    pass


class ProtocolUnsupportedError(SwarmError, status=426, title="Worker and coordinator are of versions that do not fit"):
    """The worker gets no new job; its finished results are still accepted. The document names versions that fit."""

    def __init__(self, detail: str, versions: Versions) -> None:
        super().__init__(detail, versions=versions.model_dump())


class WrongCommitError(SwarmError, status=422, title="The result is about another commit than the lease"):
    pass


class ResultUnfitError(SwarmError, status=422, title="The result does not belong to the lease"):
    """A result of another hardware class than its lease's; nothing was stored. `errors` names the field."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail, errors=[{"where": f"body.{field}", "what": detail}])


class StepReportsWrongError(
    SwarmError, status=422, code="steps-not-told", title="The proposal tells of other steps than the lease asks for"
):
    """A proposal for a job of steps must report what became of each step of the lease, and of no others."""


class ResultConflictError(SwarmError, status=409, title="Another result was stored already"):
    pass
