"""The outbox: a finished result is on disk before the first attempt to deliver it, and until it is acknowledged.

    outbox/<number>-<run id>.json   waiting, in the order in which they were finished: parents before children
    outbox/rejected/                refused by the coordinator, each with a `.reason.txt` beside it
    outbox/damaged/                 files that cannot be read (a full disk, a damaged one)

One process owns an outbox (worker/lock.py). A file is written under another name, flushed to the disk, then renamed:
whenever the process is killed, a result is wholly there or not at all. A result may be held back for better words;
one that is held when the process is killed is delivered as it is by the next. One thread may put results while another
does all the rest.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

from pydantic import ValidationError

from shared.protocol import Message, Slug
from shared.results import ResultReply, ResultUpload
from worker.client import Rejected


class Entry(Message):
    """A result and where it belongs."""

    project: Slug
    lease_id: UUID
    upload: ResultUpload


class Delivery(Protocol):
    """What the outbox needs of the coordinator's client."""

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
class Damaged:
    """A file of the outbox could not be read, for this reason; it was moved to `path`."""

    reason: str
    path: Path


Handled = Acknowledged | Refused | Damaged


class Outbox:
    """Results on disk, delivered in order. Raises OSError where the disk does not let it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rejected = folder / "rejected"
        self.damaged = folder / "damaged"
        for path in (folder, self.rejected, self.damaged):
            path.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.tmp"):  # of a process that was killed while it wrote
            leftover.unlink()
        self._held: set[Path] = set()

    def put(self, entry: Entry, *, held: bool = False) -> Path:
        """Store a result, surely: when this returns, it is on the disk. One that is `held` waits for `release`."""
        path = self.folder / f"{self._next_number():08d}-{entry.upload.run.id}.json"
        if held:
            self._held.add(path)
        _write_durably(path, entry.model_dump_json(indent=1))
        return path

    def release(self, path: Path, better: Entry | None = None) -> None:
        """Let a held result be delivered, with a better text in its place, whole or not at all, if one is given."""
        try:
            if better is not None:
                _write_durably(path, better.model_dump_json(indent=1))
        finally:
            self._held.discard(path)

    def leases(self) -> list[UUID]:
        """The leases whose results wait."""
        return [item.lease_id for path in self._paths() if isinstance(item := _read(path), Entry)]

    def __len__(self) -> int:
        return len(self._paths())

    def deliver(self, delivery: Delivery) -> Iterator[Handled]:
        """Deliver what waits, oldest first, and say of each what became of it.

        Any ClientError of `delivery` but Rejected ends the delivery: that result and those after it stay. So does one
        that is held.
        """
        for path in self._paths():
            if path in self._held:
                return
            entry = _read(path)
            if isinstance(entry, str):
                yield Damaged(entry, self._set_aside(path, self.damaged, entry))
                continue
            try:
                reply = delivery.upload_result(entry.lease_id, entry.upload)
            except Rejected as error:
                yield Refused(entry, error, self._set_aside(path, self.rejected, str(error)))
                continue
            path.unlink()
            _sync_folder(self.folder)
            yield Acknowledged(entry, reply)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))

    def _next_number(self) -> int:
        """One more than any number in use, so that order survives a restart."""
        numbers = [int(n) for p in self._paths() if (n := p.name.partition("-")[0]).isdecimal()]
        return max(numbers, default=0) + 1

    def _set_aside(self, path: Path, folder: Path, reason: str) -> Path:
        moved = folder / path.name
        _write_durably(moved.with_suffix(".reason.txt"), reason + "\n")
        path.rename(moved)
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
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
