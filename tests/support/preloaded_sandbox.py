"""A sandbox that is entered once: a process in it has imported torch, and forks for each process that a test starts.

Importing torch takes seconds, and a run does it three times. Supervisor, harness and sandbox are the real ones, but the
processes of all runs share one sandbox, each with its own scratch folder. A test of the separation between processes
asks for separate sandboxes.
"""

import json
import os
import shutil
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from worker.sandbox.base import CpuSeconds, ProcessLimits, ProcessOutcome, Sandbox, SandboxedProcess, SandboxRequest
from worker.sandbox.cpu_time import CpuTime
from worker.sandbox.process import LogTail

FORK_SERVER = Path(__file__).with_name("fork_server.py")
END_SECONDS = 60.0
CREDENTIALS = struct.Struct("3i")  # ucred of unix(7): pid, uid, gid


class PreloadedProcess:
    """Implements `SandboxedProcess`."""

    def __init__(self, requests: socket.socket, order: dict[str, Any], line: int) -> None:
        self._log, self._outcome = LogTail(), None
        output, writer = os.pipe()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with theirs:
            socket.send_fds(requests, [json.dumps(order).encode()], [line, writer, theirs.fileno()])
        os.close(writer)
        _, [(_, _, sender)], *_ = self._control.recvmsg(16, socket.CMSG_SPACE(CREDENTIALS.size))
        parent, *_ = CREDENTIALS.unpack(sender)
        self._cpu_time = CpuTime(lambda: [parent])
        self._reader = threading.Thread(target=self._read, args=(output,), daemon=True)
        self._reader.start()

    peak_memory_mib = 0
    _outcome: ProcessOutcome | None

    def _read(self, output: int) -> None:
        with os.fdopen(output, "rb", buffering=0) as file:
            while chunk := file.read(1 << 16):
                self._log.add(chunk)

    def cpu_seconds(self) -> CpuSeconds:
        """As the real one, until the outcome is known. Orphans are the sandbox's and do not count."""
        return self._cpu_time.read()

    def wait(self, timeout: float) -> ProcessOutcome | None:
        if self._outcome is None:
            self._control.settimeout(timeout)
            try:
                ended = json.loads(self._control.recv(1 << 10))
            except TimeoutError:
                return None
            self._control.close()
            self._reader.join(END_SECONDS)
            self.peak_memory_mib = ended["peak_memory_mib"]
            self._outcome = ProcessOutcome(**ended, killed_for="", log_tail=self._log.text())
        return self._outcome

    def kill(self, print_stacks: bool = False) -> ProcessOutcome:
        if self._outcome is None and print_stacks:
            self._control.send(b"ask where")
        elif self._outcome is None:
            self._control.shutdown(socket.SHUT_WR)
        outcome = self.wait(END_SECONDS)
        assert outcome is not None
        return outcome


class PreloadedSandbox:
    """Implements `Sandbox`. Each process of a module in `separate` gets its own sandbox."""

    def __init__(
        self, real: Sandbox, requests: socket.socket, stage: Path, separate: frozenset[str] = frozenset()
    ) -> None:
        self.name, self.limits = real.name, real.limits
        self._real, self._requests, self._stage, self._separate = real, requests, stage, separate
        self._numbers = count()

    def with_separate(self, *modules: str) -> "PreloadedSandbox":
        """The same sandbox, but processes of these modules get their own."""
        other = PreloadedSandbox(self._real, self._requests, self._stage, frozenset(modules))
        other._numbers = self._numbers
        return other

    def start(self, request: SandboxRequest) -> SandboxedProcess:
        """See `Sandbox.start`. Limits and cores are those with which the sandbox was entered."""
        module = request.argv[request.argv.index("-m") + 1]
        if module in self._separate:
            return self._real.start(request)
        name = str(next(self._numbers))
        shutil.copytree(request.folder, self._stage / name)
        (line,) = request.descriptors
        order = {"module": module, "folder": f"/project/{name}"}
        return PreloadedProcess(self._requests, order, line)


@contextmanager
def enter_sandbox(real: Sandbox) -> Iterator[PreloadedSandbox]:
    """Enter it; its processes end with the block."""
    with tempfile.TemporaryDirectory() as name:
        stage = Path(name)
        stage.chmod(0o755)
        shutil.copy(FORK_SERVER, stage)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = SandboxRequest(
            (sys.executable, "-B", "-P", "-m", "fork_server", str(theirs.fileno())),
            ProcessLimits(memory_mib=8192, processes=512, disk_mib=256),
            stage,
            descriptors=(theirs.fileno(),),
            cores=frozenset(sorted(os.sched_getaffinity(0))[:1]),
        )
        with ours:
            with theirs:
                process = real.start(request)
            try:
                yield PreloadedSandbox(real, ours, stage)
            finally:
                process.kill()
