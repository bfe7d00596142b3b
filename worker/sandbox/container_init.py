"""The first program inside a container: receives the descriptors that no engine can pass on, then starts the real one.

Run as `python -I -S container_init.py SOCKET`, SOCKET being the path of the worker's socket; standard library only.
As process 1 of the container it ends every process there by ending itself: after the real program, or as soon as the
worker closes the connection or dies.

It receives one message, `{"argv": [...], "descriptors": [numbers], "rlimits": {name: value}, "system_calls": hex}`,
with the descriptors, and sends `{"out_of_memory": true}` before it ends if the kernel killed a process for lack of
memory.
"""

import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

MESSAGE_BYTES, MAX_DESCRIPTORS = 65_536, 16
REAP_MILLISECONDS = 500
PR_SET_DUMPABLE, PR_SET_SECCOMP = 4, 22  # from <sys/prctl.h>
SHELL_SIGNAL_BASE = 128
NOT_FOUND = 127

OOM_COUNTS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
"""The kernel's counters, for control groups version 2 and 1."""

SECCOMP_MODE_FILTER = 2
INSTRUCTION_BYTES = 8


def main() -> None:
    # The program has this process's uid and could otherwise trace it and use its connection.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(sys.argv[1])
    packet, received, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, MAX_DESCRIPTORS)
    if not packet:
        sys.exit("the worker ended before its sandbox started")
    task = json.loads(packet)
    child = os.fork()
    if child == 0:
        become(task, received)
    for descriptor in received:
        os.close(descriptor)
    status = follow(child, connection)
    if was_out_of_memory():
        connection.send(json.dumps({"out_of_memory": True}).encode())
    os._exit(status)


def become(task: dict[str, Any], received: list[int]) -> None:
    """Move the descriptors to the numbers that the program expects, and become it. Does not return."""
    room = max([*received, *task["descriptors"]], default=0) + 1
    kept = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, room) for descriptor in received]
    for descriptor in received:
        os.close(descriptor)
    for descriptor, number in zip(kept, task["descriptors"], strict=True):
        os.dup2(descriptor, number, inheritable=True)
    for name, value in task["rlimits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    filter_system_calls(bytes.fromhex(task["system_calls"]))
    try:
        os.execv(task["argv"][0], task["argv"])  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(2, f"{task['argv'][0]}: {error.strerror}\n".encode())
        os._exit(NOT_FOUND)


def filter_system_calls(code: bytes) -> None:
    """Install the program of seccomp.py for this process and its children."""
    # struct sock_fprog: a 16-bit length and, aligned, a pointer.
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(code) // INSTRUCTION_BYTES, ctypes.addressof(held))
    if ctypes.CDLL(None).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program) != 0:
        sys.exit("entry: the kernel takes no seccomp filter")


def follow(child: int, connection: socket.socket) -> int:
    """Wait for the program and reap orphans; returns its exit status as a shell does."""
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    poller.register(os.pidfd_open(child), select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in poller.poll(REAP_MILLISECONDS)]
        if connection.fileno() in ready:  # the worker sends no more, so it closed the connection
            return SHELL_SIGNAL_BASE + signal.SIGKILL
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
                return code if code >= 0 else SHELL_SIGNAL_BASE - code


def was_out_of_memory() -> bool:
    """Whether the kernel killed a process of this container for lack of memory."""
    for path in map(Path, OOM_COUNTS):
        if path.exists():
            counts = dict(line.split(maxsplit=1) for line in path.read_text().splitlines() if " " in line)
            return int(counts.get("oom_kill", 0)) > 0
    return False


if __name__ == "__main__":
    main()
