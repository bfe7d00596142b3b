"""worker/loop/heartbeat.py"""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from shared.experiments import JobKind
from shared.leases import BaseCommit, GrantedLease, Heartbeat, HeartbeatReply, LeaseState, Phase
from shared.protocol import now
from shared.workers import MessageReceipt, WorkerMessage
from tests.worker.agents.tasks import sha_of
from tests.worker.workers import wait_until
from worker.api.client import AccountStopped, ClientError, Rejected, Unauthorized, Unreachable
from worker.loop.heartbeat import HeartbeatDied, LeaseHeartbeat, MessageReader
from worker.runs.spec import RunProgress

TRAINING = RunProgress(Phase.TRAINING, 10, 3.1, 0.25)


def make_lease(kind: JobKind = JobKind.IMPROVE, heartbeat_seconds: float = 0.02) -> GrantedLease:
    return GrantedLease(
        id=uuid4(),
        token="t",
        project="tiny",
        root_sha=sha_of("root"),
        kind=kind,
        base=BaseCommit(sha=sha_of("root"), files={}, posterior=None),
        branch="main",
        seed=1,
        why="",
        context="",
        trials=[],
        issued_at=now(),
        expires_at=now() + timedelta(seconds=180),
        deadline_at=now() + timedelta(hours=1),
        heartbeat_seconds=heartbeat_seconds,
    )


class Keeper:
    """Answers heartbeats with what it is given, the last answer for ever."""

    def __init__(self, *answers: LeaseState | Exception) -> None:
        self.answers = list(answers)
        self.beats: list[Heartbeat] = []

    def heartbeat(self, lease_id: UUID, beat: Heartbeat) -> HeartbeatReply:
        self.beats.append(beat)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return HeartbeatReply(state=answer, expires_at=now())


@contextmanager
def beating(keeper: Keeper, lease: GrantedLease, messages: MessageReader | None = None) -> Iterator[LeaseHeartbeat]:
    heartbeat = LeaseHeartbeat(keeper, lease, messages)  # type: ignore[arg-type]
    heartbeat.start()
    try:
        yield heartbeat
    finally:
        heartbeat.stop()
    heartbeat.check()


@pytest.mark.parametrize(("kind", "first"), [(JobKind.IMPROVE, Phase.DRAFTING), (JobKind.REPLICATE, Phase.READY)])
def test_beats_with_the_progress_of_the_job(kind: JobKind, first: Phase) -> None:
    keeper = Keeper(LeaseState.RUNNING)
    with beating(keeper, make_lease(kind)) as heartbeat:
        wait_until(lambda: len(keeper.beats) >= 2)
        heartbeat.update(TRAINING)
        wait_until(lambda: keeper.beats[-1].phase is Phase.TRAINING)
    assert keeper.beats[0].phase is first
    assert (keeper.beats[-1].step, keeper.beats[-1].loss, keeper.beats[-1].share) == (10, 3.1, 0.25)
    count = len(keeper.beats)
    time.sleep(0.1)
    assert len(keeper.beats) <= count + 1  # one may have been on its way


def test_a_new_phase_is_told_at_once() -> None:
    keeper = Keeper(LeaseState.RUNNING)
    with beating(keeper, make_lease(heartbeat_seconds=60)) as heartbeat:
        heartbeat.update(TRAINING)
        wait_until(lambda: [b.phase for b in keeper.beats] == [Phase.TRAINING])
        heartbeat.update(RunProgress(Phase.TRAINING, 11, 3.0, 0.3))
        time.sleep(0.05)
        assert len(keeper.beats) == 1


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_run_that_diverges_still_beats(loss: float) -> None:
    keeper = Keeper(LeaseState.RUNNING)
    with beating(keeper, make_lease()) as heartbeat:
        heartbeat.update(RunProgress(Phase.TRAINING, 10, loss, 0.25))
        wait_until(lambda: bool(keeper.beats) and keeper.beats[-1].phase is Phase.TRAINING)
    assert keeper.beats[-1].loss is None


@pytest.mark.parametrize("error", [Unreachable("gone"), Rejected(409, "lease-transition", "not yet")])
def test_an_error_that_may_pass_is_tried_again(error: ClientError) -> None:
    keeper = Keeper(error, error, LeaseState.RUNNING)
    with beating(keeper, make_lease()) as heartbeat:
        wait_until(lambda: len(keeper.beats) >= 4)
        assert heartbeat.lost is None


@pytest.mark.parametrize(
    "answer",
    [Rejected(410, "lease-ended", "It is expired"), AccountStopped("spam"), LeaseState.EXPIRED, LeaseState.RELEASED],
)
def test_a_lost_lease_is_remembered_and_beats_no_more(answer: LeaseState | Exception) -> None:
    keeper = Keeper(LeaseState.RUNNING, answer)
    with beating(keeper, make_lease()) as heartbeat:
        wait_until(lambda: heartbeat.lost is not None)
        time.sleep(0.1)
        heartbeat.update(TRAINING)  # no error: the run is worth finishing
    assert len(keeper.beats) == 2


def test_a_refused_token_is_said_once_and_may_be_replaced() -> None:
    refused = Unauthorized("This token was revoked.")
    keeper, shown = Keeper(refused, refused, LeaseState.RUNNING), list[str]()
    reader = MessageReader(Coordinator(), shown.append)  # type: ignore[arg-type]
    with beating(keeper, make_lease(), reader) as heartbeat:
        wait_until(lambda: len(keeper.beats) >= 3)
        assert heartbeat.lost is None
    assert shown == [f"{refused} The run under way is finished, and its result kept until then."]


def test_a_thread_that_dies_is_noticed() -> None:
    with (
        pytest.raises(HeartbeatDied, match="a bug"),
        beating(Keeper(RuntimeError("a bug")), make_lease()) as heartbeat,
    ):
        wait_until(lambda: heartbeat.update(TRAINING) is not None)  # it says nothing until it raises


def test_a_beat_that_hangs_does_not_hold_up_the_job() -> None:
    release, answered = threading.Event(), threading.Event()

    class Hanging(Keeper):
        def heartbeat(self, lease_id: UUID, beat: Heartbeat) -> HeartbeatReply:
            self.beats.append(beat)
            release.wait(120)
            answered.set()
            return super().heartbeat(lease_id, beat)

    keeper = Hanging(LeaseState.RUNNING)
    with beating(keeper, make_lease()):
        wait_until(lambda: len(keeper.beats) == 1)
    assert not answered.is_set()
    release.set()


class Coordinator:
    """Takes receipts of messages, all but the first."""

    def __init__(self) -> None:
        self.receipts: list[MessageReceipt] = []

    def confirm_message(self, receipt: MessageReceipt) -> None:
        self.receipts.append(receipt)
        if len(self.receipts) == 1:
            raise Unreachable("not now")


def test_a_message_is_shown_once_on_one_line_and_confirmed_until_that_arrives() -> None:
    coordinator, shown = Coordinator(), list[str]()
    reader = MessageReader(coordinator, shown.append)  # type: ignore[arg-type]
    first = WorkerMessage(worker="w1", number=1, text="Please\nupdate\r\x1b[2J today.")
    for message in (first, first, WorkerMessage(worker="w1", number=2, text="Thanks."), first):
        reader.read(message)
    assert shown == ["Message from the moderators: Please update [2J today.", "Message from the moderators: Thanks."]
    assert [receipt.number for receipt in coordinator.receipts] == [1, 1, 2, 1]
