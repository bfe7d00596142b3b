"""Accounts of volunteers, what they contributed, and their workers: states, notices and views."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StrictBool, StringConstraints

from shared.protocol import CLEAN, Count, Message, Number, Secret, ShortText, Slug, Text, Timestamp


class Role(StrEnum):
    """The role of an account. Maintainers give all roles but `volunteer`.

    A moderator decides about results, branches and accounts; a maintainer also gives roles and names anchors.
    """

    VOLUNTEER = "volunteer"
    RESEARCHER = "researcher"
    MODERATOR = "moderator"
    MAINTAINER = "maintainer"


class TokenScope(StrEnum):
    """The use of a token. Workers' tokens lie on machines where agents run, so they carry no duties."""

    WORK = "work"
    DUTIES = "duties"  # also what the account's role allows


class SignUp(Message):
    """A new volunteer; `label` says what the token is for. `invitation` is needed where people join by invitation."""

    name: Slug
    label: ShortText = "worker"
    invitation: Secret | None = None


class Account(Message):
    """The account, and its token, which is shown this once."""

    volunteer: Slug
    token: Secret


class SignIn(Message):
    """A sign-in link's secret, or a code for a machine; `label` says what the token is for that comes for it."""

    secret: Secret
    label: ShortText = "sign-in"


class OwnAccount(Message):
    """The account that a request's token belongs to, and that token's number and scope."""

    volunteer: Slug
    role: Role
    token_id: Count
    scope: TokenScope


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
    reason: Annotated[str, Field(max_length=300), CLEAN] = ""


MAX_MESSAGE = 500
MessageText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=MAX_MESSAGE), CLEAN]


class WorkerMessage(Message):
    """A moderator's words for the volunteer, which the worker's terminal shows once. `number` rises by worker."""

    worker: Text
    number: Count
    text: Annotated[str, Field(max_length=MAX_MESSAGE), CLEAN]


class MessageReceipt(Message):
    """A worker has shown the message of this number."""

    worker: ShortText
    number: Count


class VolunteerView(Message):
    """A volunteer, and what its workers did. `role` is a `Role`."""

    id: Count
    name: Text
    role: Text
    workers: Count
    runs: Count
    experiments: Count
    created_at: Timestamp


class WorkerView(Message):
    """A worker. `state_at` is when it said so; `last_seen_at` is renewed about once a minute while it works. `version`
    is that of its program, empty where it is not known. One that `is_paused` or `is_quarantined` gets no jobs."""

    id: Count
    name: Text
    volunteer: Text
    agent: Text
    hardware_class: Text
    version: Text = ""
    is_anchor: StrictBool = False
    is_paused: StrictBool = False
    is_quarantined: StrictBool = False
    state: WorkerState
    reason: Text
    state_at: Timestamp
    last_seen_at: Timestamp


class LeaderboardPeriod(StrEnum):
    """The time that a leaderboard covers: this calendar month in UTC, or all time."""

    MONTH = "month"
    ALL = "all"


class LeaderboardOrder(StrEnum):
    """The measure by which a leaderboard is ordered."""

    GAIN = "gain"
    REPLICATIONS = "replications"
    HOURS = "hours"


class LeaderboardRow(Message):
    """A volunteer's contribution. `rank` is 0 outside of a list. `gain_percent` sums the gains of its `verified`
    commits, each in percent of the metric that it started from; `gain_sd_percent` is the sum's sd, as if they were
    independent. Hours are wall time of runs that count."""

    rank: Count
    name: Text
    gain_percent: Number
    gain_sd_percent: Number
    verified: Count
    runs: Count
    experiments: Count
    replications: Count
    gpu_hours: Number
    cpu_hours: Number


class Leaderboard(Message):
    """The volunteers who contributed most, at most 100, of a project or of all; at most about a minute old."""

    period: LeaderboardPeriod
    order: LeaderboardOrder
    project: Text | None
    counted_at: Timestamp
    items: list[LeaderboardRow]
