"""worker/loop/outbox.py"""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from uuid import UUID, uuid4

import pytest

from shared.findings import FindingDraft
from shared.leases import HeartbeatReply, LeaseState, OfflineLease, ResultReply, ResultUpload
from shared.protocol import now
from tests.support.messages import HARDWARE, make_commit, make_proposal, make_run
from tests.worker.agents.tasks import sha_of
from tests.worker.small_disk import run_on_small_disk
from worker.api.client import ClientError, Rejected, Unauthorized, UnexpectedReply, Unreachable
from worker.loop.outbox import DamagedFile, DeliveredResult, Entry, ForeignResult, Outbox, RejectedResult


class Coordinator:
    """Acknowledges, or does what it is told."""

    def __init__(self, **errors: ClientError) -> None:
        self.got: list[UUID] = []
        self.own: list[UUID] = []
        self.errors = errors

    def register_own(self, lease_id: UUID, own: OfflineLease) -> HeartbeatReply:
        self.own.append(lease_id)
        return HeartbeatReply(state=LeaseState.EXPIRED, expires_at=own.issued_at)

    def upload_result(self, lease_id: UUID, upload: ResultUpload) -> ResultReply:
        error = self.errors.get(str(upload.run.seed)) or self.errors.get(f"_{upload.run.seed}")
        if error is not None:
            raise error
        self.got.append(upload.run.id)
        return ResultReply(run_id=1, run_uuid=upload.run.id, experiment_id=None, posterior=None, url="/runs/1")


def make_entry(seed: int = 1, commit: str = "x") -> Entry:
    return Entry(project="tiny", lease_id=uuid4(), upload=ResultUpload(run=make_run(sha_of(commit), seed=seed)))


def make_child(parent_sha: str, seed: int) -> Entry:
    commit = make_commit(parent_sha, {}, {"train.py": f"SEED = {seed}\n"})
    finding = FindingDraft(claim="It helps, on one run.", agent="scripted")
    run = make_run(commit.sha, seed=seed)
    upload = ResultUpload(run=run, commit=commit, proposal=make_proposal(), finding=finding)
    return Entry(project="tiny", lease_id=uuid4(), upload=upload)


def make_family() -> tuple[list[Entry], list[Entry]]:
    """Results: the first, and what needs its commit; and others."""
    first = make_child(sha_of("x"), 2)
    child = make_child(first.upload.run.commit_sha, 3)
    measurement = Entry(
        project="tiny", lease_id=uuid4(), upload=ResultUpload(run=make_run(first.upload.run.commit_sha, seed=4))
    )
    grandchild = make_child(child.upload.run.commit_sha, 5)
    return [first, child, measurement, grandchild], [make_child(sha_of("x"), 6), make_entry(7), make_entry(8)]


def test_a_result_that_waits_for_its_finding_keeps_back_only_what_needs_it(tmp_path: Path) -> None:
    outbox, coordinator = Outbox(tmp_path), Coordinator()
    family, others = make_family()
    outbox.put(make_entry(), held=True)  # a measurement: no commit waits for it
    path = outbox.put(family[0], held=True)
    for entry in (*family[1:], *others):
        outbox.put(entry)
    assert [h.entry for h in outbox.deliver(coordinator) if isinstance(h, DeliveredResult)] == others
    outbox.release(path)
    assert [h.entry for h in outbox.deliver(coordinator) if isinstance(h, DeliveredResult)] == family


def test_delivers_in_the_order_of_finishing_and_forgets_what_is_acknowledged(tmp_path: Path) -> None:
    entries = [make_entry() for _ in range(12)]
    for entry in entries:
        Outbox(tmp_path).put(entry)  # each time as after a restart
    coordinator = Coordinator()
    outbox = Outbox(tmp_path)
    assert outbox.leases() == [entry.lease_id for entry in entries]
    handled = list(outbox.deliver(coordinator))
    assert [h.entry for h in handled if isinstance(h, DeliveredResult)] == entries
    assert coordinator.got == [entry.upload.run.id for entry in entries]
    assert len(outbox) == 0
    assert list(outbox.deliver(coordinator)) == []


def test_a_job_of_the_workers_own_is_told_of_before_its_result(tmp_path: Path) -> None:
    own = OfflineLease(
        token="t" * 20, worker="w1", agent="search", hardware=HARDWARE, project="tiny", base_sha=sha_of("b"), seed=1,
        issued_at=now(),
    )  # fmt: skip
    given, made = make_entry(), make_entry().model_copy(update={"own": own})
    for entry in (given, made):
        Outbox(tmp_path).put(entry)
    coordinator = Coordinator()
    handled = list(Outbox(tmp_path).deliver(coordinator))
    assert [h.entry for h in handled if isinstance(h, DeliveredResult)] == [given, made]
    assert coordinator.own == [made.lease_id]


@pytest.mark.parametrize("error", [Unreachable("gone"), Unauthorized("who?"), UnexpectedReply("a hotel")])
def test_an_error_that_may_pass_keeps_that_result_and_those_after_it(tmp_path: Path, error: ClientError) -> None:
    outbox = Outbox(tmp_path)
    for seed in (1, 2, 3):
        outbox.put(make_entry(seed))
    with pytest.raises(type(error)):
        list(outbox.deliver(Coordinator(_2=error)))
    assert len(outbox) == 2
    assert len(list(outbox.deliver(Coordinator()))) == 2


def test_a_refused_result_is_set_aside_with_the_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for seed in (1, 2, 3):
        outbox.put(make_entry(seed))
    handled = list(outbox.deliver(Coordinator(_2=Rejected(422, "wrong-commit", "Another commit"))))
    assert [type(h) for h in handled] == [DeliveredResult, RejectedResult, DeliveredResult]
    refused = handled[1]
    assert isinstance(refused, RejectedResult)
    assert Entry.model_validate_json(refused.path.read_bytes()) == refused.entry
    assert refused.path.parent == outbox.rejected
    assert "wrong-commit" in refused.path.with_suffix(".reason.txt").read_text()
    assert len(outbox) == 0


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"project": "tiny"}', b"null"])
def test_a_damaged_file_is_set_aside_and_the_rest_goes_on(tmp_path: Path, content: bytes) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(make_entry()).write_bytes(content)
    outbox.put(make_entry())
    assert len(outbox.leases()) == 1
    damaged, delivered = outbox.deliver(Coordinator())
    assert isinstance(damaged, DamagedFile) and isinstance(delivered, DeliveredResult)
    assert damaged.path.read_bytes() == content
    assert damaged.path.with_suffix(".reason.txt").read_text().strip()


def test_numbers_go_on_after_what_was_rejected_or_damaged(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    first = outbox.put(make_entry(2))
    list(outbox.deliver(Coordinator(_2=Rejected(422, "x", "y"))))
    second = outbox.put(make_entry(2))
    list(outbox.deliver(Coordinator(_2=Rejected(422, "x", "y"))))
    assert first.name != second.name
    assert len(list(outbox.rejected.glob("*.json"))) == 2


_WRITER = """
import sys
from pathlib import Path
from threading import Event
from tests.worker.loop.test_outbox import make_entry
from worker.loop.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    entry = make_entry()
    outbox.put(entry)
    print(entry.upload.run.id, flush=True)
"""


def test_what_was_put_survives_kill_9_at_any_moment(tmp_path: Path) -> None:
    promised: list[str] = []
    for attempt in range(4):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        promised += [process.stdout.readline().strip() for _ in range(2)]
        time.sleep(random.Random(attempt).random() * 0.1)
        os.kill(process.pid, signal.SIGKILL)
        promised += [line.strip() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        process.wait()
        process.stdout.close()
    coordinator = Coordinator()
    handled = list(Outbox(tmp_path).deliver(coordinator))
    assert all(isinstance(h, DeliveredResult) for h in handled)
    got = [str(run_id) for run_id in coordinator.got]
    assert len(promised) > 4
    assert [run_id for run_id in got if run_id in set(promised)] == promised  # all of them, in order
    assert len(got) - len(promised) <= 4  # at most the one that each process had stored but not yet told of
    assert not list(tmp_path.glob("*.tmp"))


def test_a_full_disk_loses_no_result(tmp_path: Path) -> None:
    """The first takes the reserve, the rest wait in memory; a process that comes later finds what reached the disk."""
    said = run_on_small_disk(
        tmp_path,
        """
        from tests.worker.loop.test_outbox import Coordinator, make_entry
        from worker.loop.outbox import NoRoom, Outbox

        outbox = Outbox(DISK / "outbox")
        outbox.make_room()
        fill()
        entries = [make_entry() for _ in range(3)]
        outbox.put(entries[0])
        print("in the reserve:", outbox.unsaved, [entry.name for entry in DISK.glob("outbox/reserve")])
        fill()
        for entry in entries[1:]:
            outbox.put(entry)
        in_order = outbox.leases() == [entry.lease_id for entry in entries]
        print("in memory:", outbox.unsaved, "waiting:", len(outbox), "in order:", in_order)
        try:
            outbox.make_room()
        except NoRoom as error:
            print(error.strerror)
        print("found by another process:", Outbox(DISK / "outbox").leases() == [entries[0].lease_id])
        coordinator = Coordinator()
        delivered = outbox.deliver(coordinator)
        next(delivered)
        next(delivered)
        in_order = coordinator.got == [entry.upload.run.id for entry in entries[:2]]
        print("delivered:", in_order, "unsaved:", outbox.unsaved)
        make_room()
        outbox.make_room()
        print("unsaved:", outbox.unsaved, "on the disk:", Outbox(DISK / "outbox").leases() == [entries[2].lease_id])
        """,
    )
    assert said == [
        "in the reserve: 0 []",
        "in memory: 2 waiting: 3 in order: True",
        "2 results do not fit on the disk: free some space",
        "found by another process: True",
        "delivered: True unsaved: 1",
        "unsaved: 0 on the disk: True",
    ]


def test_without_room_for_a_result_no_job_is_begun(tmp_path: Path) -> None:
    said = run_on_small_disk(
        tmp_path,
        """
        from worker.loop.outbox import NoRoom, Outbox

        outbox = Outbox(DISK / "outbox")
        fill()
        try:
            outbox.make_room()
        except NoRoom as error:
            print(error.strerror, list(DISK.glob("outbox/reserve")))
        """,
    )
    assert said == ["the disk is full: free at least 8 MiB []"]


def test_what_belongs_to_another_account_waits_for_its_token(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for seed in (1, 2, 3):
        outbox.put(make_entry(seed))
    coordinator = Coordinator(_2=Rejected(403, "lease-foreign", "Not yours"))
    handled = list(outbox.deliver(coordinator))
    assert [type(h) for h in handled] == [DeliveredResult, ForeignResult, DeliveredResult]
    assert len(outbox) == 1 and outbox.leases() == []
    assert list(outbox.deliver(coordinator)) == []  # told once
    family, _ = make_family()  # its first has seed 2
    for entry in family:
        outbox.put(entry)
    for told in (1, 0):
        assert [type(h) for h in outbox.deliver(coordinator)] == told * [ForeignResult]
    late = list(Outbox(tmp_path).deliver(Coordinator()))
    assert [h.entry.upload.run.seed for h in late if isinstance(h, DeliveredResult)] == [2, 2, 3, 4, 5]


def test_two_threads_neither_report_a_full_disk_nor_lose_the_reserve(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.make_room()
    entries = [make_entry(seed) for seed in range(150)]
    unsaved, ended = [0], Event()

    def repair() -> None:
        while not ended.is_set():
            unsaved.append(outbox.unsaved)
            outbox.save_all()

    with ThreadPoolExecutor(2) as threads:
        repairs = [threads.submit(repair) for _ in range(2)]
        for entry in entries:
            outbox.put(entry)
            unsaved.append(outbox.unsaved)
        ended.set()
    for task in repairs:
        task.result()
    assert max(unsaved) == 0
    assert (tmp_path / "reserve").exists()
    assert outbox.leases() == [entry.lease_id for entry in entries]
