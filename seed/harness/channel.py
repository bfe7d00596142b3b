"""The channel to the worker's supervisor, which started this process and holds clock, data and limits.

A SOCK_SEQPACKET socket, whose number is the last argument of the command line. Each packet is one JSON document with
a `kind`, perhaps with open descriptors. The kinds, in the order in which each process uses them:

    prepare    -> ready    <- begin [train, validation, sources...]    -> prepared
    trainer    -> ready    <- begin [handover]    -> start    <- started [train]    -> progress ...    -> trained
                           <- begin [handover, compiled]    as above, where the contract grants room for it
                           -> start    <- keep [compiled]    -> kept    instead of training, once a machine
    host       -> ready    <- begin [request, answer]    -> imported
                           <- load [handover]    -> loaded    (<- ask    -> answered) ...
    scorer     -> ready    <- begin [validation, request, answer]    (-> ask    <- answered) ...
                           -> renew    <- renewed [request, answer]    (-> ask    <- answered) ...
                           -> scored | rejected

Each may say `failed` instead. Needs the standard library only.
"""

import faulthandler
import gc
import importlib
import json
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from types import ModuleType

PROTOCOL = 4
MAX_PACKET_BYTES = 65_536
MAX_DESCRIPTORS = 250
MAX_REASON, MAX_FRAME = 600, 900  # characters


class Fault(Exception):
    """The edited file breaks its contract with the harness; the message is a sentence about it."""


class Rejected(Exception):
    """The answers failed a check of the scorer; the message is a sentence about it."""


class Channel:
    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def send(self, kind: str, **fields) -> None:
        """Send one message. Waits while the supervisor is behind."""
        self._socket.send(json.dumps({"kind": kind, **fields}).encode())

    def expect(self, *kinds: str) -> tuple[dict, list[int]]:
        """The next message, of one of `kinds`, and its descriptors. Ends the process if the channel is closed."""
        packet, descriptors, _, _ = socket.recv_fds(self._socket, MAX_PACKET_BYTES, MAX_DESCRIPTORS)
        if not packet:
            sys.exit("the supervisor is gone")
        message = json.loads(packet)
        assert message["kind"] in kinds, f"expected {kinds}, got `{message['kind']}`"
        return message, descriptors


def run(work: Callable[..., None]) -> None:
    """Run a process of the harness: `work(channel, begin, *descriptors)`. Call it after the imports.

    Reports an error to the supervisor: a sentence, and the deepest frame of the edited files. A process that crashes,
    or that gets SIGQUIT before it is ended, prints its stack.
    """
    gc.freeze()  # what was imported stays
    gc.enable()
    faulthandler.enable()
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # it is ignored below a shell's background job
    faulthandler.register(signal.SIGQUIT, all_threads=False, chain=True)
    channel = Channel(int(sys.argv[-1]))
    channel.send("ready", protocol=PROTOCOL)
    begin, descriptors = channel.expect("begin")
    editable = begin.get("editable", [])
    try:
        work(channel, begin, *descriptors)
    except BaseException as error:
        if isinstance(error, Rejected) and not editable:  # only a scorer rejects, which runs no edited file
            channel.send("rejected", reason=str(error)[:MAX_REASON])
            return
        reason, frame = describe(error, editable)[:MAX_REASON], find_frame(error, editable)[:MAX_FRAME]
        channel.send("failed", reason=reason, frame=frame)
        raise


def import_edited(begin: dict, *functions: str) -> ModuleType:
    """The edited file as a module that defines `functions`."""
    path = begin["editable"][0]
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for name in functions:
        if not callable(getattr(module, name, None)):
            raise Fault(f"{path} defines no function `{name}`")
    return module


def describe(error: BaseException, editable: list[str]) -> str:
    """The error in a sentence."""
    if isinstance(error, Fault):
        return str(error)
    lines = str(error).strip().splitlines() or [""]
    first_line = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]  # torch's compiler names the error below
    name = type(error).__name__
    if isinstance(error, MemoryError) or "OutOfMemory" in name or "can't allocate memory" in str(error):
        return f"out of memory: {first_line or name}"
    if isinstance(error, SystemExit) and editable:
        return f"{editable[0]} called sys.exit({error.code!r})"
    where = editable[0] if find_frame(error, editable) else "the harness"
    return f"{where} raised {name}: {first_line}"


def find_frame(error: BaseException, editable: list[str]) -> str:
    """The deepest frame of an edited file: `train.py:12 in forward: x = self.w @ x`. Empty if there is none."""
    if isinstance(error, SyntaxError) and any((error.filename or "").endswith(f"/{name}") for name in editable):
        return f"{error.filename.rpartition('/')[2]}:{error.lineno}: {(error.text or '').strip()}"
    found = ""
    for frame in traceback.extract_tb(error.__traceback__):
        for name in editable:
            if frame.filename.endswith(f"/{name}"):
                found = f"{name}:{frame.lineno} in {frame.name}: {frame.line}"
    return found
