"""The first program inside a container: receives the descriptors that no engine can pass on, then starts the real one.

Run as `python -I -S container_init.py SOCKET`, SOCKET being the path of the worker's socket; standard library only.
As process 1 of the container it ends every process there by ending itself: after the real program, or as soon as the
worker closes the connection or dies.

It receives one message, `{"argv": [...], "descriptors": [numbers], "rlimits": {name: value}}`, with the descriptors,
and sends `{"out_of_memory": true}` before it ends if the kernel killed a process for lack of memory.
"""

import ctypes
import errno
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

SYSTEM_CALLS = {  # architecture of <linux/audit.h>; numbers of clone, unshare and setns
    "x86_64": (0xC000003E, 56, 272, 308),
    "aarch64": (0xC00000B7, 220, 97, 268),
}
CLONE3 = 435  # everywhere
CLONE_NEWUSER = 0x10000000
SECCOMP_MODE_FILTER, SECCOMP_ALLOW, SECCOMP_ERRNO = 2, 0x7FFF0000, 0x00050000
LOAD, JUMP_IF_EQUAL, JUMP_IF_SET, RETURN = 0x20, 0x15, 0x45, 0x06  # BPF: ld abs; jeq, jset, ret with a constant
AT_NUMBER, AT_ARCHITECTURE, AT_FIRST_ARGUMENT = 0, 4, 16  # in struct seccomp_data


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
    forbid_user_namespaces()
    try:
        os.execv(task["argv"][0], task["argv"])  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(2, f"{task['argv'][0]}: {error.strerror}\n".encode())
        os._exit(NOT_FOUND)


def forbid_user_namespaces() -> None:
    """Forbid user namespaces, which open parts of the kernel that only root reaches otherwise, and which podman allows.

    `clone` and `unshare` fail with CLONE_NEWUSER. `clone3`, whose flags a filter cannot see, does not exist, so that
    the C library uses `clone`; nor does any call of another architecture (x32 numbers start at 2**30).
    """
    architecture, clone, unshare, setns = SYSTEM_CALLS[os.uname().machine]
    program = [
        (LOAD, 0, 0, AT_ARCHITECTURE),
        (JUMP_IF_EQUAL, 0, 10, architecture),
        (LOAD, 0, 0, AT_NUMBER),
        (JUMP_IF_SET, 8, 0, 1 << 30),
        (JUMP_IF_EQUAL, 7, 0, CLONE3),
        (JUMP_IF_EQUAL, 5, 0, setns),
        (JUMP_IF_EQUAL, 1, 0, clone),
        (JUMP_IF_EQUAL, 0, 2, unshare),
        (LOAD, 0, 0, AT_FIRST_ARGUMENT),
        (JUMP_IF_SET, 1, 0, CLONE_NEWUSER),
        (RETURN, 0, 0, SECCOMP_ALLOW),
        (RETURN, 0, 0, SECCOMP_ERRNO | errno.EPERM),
        (RETURN, 0, 0, SECCOMP_ERRNO | errno.ENOSYS),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    # struct sock_fprog: a 16-bit length and, aligned, a pointer.
    held = ctypes.create_string_buffer(code, len(code))
    filter_program = struct.pack("HP", len(program), ctypes.addressof(held))
    if ctypes.CDLL(None).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_program) != 0:
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
