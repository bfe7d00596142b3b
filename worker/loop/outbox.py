"""The outbox keeps finished results on disk until the coordinator acknowledges them.

    outbox/<number>-<run id>.json   a waiting result; numbers follow the order of finishing, parents before children
    outbox/rejected/                results that the coordinator rejected, each with a `.reason.txt`
    outbox/damaged/                 files that cannot be read
    outbox/reserve                  disk space kept for the results of current jobs

One process owns an outbox (worker/loop/lock.py). A file is written under another name, flushed to the disk, then
renamed: if the process is killed, a result is on the disk whole or not at all. A result may be held back until its
finding is rewritten; the next process delivers it as it is.

If the disk is full when a job ends, its result takes the reserve; without a reserve it stays in memory until there is
room, and is delivered from there.
"""

import errno
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from uuid import UUID, uuid4

from pydantic import ValidationError

from shared.leases import OfflineLease, ResultReply, ResultUpload
from shared.protocol import Message, Sha, Slug
from worker.api.client import CoordinatorClient, Rejected

RESERVE_BYTES = 8 << 20
"""Size of the reserve: two results of the largest size that a coordinator accepts."""

FOREIGN = "lease-foreign"
"""Problem code for a result whose lease belongs to another account; that account's token can deliver it."""


class NoRoom(OSError):
    """The disk is so full that a result might not fit, so no job should begin."""


class Entry(Message):
    """A result and its lease. `own` describes the lease of a job that the worker gave itself while offline."""

    project: Slug
    lease_id: UUID
    own: OfflineLease | None = None
    upload: ResultUpload

    def needs(self, commits: Collection[Sha]) -> bool:
        """Whether one of these commits is its parent, or what it measures."""
        commit = self.upload.commit
        return (commit.parent_sha if commit is not None else self.upload.run.commit_sha) in commits


@dataclass(frozen=True)
class DeliveredResult:
    """The coordinator has stored this result."""

    entry: Entry
    reply: ResultReply


@dataclass(frozen=True)
class RejectedResult:
    """The coordinator rejected this result, which was moved to `path`."""

    entry: Entry
    error: Rejected
    path: Path


@dataclass(frozen=True)
class ForeignResult:
    """The result belongs to another account and waits for a start with that account's token."""

    entry: Entry
    path: Path


@dataclass(frozen=True)
class DamagedFile:
    """A file of the outbox could not be read and was moved to `path`."""

    reason: str
    path: Path


DeliveryOutcome = DeliveredResult | RejectedResult | ForeignResult | DamagedFile


class Outbox:
    """Results on disk, delivered in order. Several threads may use it; one at a time may deliver."""

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
        self._lock = RLock()
        """Guards the three collections, the reserve, and all files but those that a delivery reads."""

    @property
    def unsaved(self) -> int:
        """Number of results that are in memory only."""
        with self._lock:
            return len(self._unsaved)

    def make_room(self) -> None:
        """Ensure that the results of coming jobs will fit on the disk. Raises NoRoom, and other OSError of the disk."""
        with self._lock:
            self.save_all()
            if self._unsaved:
                problem = f"{self.unsaved} results do not fit on the disk: free some space"
                raise NoRoom(errno.ENOSPC, problem, str(self.folder))
            if self._reserve.exists():
                return
            try:
                with self._reserve.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
            except OSError as error:
                self._reserve.unlink(missing_ok=True)
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                problem = f"the disk is full: free at least {RESERVE_BYTES >> 20} MiB"
                raise NoRoom(errno.ENOSPC, problem, str(self.folder)) from error

    def put(self, entry: Entry, *, held: bool = False) -> Path:
        """Store a result on the disk, or in memory if it does not fit. A `held` result waits for `release`."""
        with self._lock:
            path = self.folder / f"{self._next_number():08d}-{entry.upload.run.id}.json"
            if held:
                self._held.add(path)
            self._save(path, entry)
            return path

    def release(self, path: Path, better: Entry | None = None) -> None:
        """Let a held result be delivered, replaced by `better` if given."""
        with self._lock:
            if better is not None:
                self._save(path, better)
            self._held.discard(path)

    def save_all(self) -> None:
        """Try to write the results that did not fit before."""
        with self._lock:
            for path, entry in list(self._unsaved.items()):
                self._save(path, entry)

    def leases(self) -> list[UUID]:
        """Leases of this account whose results wait."""
        with self._lock:
            mine = [self._read(path) for path in self._paths() if path not in self._foreign]
        return [item.lease_id for item in mine if isinstance(item, Entry)]

    def __len__(self) -> int:
        with self._lock:
            return len(self._paths())

    def deliver(self, client: CoordinatorClient) -> Iterator[DeliveryOutcome]:
        """Deliver waiting results, oldest first, and yield the outcome of each.

        A held result stays, and what builds on its commit or measures it; others do not wait for it, because the
        coordinator gives few jobs to one that holds many. Any ClientError of `client` but Rejected ends the delivery. A
        process tries a result of another account once, and none that needs its commit.
        """
        waiting: set[Sha] = set()
        with self._lock:
            paths = self._paths()
        for path in paths:
            with self._lock:
                entry, waits = self._read(path), path in self._held or path in self._foreign
            if isinstance(entry, str):
                yield DamagedFile(entry, self._set_aside(path, self.damaged, entry))
                continue
            made = {entry.upload.commit.sha} if entry.upload.commit is not None else set()
            if waits or entry.needs(waiting):
                waiting |= made
                continue
            try:
                if entry.own is not None:
                    client.register_own(entry.lease_id, entry.own)
                reply = client.upload_result(entry.lease_id, entry.upload)
            except Rejected as error:
                if error.code == FOREIGN:
                    with self._lock:
                        self._foreign.add(path)
                    waiting |= made
                    yield ForeignResult(entry, path)
                    continue
                yield RejectedResult(entry, error, self._set_aside(path, self.rejected, str(error)))
                continue
            with self._lock:
                path.unlink(missing_ok=True)
                self._unsaved.pop(path, None)
                _sync_folder(self.folder)
            yield DeliveredResult(entry, reply)

    def _paths(self) -> list[Path]:
        return sorted({*self.folder.glob("*.json"), *self._unsaved})

    def _read(self, path: Path) -> Entry | str:
        """A result, from memory or from its file; or an error message."""
        if path in self._unsaved:
            return self._unsaved[path]
        try:
            return Entry.model_validate_json(path.read_bytes())
        except ValidationError as error:
            return str(error)

    def _save(self, path: Path, entry: Entry) -> None:
        """Write a result to the disk, giving up the reserve if needed; else keep it in memory."""
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
        """One more than any number in use, so that the order survives a restart."""
        numbers = [int(n) for p in self._paths() if (n := p.name.partition("-")[0]).isdecimal()]
        return max(numbers, default=0) + 1

    def _set_aside(self, path: Path, folder: Path, reason: str) -> Path:
        moved = folder / path.name
        with self._lock:
            if path.exists():
                path.rename(moved)
            elif (entry := self._unsaved.pop(path, None)) is not None:
                _write_durably(moved, entry.model_dump_json(indent=1))
            with suppress(OSError):  # the reason matters less than the result
                _write_durably(moved.with_suffix(".reason.txt"), reason + "\n")
            _sync_folder(folder)
            _sync_folder(self.folder)
        return moved


def _write_durably(path: Path, text: str) -> None:
    """Write a file so that after a crash it exists whole or not at all."""
    temporary = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
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
