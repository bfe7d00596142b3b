"""Memory shared with sandboxed processes by descriptor; receivers cannot resize it, nor change frozen content.

Files are never handed over, because a receiver with the user's uid could reopen them for writing.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

COPY_BYTES = 1 << 20


class SharedMemory:
    """An anonymous file in memory (memfd) of fixed size. Unwritten pages use no memory."""

    def __init__(self, name: str, size: int, will_freeze: bool = False) -> None:
        """`size` is in bytes and fixed, so that no receiver can make another one fault.

        Unless it is to be frozen later, no receiver can freeze it either: a model host could keep the scorer from
        writing its questions, and the scorer's fault would be the machine's.
        """
        self.size = size
        self.descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, size)
        kept = 0 if will_freeze else fcntl.F_SEAL_SEAL
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | kept)

    @classmethod
    def of_file(cls, name: str, path: Path) -> Self:
        """A frozen copy of a file."""
        with path.open("rb") as file:
            return cls._copy(name, file.fileno(), os.fstat(file.fileno()).st_size)

    def copy_start(self, name: str, size: int) -> "SharedMemory":
        """A frozen copy of the first `size` bytes, without the rest."""
        return self._copy(name, self.descriptor, size)

    @classmethod
    def _copy(cls, name: str, source: int, size: int) -> Self:
        memory, done = cls(name, size, will_freeze=True), 0
        while done < size and (copied := os.sendfile(memory.descriptor, source, done, min(COPY_BYTES, size - done))):
            done += copied
        os.lseek(memory.descriptor, 0, os.SEEK_SET)  # receivers share this position
        memory.freeze()
        return memory

    def freeze(self) -> None:
        """Make the content read-only for everybody. Raises OSError while a process has it mapped for writing."""
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)

    def close(self) -> None:
        """Close this process's descriptor; receivers keep theirs."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
