"""The first program of every sandboxed process: its child drops rights, sets limits and becomes the real program.

Run as `python -I -S launcher.py PLAN PROGRAM ...`, where PLAN is a `worker.sandbox.process.LaunchPlan` without its
`argv`, marshalled and in hexadecimal digits; the program's words are arguments of their own, because Linux limits the
length of each, and a prompt is nearly as long. It runs before the process is confined, and each millisecond here delays
a run: standard library only, and not json and pathlib, whose imports would take a third of its time.

The parent stays as the guard: when the child or the worker ends, or on SIGTERM, it ends all its descendants. The
kernel's parent-death signal is not enough: bubblewrap requests it a moment after its fork, and a sandbox whose worker
died in that moment would run on.

Started as root the child also
 * takes an unused uid and no groups but those of a GPU's devices, because limits are not enforced for root;
 * binds the sandbox's folders (`aliases`) below /tmp in its own mount namespace, because that uid cannot enter
   folders such as /root where an interpreter may live.
"""

import ctypes
import marshal
import os
import resource
import select
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it takes a tenth of the launcher's time
    from typing import Any

ALIAS_FOLDER = "/tmp"  # noqa: S108 - hidden under a tmpfs of our own, in a mount namespace of our own

# From <sched.h>, <sys/mount.h> and <sys/prctl.h>.
CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 1, 24, 36
LAST_CAPABILITY = 63
KEYCTL = {"x86_64": 250, "aarch64": 219}  # <asm/unistd.h>; libc has no function for it
KEYCTL_JOIN_SESSION_KEYRING = 1

LIBC = ctypes.CDLL(None, use_errno=True)
SHELL_SIGNAL_BASE = 128
"""Exit status of a program that a signal ended: this plus the signal's number, as in shells and bubblewrap."""


def main() -> None:
    plan = marshal.loads(bytes.fromhex(sys.argv[1]))  # noqa: S302 - the worker wrote it
    worker = os.pidfd_open(plan["parent"])
    if os.getppid() != plan["parent"]:  # after opening it, so that it cannot be a successor's
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
    """Drop rights, set limits, and become the program. Does not return."""
    if plan["group"]:
        write(f"{plan['group']}/cgroup.procs", b"0")  # this process
    for name, value in plan["rlimits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if plan["cores"]:
        os.sched_setaffinity(0, plan["cores"])
    # If memory runs out, the kernel kills this process and not one of the volunteer's.
    write("/proc/self/oom_score_adj", b"1000")
    leave_session_keys()
    if plan["aliases"]:
        bind_aliases(plan["aliases"])
    if plan["uid"] is not None:
        for capability in range(LAST_CAPABILITY + 1):
            LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # the user has none; this is for what it may start
        os.setgroups(plan["groups"])
        os.setresgid(plan["uid"], plan["uid"], plan["uid"])
        os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    # Last, because a change of uid clears it.
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        sys.exit("the guard of the sandbox ended before it started")
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is the point


def write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def close_others(kept: set[int]) -> None:
    """Close all other descriptors: readers of the program's output wait for its end, not for the guard's."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = 0
    for descriptor in sorted(kept):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, most)


def end_all(child: int) -> int:
    """End every descendant; returns `child`'s exit status as a shell does. Orphans become the guard's children."""
    status = 0
    while True:
        for pid in list_children():
            os.kill(pid, signal.SIGKILL)  # not reaped yet, so the pid is still its own
        try:
            ended, code = os.wait()
        except ChildProcessError:
            return status
        if ended == child:
            code = os.waitstatus_to_exitcode(code)
            status = code if code >= 0 else SHELL_SIGNAL_BASE - code


def list_children() -> list[int]:
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return [pid for pid in pids if parent_of(pid) == os.getpid()]


def parent_of(pid: int) -> int:
    """The parent's pid; 0 if the process has just ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return 0
    return int(stat.rpartition(b")")[2].split()[1])


def leave_session_keys() -> None:
    """Use an empty keyring instead of that of the user's login, whose secrets this process and its children could read.

    They could also leave notes for each other there. If the kernel refuses, it refuses them as well.
    """
    if (keyctl := KEYCTL.get(os.uname().machine)) is not None:
        LIBC.syscall(keyctl, KEYCTL_JOIN_SESSION_KEYRING, None)


def bind_aliases(aliases: dict[str, str]) -> None:
    """Bind each source (key) to its alias (value) in a new tmpfs on ALIAS_FOLDER, visible to this process only."""
    call("unshare", CLONE_NEWNS)
    mount("none", "/", MS_REC | MS_PRIVATE)
    # Held open, because paths below ALIAS_FOLDER are covered after the mount.
    sources = {os.open(source, os.O_PATH): alias for source, alias in aliases.items()}
    mount("tmpfs", ALIAS_FOLDER, MS_NOSUID | MS_NODEV, kind="tmpfs", options="mode=755")
    for descriptor, alias in sources.items():
        held = f"/proc/self/fd/{descriptor}"
        if os.path.isdir(held):
            os.mkdir(alias, 0o755)
        else:
            os.close(os.open(alias, os.O_CREAT | os.O_WRONLY, 0o644))
        mount(held, alias, MS_BIND | MS_REC)
        os.close(descriptor)


def mount(source: str, target: str, flags: int, kind: str = "none", options: str = "") -> None:
    call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())


def call(name: str, *arguments: object) -> None:
    """Call a libc function; on failure end this process with one line on stderr."""
    if getattr(LIBC, name)(*arguments) != 0:
        sys.exit(f"launcher: {name}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
