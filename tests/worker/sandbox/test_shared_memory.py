"""A receiver of shared memory, which has its descriptor, and what it can do with that."""

import fcntl
import mmap

import pytest

from worker.sandbox.shared_memory import SharedMemory

F_SEAL_FUTURE_WRITE = 0x10  # of <linux/fcntl.h>


def test_no_receiver_keeps_others_from_writing() -> None:
    """A model host could break the scorer so, whose faults are not the commit's."""
    with SharedMemory("request", 4096, will_freeze=True) as open_to_all, SharedMemory("request", 4096) as memory:
        fcntl.fcntl(open_to_all.descriptor, fcntl.F_ADD_SEALS, F_SEAL_FUTURE_WRITE)
        with pytest.raises(PermissionError):
            mmap.mmap(open_to_all.descriptor, 0)
        with pytest.raises(PermissionError):
            fcntl.fcntl(memory.descriptor, fcntl.F_ADD_SEALS, F_SEAL_FUTURE_WRITE)
        mmap.mmap(memory.descriptor, 0)[:4] = b"text"
        with memory.copy_start("result", 4) as copy, pytest.raises(PermissionError):
            mmap.mmap(copy.descriptor, 0)
