"""Events of the live feed."""

from enum import StrEnum

from pydantic import StrictBool

from shared.protocol import Count, Message, Number, Text, Timestamp

Scalar = StrictBool | Count | Number | Text | None
EventDetail = Scalar | list[Scalar] | dict[Text, Scalar]


class EventKind(StrEnum):
    PROJECT_CREATED = "project_created"
    LEASE_CLAIMED = "lease_claimed"
    LEASE_PROGRESSED = "lease_progressed"
    LEASE_ENDED = "lease_ended"
    RUN_STORED = "run_stored"
    BRANCH_BORN = "branch_born"
    BRANCH_MOVED = "branch_moved"
    BRANCH_PAUSED = "branch_paused"
    BRANCH_RESUMED = "branch_resumed"
    BRANCH_CHANGED = "branch_changed"
    STEPS_ADOPTED = "steps_adopted"
    SHARES_ADAPTED = "shares_adapted"
    QUARANTINE_CHANGED = "quarantine_changed"
    ANCHOR_CHANGED = "anchor_changed"
    RESULT_CONTRADICTED = "result_contradicted"
    RESULT_HELD = "result_held"
    RECORD_SET = "record_set"
    HOLDOUT_ALARM = "holdout_alarm"
    PROMOTED = "promoted"
    SESSION_IMPORTED = "session_imported"
    FINDING_REVISED = "finding_revised"
    FINDING_NOTED = "finding_noted"


class EventView(Message):
    """One thing that happened. `id` is the feed's cursor: ask for what came after it with `since`."""

    id: Count
    kind: EventKind
    project: Text | None
    data: dict[Text, EventDetail]
    created_at: Timestamp


class EventNotice(Message):
    """An event that people are told of by webhooks and mail. `event` is its id, 0 in a test message; a notice may come
    twice, with the same id."""

    event: Count
    kind: EventKind | None
    project: Text | None
    text: Text
    url: Text
    data: dict[Text, EventDetail]
    created_at: Timestamp
