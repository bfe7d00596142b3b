"""Forks processes that have imported torch already: `python -m fork_server <descriptor>`, in a sandbox.

Each request is a packet with three descriptors: the channel that the module gets as its last argument, its output, and
a control socket. A parent of each process reports its end over the control socket, and ends it when that is closed.
"""

import atexit
import contextlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import time
import traceback
from typing import Any

import numpy  # noqa: F401 - imported ahead of time
import safetensors.torch  # noqa: F401 - likewise
import torch

ANSWER_SECONDS, LOOK_SECONDS = 20.0, 0.01


def main() -> None:
    requests = socket.socket(fileno=int(sys.argv[-1]))
    torch.optim.AdamW([torch.zeros(1)])  # imports as much again
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the parents
    while True:
        packet, descriptors, _, _ = socket.recv_fds(requests, 1 << 16, 3)
        if not packet:
            return
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            supervise(json.loads(packet), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def supervise(request: dict[str, Any], channel: int, output: int, control_descriptor: int) -> None:
    """Start the process and wait for its end; never returns."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.close(control_descriptor)
        scratch = tempfile.mkdtemp(dir="/tmp")
        os.environ.update({"HOME": scratch, "TMPDIR": scratch})
        os.chdir(scratch)
        tempfile.tempdir = None  # the one that was found before
        run_as_module(request["module"], request["folder"], channel, output)
    with contextlib.suppress(PermissionError):  # the child has done so itself
        os.setpgid(child, child)
    os.close(channel)
    os.close(output)
    control = socket.socket(fileno=control_descriptor)
    control.send(b"started")  # the kernel adds this process's pid as the receiver knows it
    while not (asked := select.select([control], [], [], LOOK_SECONDS)[0]) and not has_ended(child):
        pass
    if asked and control.recv(16) == b"ask where":
        os.kill(child, signal.SIGQUIT)
        deadline = time.monotonic() + ANSWER_SECONDS
        while not has_ended(child) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
    os.killpg(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    exit_status = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    ended = {"exit_status": exit_status, "signal": signal_number, "peak_memory_mib": used.ru_maxrss // 1024}
    control.send(json.dumps(ended).encode())
    control.recv(16)  # until the other end has read it: this process has the CPU time of its child
    os._exit(0)


def has_ended(child: int) -> bool:
    """Whether the child has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def run_as_module(module: str, folder: str, channel: int, output: int) -> None:
    """Run `python -m module <channel>` in this process; never returns."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.path.insert(0, folder)
    sys.argv = [module, str(channel)]
    status = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    os._exit(status)


if __name__ == "__main__":
    main()
