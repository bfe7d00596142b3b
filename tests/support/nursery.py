"""Forks for whoever asks: `python -m nursery <descriptor>`, in a sandbox, with torch imported already.

Each order is a packet with three descriptors: the line that the module gets as its last argument, where its output
goes, and the reins. A keeper beside each process says over the reins how it ended, and ends it when they are let go.
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
import traceback
from typing import Any

import numpy  # noqa: F401 - this is what it is for
import safetensors.torch  # noqa: F401 - likewise
import torch

ANSWER_SECONDS = 20.0


def main() -> None:
    orders = socket.socket(fileno=int(sys.argv[-1]))
    torch.optim.AdamW([torch.zeros(1)])  # imports as much again
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers need nobody to wait for them
    while True:
        packet, descriptors, _, _ = socket.recv_fds(orders, 1 << 16, 3)
        if not packet:
            return
        if os.fork() == 0:
            orders.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            keep(json.loads(packet), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def keep(order: dict[str, Any], line: int, output: int, reins: int) -> None:
    """Start the process, and see to its end; never returns."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.close(reins)
        scratch = tempfile.mkdtemp(dir="/tmp")
        os.environ.update({"HOME": scratch, "TMPDIR": scratch, **order["environment"]})
        os.chdir(scratch)
        tempfile.tempdir = None  # the one that was found before
        become(order["module"], order["folder"], line, output)
    with contextlib.suppress(PermissionError):  # it has done so itself, and is another program by now
        os.setpgid(child, child)
    os.close(line)
    os.close(output)
    watch, rein = os.pidfd_open(child), socket.socket(fileno=reins)
    ready, _, _ = select.select([watch, rein], [], [])
    if rein in ready and rein.recv(16) == b"ask where":
        os.kill(child, signal.SIGQUIT)
        select.select([watch], [], [], ANSWER_SECONDS)
    os.killpg(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    exit_status = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    ended = {"exit_status": exit_status, "signal": signal_number, "peak_memory_mib": used.ru_maxrss // 1024}
    rein.send(json.dumps(ended).encode())
    os._exit(0)


def become(module: str, folder: str, line: int, output: int) -> None:
    """Be `python -m module <line>` in this process; never returns."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.path.insert(0, folder)
    sys.argv = [module, str(line)]
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
