"""The queue of what waits for moderators and maintainers, and readers' reports."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from shared.moderation import Explained, Reason
from shared.protocol import CLEAN, Count, Message, Page, Slug, Text, Timestamp

MAX_AT_ONCE = 100
ItemName = Annotated[str, StringConstraints(min_length=3, max_length=400), CLEAN]
"""The name of a thing in the queue: its kind, a colon, and its key."""


class QueueKind(StrEnum):
    HELD = "held"
    CONTRADICTION = "contradiction"
    NOISE = "noise"
    ACCOUNT = "account"
    BRANCH = "branch"
    REPORT = "report"
    WORKER = "worker"
    TASK = "task"


class QueueAction(StrEnum):
    """An action on a thing in the queue. `accept`, `check` (by two anchors) and `reject` decide on a held result;
    `quarantine` is of its author, or of the worker that it is about; `suspend` turns an account down."""

    ACCEPT = "accept"
    CHECK = "check"
    REJECT = "reject"
    APPROVE = "approve"
    DELETE = "delete"
    RETRACT = "retract"
    QUARANTINE = "quarantine"
    SUSPEND = "suspend"
    DISMISS = "dismiss"
    ASSIGN = "assign"


class QueueItem(Message):
    """A thing that waits. `waiting` counts what waits for it, as `waiting_for` says; the most comes first, then the
    oldest. `address` is that of its page. `state` tells what it is dismissed for: it waits again when that changes."""

    name: ItemName
    kind: QueueKind
    title: Text
    detail: Text
    project: Text | None
    author: Text | None
    address: Text
    waiting: Count
    waiting_for: Text
    opened_at: Timestamp
    state: Text
    assigned_to: Text | None
    actions: list[QueueAction]


class QueuePage(Page[QueueItem]):
    """The queue, at most the 100 of each kind that wait longest; `counts` are of each kind, up to 100."""

    counts: dict[QueueKind, Count]


class QueueRequest(Explained):
    """An action on some things of the queue at once: all of it is done, or nothing. `assignee` takes what is assigned;
    without one nobody has it any more."""

    items: Annotated[list[ItemName], Field(min_length=1, max_length=MAX_AT_ONCE)]
    action: QueueAction
    assignee: Slug | None = None


class ReportRequest(Message):
    """A reader's words to the moderators about a finding."""

    text: Reason
