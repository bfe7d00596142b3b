"""One process of a project's harness: started in a sandbox, addressed by the protocol of harness_protocol.py."""

import contextlib
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Event
from types import TracebackType
from typing import Self, TypeVar, overload

from pydantic import ValidationError

from shared.protocol import Message
from worker.machine.faults import find_error_line
from worker.runs.harness_protocol import (
    HARNESS_PROTOCOL,
    MAX_PACKET_BYTES,
    Failed,
    Ready,
    Received,
    Sent,
    read_message,
)
from worker.sandbox.base import CpuSeconds, ProcessOutcome, Sandbox, SandboxRequest, SandboxUnavailable

POLL_INTERVAL_SECONDS = 0.2
SEND_TIMEOUT_SECONDS = 5.0
"""Time for a process to accept a message."""

EXIT_TIMEOUT_SECONDS = 5.0
"""Time for a process to print its traceback and end after it reported its failure."""

START_TIMEOUT_SECONDS = 60.0
"""Time from the start of a process to its `ready`: imports from a cold disk."""

One = TypeVar("One", bound=Message)
Two = TypeVar("Two", bound=Message)
Three = TypeVar("Three", bound=Message)
Four = TypeVar("Four", bound=Message)


class Stopped(Exception):
    """The worker asked the run to stop."""


class HarnessFault(Exception):
    """A harness process failed. `reason` is a sentence; `frame` as in `Failed`."""

    def __init__(self, reason: str, frame: str = "") -> None:
        super().__init__(reason)
        self.reason, self.frame = reason, frame


class HarnessTimeout(HarnessFault):
    """A harness process did not answer in time."""


class HarnessNotReady(HarnessFault):
    """A harness process ended before it was ready, and so before any code of an experiment ran."""


@dataclass(frozen=True)
class ProcessSetup:
    """A sandbox, and a request to it that lacks the program."""

    sandbox: Sandbox
    request: SandboxRequest
    stop: Event


class HarnessProcess:
    """A running process of the harness. Leaving its `with` block ends it, with everything it started."""

    def __init__(self, name: str, module: str, setup: ProcessSetup) -> None:
        """Start `module`; `name` is for messages, for example `the trainer`."""
        self.name = name
        self._stop = setup.stop
        self._ready = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(SEND_TIMEOUT_SECONDS)
        self._poller = select.poll()
        self._poller.register(self._socket, select.POLLIN)
        with theirs:
            # -P keeps the working folder, which is the scratch folder, out of sys.path.
            argv = (sys.executable, "-B", "-P", "-s", "-m", module, str(theirs.fileno()))
            try:
                self._process = setup.sandbox.start(replace(setup.request, argv=argv, descriptors=(theirs.fileno(),)))
            except (OSError, SandboxUnavailable):
                self._socket.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.end()

    def end(self, print_stacks: bool = False) -> ProcessOutcome:
        """End the process and everything it started. Idempotent. With `print_stacks`, its log ends with its stack."""
        outcome = self._process.kill(print_stacks)
        self._socket.close()
        return outcome

    @property
    def peak_memory_mib(self) -> int:
        return self._process.peak_memory_mib

    @property
    def has_ended(self) -> bool:
        return self._process.wait(0.001) is not None

    def cpu_seconds(self) -> CpuSeconds:
        """CPU time of the process and everything it started so far."""
        return self._process.cpu_seconds()

    def send(self, message: Sent, descriptors: Sequence[int] = ()) -> None:
        """Send a message with open descriptors. Raises HarnessFault if the process has ended or does not read."""
        packet = message.model_dump_json().encode()
        assert len(packet) <= MAX_PACKET_BYTES
        try:
            socket.send_fds(self._socket, [packet], descriptors)
        except OSError as error:
            raise self._fault_of_end() from error

    def await_ready(self) -> None:
        """Wait for the imports of the process. Raises HarnessNotReady if they fail."""
        if self._ready:
            return
        try:
            ready = self.expect(Ready, deadline=time.monotonic() + START_TIMEOUT_SECONDS)
        except HarnessTimeout as fault:
            raise HarnessNotReady(f"{self.name} was not ready after {START_TIMEOUT_SECONDS:g} s") from fault
        if ready.protocol != HARNESS_PROTOCOL:
            raise HarnessNotReady(f"the harness speaks protocol {ready.protocol}, this worker {HARNESS_PROTOCOL}")
        self._ready = True

    @overload
    def expect(self, one: type[One], /, *, deadline: float) -> One: ...
    @overload
    def expect(self, one: type[One], two: type[Two], /, *, deadline: float) -> One | Two: ...
    @overload
    def expect(
        self, one: type[One], two: type[Two], three: type[Three], four: type[Four], /, *, deadline: float
    ) -> One | Two | Three | Four: ...
    def expect(self, *kinds: type[Message], deadline: float) -> Message:
        """The next message, which must be of one of `kinds`; `deadline` is on the monotonic clock.

        Raises Stopped, HarnessTimeout past the deadline, and HarnessFault if the process failed, ended or sent another
        message.
        """
        message = self._receive(deadline)
        if isinstance(message, kinds):
            return message
        if isinstance(message, Failed):
            self._process.wait(EXIT_TIMEOUT_SECONDS)  # it prints its traceback after the report
            raise HarnessFault(message.reason, message.frame)
        raise HarnessFault(f"{self.name} broke the harness's protocol: it sent `{message.kind}` out of turn")

    def _receive(self, deadline: float) -> Received:
        answered = False
        while not answered:
            remaining = deadline - time.monotonic()
            if self._stop.is_set():
                raise Stopped
            if remaining <= 0:  # also in a flood of messages
                raise HarnessTimeout(f"{self.name} did not answer in time")
            answered = bool(self._poller.poll(min(POLL_INTERVAL_SECONDS, remaining) * 1000))
        packet = b""
        with contextlib.suppress(ConnectionError):
            packet = self._socket.recv(MAX_PACKET_BYTES + 1)
        if not packet:
            raise self._fault_of_end()
        try:
            return read_message(packet)
        except ValidationError as error:
            raise HarnessFault(f"{self.name} broke the harness's protocol: it sent a malformed message") from error

    def _fault_of_end(self) -> HarnessFault:
        """The reason for its end, as a sentence. It has closed its side, so its remaining processes are ended here."""
        outcome = self._process.wait(1.0) or self._process.kill()
        how = f"ended with exit status {outcome.exit_status}"
        if outcome.killed_for:
            how = f"was ended because {outcome.killed_for}"
        elif outcome.signal is not None:
            how = f"was ended by signal {outcome.signal} ({signal.strsignal(outcome.signal)})"
        if self._ready:
            return HarnessFault(f"{self.name} {how} before it had finished")
        return HarnessNotReady(f"{self.name} {how} before it was ready: {find_error_line(outcome.log_tail)}")
