"""The first program of every sandboxed process: its child lowers its rights and limits and becomes the real one.

Run as `python -I -S launcher.py PLAN`, where PLAN is the JSON of `worker.sandbox.process.LaunchPlan`. It uses the
standard library only, because it runs before anything is confined, and because each millisecond here delays a run.

It stays as the guard: when the child ends, or the worker does in whatever way, or SIGTERM asks it to, it ends all that
descends from it. The kernel's own signal to the children of a process that dies is not enough: bubblewrap asks for it
a moment after it has forked, and a sandbox whose worker ended in that moment would run on without limits of time.

Started as root the child also
 * gives the process an unused uid and no groups, so that limits hold: root's are not enforced;
 * in a mount namespace of its own, binds the folders that the sandbox may show (`aliases`) below /tmp, because
   that uid cannot walk through folders such as /root where an interpreter may live.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:  # loading it takes a tenth of the launcher's time
    from typing import Any

ALIAS_FOLDER = "/tmp"  # noqa: S108 - hidden under a tmpfs of our own, in a mount namespace of our own

# From <sched.h>, <sys/mount.h> and <sys/prctl.h>.
CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
KEYCTL = {"x86_64": 250, "aarch64": 219}  # <asm/unistd.h>; libc has no function for it
KEYCTL_JOIN_SESSION_KEYRING = 1

LIBC = ctypes.CDLL(None, use_errno=True)
SHELL_SIGNAL_BASE = 128
"""The guard passes on the end of its program by a signal as bubblewrap and shells do: this and the signal's number."""


def main() -> None:
    plan = json.loads(sys.argv[1])
    worker = os.pidfd_open(plan["parent"])
    if os.getppid() != plan["parent"]:  # asked after it was opened, so that it is the worker's and not a successor's
        sys.exit("the worker ended before its sandbox started")
    call("prctl", PR_SET_CHILD_SUBREAPER, 1)
    asked, ask = os.pipe()
    os.set_blocking(ask, False)
    signal.set_wakeup_fd(ask, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        become(plan, guard)
    watched = {worker, asked, os.pidfd_open(child)}
    close_others(watched | {ask})
    poller = select.poll()
    for descriptor in watched:
        poller.register(descriptor, select.POLLIN)
    poller.poll()
    os._exit(end_all(child))


def become(plan: "dict[str, Any]", guard: int) -> None:
    """Lower rights and limits, and become the program. Does not return."""
    for name, value in plan["rlimits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if plan["cores"]:
        os.sched_setaffinity(0, plan["cores"])
    # Where memory runs out all the same, the kernel ends this process and not one of the volunteer's.
    Path("/proc/self/oom_score_adj").write_text("1000")
    leave_session_keys()
    if plan["aliases"]:
        bind_aliases(plan["aliases"])
    if plan["uid"] is not None:
        os.setgroups([])
        os.setresgid(plan["uid"], plan["uid"], plan["uid"])
        os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    # Last, because a change of uid clears it.
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        sys.exit("the guard of the sandbox ended before it started")
    os.execv(plan["argv"][0], plan["argv"])  # noqa: S606 - no shell is the point


def close_others(kept: set[int]) -> None:
    """Close what is not `kept`: who reads from the program waits for its end, not for the guard's."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = 0
    for descriptor in sorted(kept):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, most)


def end_all(child: int) -> int:
    """End every descendant; the exit status of `child`, as a shell gives it. Orphans become children of the guard."""
    status = 0
    while True:
        for pid in list_children():
            os.kill(pid, signal.SIGKILL)  # not reaped yet, so that the number is still its own
        try:
            ended, code = os.wait()
        except ChildProcessError:
            return status
        if ended == child:
            code = os.waitstatus_to_exitcode(code)
            status = code if code >= 0 else SHELL_SIGNAL_BASE - code


def list_children() -> list[int]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [pid for pid in pids if parent_of(pid) == os.getpid()]


def parent_of(pid: int) -> int:
    """Its parent; 0 if it has just ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(stat.rpartition(b")")[2].split()[1])


def leave_session_keys() -> None:
    """Take an empty ring of keys for this process and its children: they would inherit that of the user's login.

    There they could read secrets, and leave notes for each other. Where the kernel refuses, they are refused as well.
    """
    if (keyctl := KEYCTL.get(os.uname().machine)) is not None:
        LIBC.syscall(keyctl, KEYCTL_JOIN_SESSION_KEYRING, None)


def bind_aliases(aliases: dict[str, str]) -> None:
    """Bind each source (key) to its alias (value) in a new tmpfs on ALIAS_FOLDER, seen by this process only."""
    call("unshare", CLONE_NEWNS)
    mount("none", "/", MS_REC | MS_PRIVATE)
    # Held open, because a source below ALIAS_FOLDER cannot be found by its path once that is covered.
    sources = {os.open(source, os.O_PATH): alias for source, alias in aliases.items()}
    mount("tmpfs", ALIAS_FOLDER, MS_NOSUID | MS_NODEV, kind="tmpfs", options="mode=755")
    for descriptor, alias in sources.items():
        held = f"/proc/self/fd/{descriptor}"
        if Path(held).is_dir():
            Path(alias).mkdir(mode=0o755)
        else:
            Path(alias).touch(mode=0o644)
        mount(held, alias, MS_BIND | MS_REC)
        os.close(descriptor)


def mount(source: str, target: str, flags: int, kind: str = "none", options: str = "") -> None:
    call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())


def call(name: str, *arguments: object) -> None:
    """Call a function of libc; ends this process with one line on stderr if it fails."""
    if getattr(LIBC, name)(*arguments) != 0:
        sys.exit(f"launcher: {name}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
