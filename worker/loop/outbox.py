"""The outbox: a finished result is on disk before the first attempt to deliver it, and until it is acknowledged.

    outbox/<number>-<run id>.json   waiting, in the order in which they were finished: parents before children
    outbox/rejected/                refused by the coordinator, each with a `.reason.txt` beside it
    outbox/damaged/                 files that cannot be read (a damaged disk)
    outbox/reserve                  room on the disk, kept free for the results of jobs that are under way

One process owns an outbox (worker/lock.py). A file is written under another name, flushed to the disk, then renamed:
whenever the process is killed, a result is wholly there or not at all. A result may be held back for better words;
one that is held when the process is killed is delivered as it is by the next. One thread may put results while another
does all the rest.

Where the disk fills up under a job, its result takes the reserve; where even that is gone, it stays in memory until
there is room, and is delivered from there.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

from pydantic import ValidationError

from shared.leases import HeartbeatReply, OwnLease, ResultReply, ResultUpload
from shared.protocol import Message, Slug
from worker.api.client import Rejected

RESERVE_BYTES = 8 << 20
"""Two results of the largest size that a coordinator takes."""

FOREIGN = "lease-foreign"
"""The problem of a result whose lease was given to another account: with that one's token it will be taken."""


class NoRoom(OSError):
    """The disk is so full that a result might not fit: no job should be begun."""


class Entry(Message):
    """A result and where it belongs. `own` is for a job that the worker gave itself."""

    project: Slug
    lease_id: UUID
    own: OwnLease | None = None
    upload: ResultUpload


class Delivery(Protocol):
    """What the outbox needs of the coordinator's client."""

    def register_own(self, lease_id: UUID, own: OwnLease) -> HeartbeatReply: ...
    def upload_result(self, lease_id: UUID, upload: ResultUpload) -> ResultReply: ...


@dataclass(frozen=True)
class Acknowledged:
    """The coordinator has stored this result."""

    entry: Entry
    reply: ResultReply


@dataclass(frozen=True)
class Refused:
    """The coordinator will not take this result; it was moved to `path`."""

    entry: Entry
    error: Rejected
    path: Path


@dataclass(frozen=True)
class Foreign:
    """The result belongs to another account than the token's; it stays, for a start with the other token."""

    entry: Entry
    path: Path


@dataclass(frozen=True)
class Damaged:
    """A file of the outbox could not be read, for this reason; it was moved to `path`."""

    reason: str
    path: Path


Handled = Acknowledged | Refused | Foreign | Damaged


class Outbox:
    """Results on disk, delivered in order. `unsaved` counts those that are in memory only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rejected = folder / "rejected"
        self.damaged = folder / "damaged"
        for path in (folder, self.rejected, self.damaged):
            path.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.tmp"):  # of a process that was killed while it wrote
            leftover.unlink()
        self._reserve = folder / "reserve"
        self._held: set[Path] = set()
        self._unsaved: dict[Path, Entry] = {}
        self._foreign: set[Path] = set()

    @property
    def unsaved(self) -> int:
        return len(self._unsaved)

    def make_room(self) -> None:
        """Make sure that results which are to come will fit on the disk. Raises NoRoom, and other OSError of it."""
        self.save_all()
        if self._unsaved:
            raise NoRoom(errno.ENOSPC, f"{self.unsaved} results do not fit on the disk: make room", str(self.folder))
        if self._reserve.exists():
            return
        try:
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError as error:
            self._reserve.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            needed = f"{RESERVE_BYTES >> 20} MiB"
            raise NoRoom(errno.ENOSPC, f"the disk is full: make at least {needed} free", str(self.folder)) from error

    def put(self, entry: Entry, *, held: bool = False) -> Path:
        """Store a result, surely: when this returns it is on the disk, or `unsaved`. One `held` waits for `release`."""
        path = self.folder / f"{self._next_number():08d}-{entry.upload.run.id}.json"
        if held:
            self._held.add(path)
        self._save(path, entry)
        return path

    def release(self, path: Path, better: Entry | None = None) -> None:
        """Let a held result be delivered, with a better text in its place, whole or not at all, if one is given."""
        if better is not None:
            self._save(path, better)
        self._held.discard(path)

    def save_all(self) -> None:
        """Try to bring to the disk what did not fit before."""
        for path, entry in [*self._unsaved.items()]:
            self._save(path, entry)

    def leases(self) -> list[UUID]:
        """The leases of this account whose results wait."""
        mine = (self._find(path) for path in self._paths() if path not in self._foreign)
        return [item.lease_id for item in mine if isinstance(item, Entry)]

    def __len__(self) -> int:
        return len(self._paths())

    def deliver(self, delivery: Delivery) -> Iterator[Handled]:
        """Deliver what waits, oldest first, and say of each what became of it.

        Any ClientError of `delivery` but Rejected ends the delivery: that result and those after it stay. So does one
        that is held. What belongs to another account is tried once by a process.
        """
        for path in self._paths():
            if path in self._held:
                return
            if path in self._foreign:
                continue
            entry = self._find(path)
            if isinstance(entry, str):
                yield Damaged(entry, self._set_aside(path, self.damaged, entry))
                continue
            try:
                if entry.own is not None:
                    delivery.register_own(entry.lease_id, entry.own)
                reply = delivery.upload_result(entry.lease_id, entry.upload)
            except Rejected as error:
                if error.code == FOREIGN:
                    self._foreign.add(path)
                    yield Foreign(entry, path)
                    continue
                yield Refused(entry, error, self._set_aside(path, self.rejected, str(error)))
                continue
            path.unlink(missing_ok=True)
            self._unsaved.pop(path, None)
            _sync_folder(self.folder)
            yield Acknowledged(entry, reply)

    def _paths(self) -> list[Path]:
        return sorted({*self.folder.glob("*.json"), *self._unsaved})

    def _find(self, path: Path) -> Entry | str:
        """A result, from memory or from its file; or why it is none."""
        return self._unsaved.get(path) or _read(path)

    def _save(self, path: Path, entry: Entry) -> None:
        """Write a result to the disk, into the reserve if need be; else it stays in memory."""
        self._unsaved[path] = entry
        text = entry.model_dump_json(indent=1)
        try:
            try:
                _write_durably(path, text)
            except OSError:
                self._reserve.unlink(missing_ok=True)
                _write_durably(path, text)
        except OSError:
            return
        self._unsaved.pop(path, None)

    def _next_number(self) -> int:
        """One more than any number in use, so that order survives a restart."""
        numbers = [int(n) for p in self._paths() if (n := p.name.partition("-")[0]).isdecimal()]
        return max(numbers, default=0) + 1

    def _set_aside(self, path: Path, folder: Path, reason: str) -> Path:
        moved = folder / path.name
        if path.exists():
            path.rename(moved)
        elif (entry := self._unsaved.pop(path, None)) is not None:
            _write_durably(moved, entry.model_dump_json(indent=1))
        with suppress(OSError):  # the result is what matters
            _write_durably(moved.with_suffix(".reason.txt"), reason + "\n")
        _sync_folder(folder)
        _sync_folder(self.folder)
        return moved


def _read(path: Path) -> Entry | str:
    """A file's entry, or why it is none."""
    try:
        return Entry.model_validate_json(path.read_bytes())
    except ValidationError as error:
        return str(error)


def _write_durably(path: Path, text: str) -> None:
    """Write a file so that it is there whole after a crash, or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
