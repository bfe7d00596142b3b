"""The worker's side of container_init.py: passes a program's descriptors to its container through a socket."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SOCKET_NAME = "socket"
REMOVE_SECONDS = 60.0
END_SECONDS = 10.0


class ContainerSocket:
    """One container seen from the worker. It lives as long as its connection: closing that ends it."""

    def __init__(
        self,
        folder: Path,
        task: dict[str, Any],
        descriptors: Sequence[int],
        uid: int,
        remove: Sequence[str],
        memory_mib: int,
    ) -> None:
        """Wait for the container of user `uid` and send it `task`; `remove` ends one that never connected.

        Only that user may enter `folder`; `memory_mib` is the limit that messages name.
        """
        self._task, self._uid, self._remove, self._memory_mib = task, uid, list(remove), memory_mib
        self._descriptors = [os.dup(descriptor) for descriptor in descriptors]
        self._lock = threading.Lock()
        self._ended = False
        self._connection: socket.socket | None = None
        self._pid: int | None = None
        self._out_of_memory = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(folder / SOCKET_NAME))
        for path in (folder, folder / SOCKET_NAME):
            if uid != os.geteuid():
                os.chown(path, uid, uid)
            path.chmod(0o700)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, name="sandbox-socket", daemon=True)
        self._thread.start()

    def list_pids(self) -> list[int]:
        """The container's first process; empty before it starts and after it ends."""
        return [] if self._pid is None else [self._pid]

    def end(self) -> None:
        """End the container at once. Safe to repeat."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the waiting accept
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)  # its last message may still come
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(self._remove, timeout=REMOVE_SECONDS, check=False, capture_output=True)  # noqa: S603 - ours

    def explain_end(self) -> str:
        """Why the container ended early, as `ProcessOutcome.killed_for`; empty if it did not."""
        self._thread.join(END_SECONDS)
        return f"it used more than {self._memory_mib} MiB of memory" if self._out_of_memory else ""

    def _serve(self) -> None:
        try:
            if (connection := self._accept()) is not None:
                # An OSError means that the container has ended.
                with connection, contextlib.suppress(OSError):
                    socket.send_fds(connection, [json.dumps(self._task).encode()], self._descriptors)
                    while packet := connection.recv(1024):
                        self._out_of_memory = bool(json.loads(packet)["out_of_memory"])
        finally:
            self._pid = None
            self._listener.close()
            for descriptor in self._descriptors:
                os.close(descriptor)

    def _accept(self) -> socket.socket | None:
        """The connection of the container's first process; None if it was ended before it connected."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return None
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid, uid, _ = struct.unpack("3i", credentials)
            with self._lock:
                if uid == self._uid and not self._ended:
                    self._pid, self._connection = pid, connection
                    return connection
            connection.close()
