"""Accounts of volunteers, and their workers: states, notices and views."""

from enum import StrEnum

from pydantic import Field

from shared.protocol import Message, ShortText, Slug, Timestamp


class Role(StrEnum):
    """The role of an account. Maintainers give all roles but `volunteer`."""

    VOLUNTEER = "volunteer"
    MAINTAINER = "maintainer"
    RESEARCHER = "researcher"


class SignUp(Message):
    """A new volunteer; `label` says what the token is for."""

    name: Slug
    label: ShortText = "worker"


class Account(Message):
    """The account, and its token, which is shown this once."""

    volunteer: Slug
    token: str


class WorkerState(StrEnum):
    """The state that a worker last reported. Taking a job sets it to `working`."""

    WORKING = "working"
    WAITING = "waiting"  # there is nothing that it may do
    PAUSED = "paused"  # its volunteer wants the machine, or its hours are over
    FINISHING = "finishing"  # it ends after the run that is under way
    STOPPED = "stopped"


class WorkerNotice(Message):
    """A worker says what it is about to do, and why in words, which may be empty."""

    worker: ShortText
    state: WorkerState
    reason: str = Field(default="", max_length=300)


class VolunteerView(Message):
    """A volunteer, and what its workers did. `role` is `volunteer`, `maintainer` or `researcher`."""

    id: int
    name: str
    role: str
    workers: int
    runs: int
    experiments: int
    created_at: Timestamp


class WorkerView(Message):
    """A worker. `state_at` is when it said so; `last_seen_at` is renewed about once a minute while it works."""

    id: int
    name: str
    volunteer: str
    agent: str
    hardware_class: str
    state: WorkerState
    reason: str
    state_at: Timestamp
    last_seen_at: Timestamp
