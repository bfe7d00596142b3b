"""Memory shared with sandboxed processes by descriptor: a receiver cannot change its size, nor what is frozen.

Files of the user are never handed over: a receiver with the user's own uid could reopen them for writing.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

COPY_BYTES = 1 << 20


class SharedMemory:
    """An anonymous file in memory (memfd) of a fixed size. Pages that nobody wrote cost nothing."""

    def __init__(self, name: str, size: int) -> None:
        """`size` in bytes; it can neither grow nor shrink, so that no receiver can make another one fault."""
        self.size = size
        self.descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, size)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)

    @classmethod
    def of_file(cls, name: str, path: Path) -> Self:
        """A frozen copy of a file."""
        with path.open("rb") as file:
            return cls._copy(name, file.fileno(), os.fstat(file.fileno()).st_size)

    def take_copy(self, name: str, size: int) -> "SharedMemory":
        """A frozen copy of the first `size` bytes: whoever gets it sees nothing of what lies behind them."""
        return self._copy(name, self.descriptor, size)

    @classmethod
    def _copy(cls, name: str, source: int, size: int) -> Self:
        memory, done = cls(name, size), 0
        while done < size and (copied := os.sendfile(memory.descriptor, source, done, min(COPY_BYTES, size - done))):
            done += copied
        os.lseek(memory.descriptor, 0, os.SEEK_SET)  # receivers share this position
        memory.freeze()
        return memory

    def freeze(self) -> None:
        """Make the content final for everybody. Raises OSError while a process still has it mapped for writing."""
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)

    def close(self) -> None:
        """Give up this process's descriptor; receivers keep theirs."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
