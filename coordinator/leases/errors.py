"""Errors of requests about leases."""

from coordinator.http.errors import SwarmError
from shared.protocol import Versions


class LeaseUnknownError(SwarmError):
    status = 404
    code = "lease-unknown"
    title = "There is no such lease"


class LeaseForeignError(SwarmError):
    status = 403
    code = "lease-foreign"
    title = "The lease belongs to somebody else"


class LeaseTokenError(SwarmError):
    status = 403
    code = "lease-token-wrong"
    title = "The lease's token is wrong"


class LeaseEndedError(SwarmError):
    """The worker should stop drafting or heartbeating; a finished run may still be delivered."""

    status = 410
    code = "lease-ended"
    title = "The lease has ended"


class LeaseTransitionError(SwarmError):
    status = 409
    code = "lease-transition"
    title = "The lease cannot do that now"


class ProtocolUnsupportedError(SwarmError):
    """The worker gets no new job; its finished results are still accepted. The document names versions that fit."""

    status = 426
    code = "protocol-unsupported"
    title = "Worker and coordinator are of versions that do not fit"

    def __init__(self, detail: str, versions: Versions) -> None:
        super().__init__(detail, versions=versions.model_dump())


class WrongCommitError(SwarmError):
    status = 422
    code = "wrong-commit"
    title = "The result is about another commit than the lease"


class ResultUnfitError(SwarmError):
    """A result of another hardware class than its lease's; nothing was stored. `errors` names the field."""

    status = 422
    code = "result-unfit"
    title = "The result does not belong to the lease"

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail, errors=[{"where": f"body.{field}", "what": detail}])


class StepReportsWrongError(SwarmError):
    """A proposal for a job of steps must report what became of each step of the lease, and of no others."""

    status = 422
    code = "steps-not-told"
    title = "The proposal tells of other steps than the lease asks for"


class ResultConflictError(SwarmError):
    status = 409
    code = "result-conflict"
    title = "Another result was stored already"
