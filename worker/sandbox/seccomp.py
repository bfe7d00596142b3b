"""The system calls that a sandboxed process may make: a BPF program for the kernel's seccomp filter.

A refused call fails with EPERM, or with ENOSYS where callers know kernels without that call and use another way. Every
call up to LAST_CALL was considered; newer ones and those of another ABI (32-bit, x32) fail with ENOSYS.

Refused to everybody: what Docker's default profile refuses to a process without capabilities
(https://github.com/moby/profiles/blob/main/seccomp/default.json), under which CUDA and torch are known to work, and
further parts of the kernel that no program here needs. Refused to runs as well: what reads or changes state of the
kernel that sandboxes share, such as the page cache of an installed library, and memory that no limit counts.
docs/decisions/0022-what-a-sandbox-may-call.md says why, what torch, Triton and CUDA call, and what remains.
"""

import errno
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

from worker.sandbox.base import SandboxUnavailable

ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""AUDIT_ARCH_* of <linux/audit.h>, and the place of the architecture in CALLS."""

LAST_CALL = 462  # mseal, of Linux 6.10; x32's numbers start at 2**30

Numbers = tuple[int, int | None]
"""A call's numbers in <asm/unistd.h> of x86_64 and aarch64; None where the architecture lacks it."""

# fmt: off
KERNEL: dict[str, Numbers] = {
    "acct": (163, 89), "adjtimex": (159, 171), "bpf": (321, 280), "chroot": (161, 51), "clock_adjtime": (305, 266),
    "clock_settime": (227, 112), "delete_module": (176, 106), "finit_module": (313, 273), "init_module": (175, 105),
    "kexec_file_load": (320, 294), "kexec_load": (246, 104), "lookup_dcookie": (212, 18), "mount": (165, 40),
    "umount2": (166, 39), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "move_mount": (429, 429), "open_tree": (428, 428), "mount_setattr": (442, 442), "statmount": (457, 457),
    "listmount": (458, 458), "lsm_get_self_attr": (459, 459), "lsm_set_self_attr": (460, 460),
    "lsm_list_modules": (461, 461), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "nfsservctl": (180, 42), "perf_event_open": (298, 241), "pivot_root": (155, 41), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "reboot": (169, 142), "setdomainname": (171, 162), "sethostname": (170, 161),
    "setns": (308, 268), "settimeofday": (164, 170), "swapoff": (168, 225), "swapon": (167, 224),
    "syslog": (103, 116), "unshare": (272, 97), "userfaultfd": (323, 282), "vhangup": (153, 58),
    # Keys of a login or of another sandbox.
    "add_key": (248, 217), "keyctl": (250, 219), "request_key": (249, 218),
    # Other processes' memory and descriptors.
    "kcmp": (312, 272), "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "ptrace": (101, 117),
    # Where pages lie, theirs and those that are shared.
    "get_mempolicy": (239, 236), "mbind": (237, 235), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "set_mempolicy": (238, 237), "set_mempolicy_home_node": (450, 450),
    "clone3": (435, 435), "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "io_uring_setup": (425, 425),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "memfd_secret": (447, 447),
    # Of x86 alone.
    "_sysctl": (156, None), "create_module": (174, None), "get_kernel_syms": (177, None), "ioperm": (173, None),
    "iopl": (172, None), "modify_ldt": (154, None), "query_module": (178, None), "sysfs": (139, None),
    "uselib": (134, None), "ustat": (136, None),
}
SHARED_STATE: dict[str, Numbers] = {
    # The page cache: what is in it, and what is put in or thrown out other than by reading.
    "cachestat": (451, 451), "fadvise64": (221, 223), "mincore": (27, 232), "readahead": (187, 213),
    "sync": (162, 81), "sync_file_range": (277, 84), "syncfs": (306, 267),
    # Asynchronous reads take the flags that preadv2 may not.
    "io_cancel": (210, 3), "io_destroy": (207, 1), "io_getevents": (208, 4), "io_pgetevents": (333, 292),
    "io_setup": (206, 0), "io_submit": (209, 2),
    # A pidfd's inode numbers the processes of the whole machine.
    "pidfd_open": (434, 434),
    # Who else opens or reads a file.
    "inotify_add_watch": (254, 27), "inotify_init": (253, None), "inotify_init1": (294, 26),
    "inotify_rm_watch": (255, 28),
    # The cores of `--cores`.
    "sched_setaffinity": (203, 122),
}
UNCOUNTED_MEMORY: dict[str, Numbers] = {
    # Belongs to no process: System V segments and queues, POSIX queues, pages given to a pipe.
    "mq_getsetattr": (245, 185), "mq_notify": (244, 184), "mq_open": (240, 180), "mq_timedreceive": (243, 183),
    "mq_timedsend": (242, 182), "mq_unlink": (241, 181), "msgctl": (71, 187), "msgget": (68, 186), "msgrcv": (70, 188),
    "msgsnd": (69, 189), "semctl": (66, 191), "semget": (64, 190), "semop": (65, 193), "semtimedop": (220, 192),
    "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197), "shmget": (29, 194), "vmsplice": (278, 75),
    # Access lists of files in memory, 128 KiB for each folder. Without namespaces: what one writes, no other may open.
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    # Filters and rules of one's own: 65,536 ports in each set.
    "seccomp": (317, 277), "landlock_create_ruleset": (444, 444), "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}
MEMFD: dict[str, Numbers] = {"memfd_create": (319, 279)}
CHECKED: dict[str, Numbers] = {
    "clone": (56, 220), "fcntl": (72, 25), "flock": (73, 32), "getsockopt": (55, 209), "ioctl": (16, 29),
    "madvise": (28, 233), "mmap": (9, 222), "personality": (135, 92), "prctl": (157, 167), "preadv2": (327, 286),
    "pwritev2": (328, 287), "rt_sigaction": (13, 134), "setsockopt": (54, 208), "socket": (41, 198),
    "socketpair": (53, 199), "umask": (95, 166), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53),
    "fchmodat2": (452, 452), "futimesat": (261, None), "utime": (132, None), "utimensat": (280, 88),
    "utimes": (235, None), "setsid": (112, 157), "close_range": (436, 436),
}
# fmt: on
# CUDA does not start without memfd_create: https://github.com/NVIDIA/OpenShell/issues/1696

ABSENT = (
    "cachestat", "clone3", "fanotify_init", "io_setup", "io_uring_setup", "memfd_create", "memfd_secret",
    "landlock_create_ruleset", "pidfd_open",
)  # fmt: skip
"""Calls that fail with ENOSYS."""

ALLOW, FAIL = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
DENY, MISSING = FAIL | errno.EPERM, FAIL | errno.ENOSYS
PRETEND = FAIL
"""The call succeeds without being made."""


@dataclass(frozen=True)
class ArgumentRule:
    """Decides about a call by the low 32 bits of one argument, all that the kernel reads of these arguments."""

    argument: int
    cases: Mapping[int, int]
    otherwise: int = DENY
    mask: int = 0xFFFFFFFF


NEW_NAMESPACES = 0x7E020000  # CLONE_NEW* of <linux/sched.h>
NO_NAMESPACES = ArgumentRule(0, {0: ALLOW}, mask=NEW_NAMESPACES)
NO_PERSONALITY = ArgumentRule(0, dict.fromkeys((0, 8, 0x20000, 0x20008, 0xFFFFFFFF), ALLOW))  # as in Docker's profile

UNIX, INET, INET6, NETLINK = 1, 2, 10, 16  # AF_*
FOR_ALL = {"clone": NO_NAMESPACES, "personality": NO_PERSONALITY}
FOR_TOOLS = {
    "socket": ArgumentRule(0, dict.fromkeys((UNIX, INET, INET6, NETLINK), ALLOW)),
    "socketpair": ArgumentRule(0, {UNIX: ALLOW}),
}
FOR_RUNS = {
    "socket": ArgumentRule(0, {UNIX: ALLOW}),
    "socketpair": ArgumentRule(0, {UNIX: ALLOW}),
    # Not as it is for all: CLONE_PIDFD, nor a thread (CLONE_THREAD) without CLONE_FILES: descriptors of its own, which
    # nobody counts. So could CLOSE_RANGE_UNSHARE have them; CLOSE_RANGE_CLOEXEC may pass.
    "clone": ArgumentRule(0, dict.fromkeys((0, 0x400, 0x10400), ALLOW), mask=NEW_NAMESPACES | 0x11400),
    "close_range": ArgumentRule(2, dict.fromkeys((0, 4), ALLOW)),
    # /proc/self/autogroup numbers the sessions of the whole machine.
    "setsid": ArgumentRule(0, {}, PRETEND),
    # SO_SNDBUF and SO_SNDBUFFORCE: the memory that a socket holds; filters (SO_ATTACH_*); SO_PASSPIDFD. SO_COOKIE
    # numbers the sockets of all sandboxes, SO_PEERPIDFD opens a pidfd.
    "setsockopt": ArgumentRule(2, dict.fromkeys((7, 26, 32, 50, 51, 52, 76), DENY), ALLOW),
    "getsockopt": ArgumentRule(2, dict.fromkeys((57, 77), DENY), ALLOW),
    # RWF_NOWAIT tells what is in the page cache, RWF_DONTCACHE throws it out.
    "preadv2": ArgumentRule(5, {0: ALLOW}, FAIL | errno.EOPNOTSUPP),
    "pwritev2": ArgumentRule(5, {0: ALLOW}, FAIL | errno.EOPNOTSUPP),
    # Not: REMOVE, (UN)MERGEABLE, COLD, PAGEOUT, COLLAPSE, and those for testing memory failures.
    "madvise": ArgumentRule(2, dict.fromkeys((*range(5), 8, 10, 11, *range(14, 20), 22, 23, 24), ALLOW)),
    # F_DUPFD to F_SETFL, owner and signal, F_DUPFD_CLOEXEC, F_DUPFD_QUERY, pipe sizes and seals. Not: leases,
    # directory notes and write hints, which live in the shared inode.
    "fcntl": ArgumentRule(
        1,
        dict.fromkeys((*range(5), 8, 9, 10, 11, 15, 16, 1027, 1030, *range(1031, 1035)), ALLOW)
        | dict.fromkeys((6, 7, 37, 38), PRETEND),
    ),
    # Locks of a library's file would be seen by others. What torch's compiler locks is its own scratch.
    "flock": ArgumentRule(0, {}, PRETEND),
    # Devices such as /dev/null are the machine's: whoever may write to one may set its times to now, for the next one.
    **dict.fromkeys(("futimesat", "utime", "utimensat", "utimes"), ArgumentRule(0, {}, PRETEND)),
    # File systems' own calls (types `f`, `X` and btrfs's): extent caches, flags. CUDA's are `F` and 0.
    "ioctl": ArgumentRule(1, dict.fromkeys((0x6600, 0x5800, 0x9400), FAIL | errno.ENOTTY), ALLOW, mask=0xFF00),
    # Files' pages, and private ones. Not MAP_HUGETLB, nor shared memory without a file: its pages stay when the process
    # that wrote them has ended, and then count for none.
    "mmap": ArgumentRule(3, dict.fromkeys((1, 2, 3, 0x22), ALLOW), FAIL | errno.ENOMEM, mask=0x4002F),
    # What Linux 6.15 has, names of memory (PR_SET_VMA) and PR_SET_PTRACER. Not: PR_SET_SECCOMP; PR_SCHED_CORE, which
    # keeps others from the other half of a core; PR_SET_MEMORY_MERGE, after which writing to pages equal to others'
    # takes longer; PR_FUTEX_HASH, a table in the kernel as large as one likes.
    "prctl": ArgumentRule(
        0,
        dict.fromkeys({*range(1, 78), 0x53564D41, 0x59616D61} - {22, 62, 67}, ALLOW),
        FAIL | errno.EINVAL,
    ),
}

# SIGCHLD: the kernel forgets the CPU time of children whose parent ignores it.
WHERE_CPU_TIME_COUNTS = {"rt_sigaction": ArgumentRule(0, {17: PRETEND}, ALLOW)}

NOT_FOR_OTHERS = ArgumentRule(1, {0: ALLOW}, PRETEND, mask=0o077)
WITHOUT_NAMESPACES = {
    "socket": ArgumentRule(0, {}),  # only pairs: one of Unix could reach whoever listens in a file
    "umask": ArgumentRule(0, {}, PRETEND),
    "chmod": NOT_FOR_OTHERS,
    "fchmod": NOT_FOR_OTHERS,
    "fchmodat": replace(NOT_FOR_OTHERS, argument=2),
    "fchmodat2": replace(NOT_FOR_OTHERS, argument=2),
}
"""For sandboxes that share file systems with others: what one writes, no other may open."""

WITH_GPU = {"mmap": ArgumentRule(3, {0: ALLOW}, FAIL | errno.ENOMEM, mask=0x40000)}
"""The driver may share memory with the GPU."""

LOAD, AND, JUMP_IF_EQUAL, JUMP_IF_GREATER, RETURN = 0x20, 0x54, 0x15, 0x25, 0x06  # BPF, each with a constant
AT_NUMBER, AT_ARCHITECTURE, AT_ARGUMENTS = 0, 4, 16  # in struct seccomp_data, of <linux/seccomp.h>

Instruction = tuple[int, int, int, int]
"""Operation, instructions to skip if true and if false, constant."""


@cache
def filter_of_run(
    gpu: bool, machine: str = os.uname().machine, counts_cpu_time: bool = False, has_namespaces: bool = True
) -> bytes:
    """The program for strangers' code; `counts_cpu_time` as in `SandboxRequest`.

    Raises SandboxUnavailable on other architectures.
    """
    denied = KERNEL | SHARED_STATE | UNCOUNTED_MEMORY | ({} if gpu else MEMFD)
    checks = FOR_ALL | FOR_RUNS | (WITH_GPU if gpu else {}) | (WHERE_CPU_TIME_COUNTS if counts_cpu_time else {})
    if not has_namespaces:
        checks |= WITHOUT_NAMESPACES
    return _assemble(denied, checks, machine)


@cache
def filter_of_tool(machine: str = os.uname().machine) -> bytes:
    """The program for a coding tool, which has the network and the volunteer's own files, and locks these."""
    return _assemble(KERNEL, FOR_ALL | FOR_TOOLS, machine)


def _assemble(denied: Mapping[str, Numbers], checks: Mapping[str, ArgumentRule], machine: str) -> bytes:
    if machine not in ARCHITECTURES:
        raise SandboxUnavailable(
            f"system calls can be filtered on {' and '.join(ARCHITECTURES)}, and this machine is {machine}: "
            "run strangers' code unprotected with `--sandbox unconfined`"
        )
    architecture, place = ARCHITECTURES[machine]
    program: list[Instruction] = [
        (LOAD, 0, 0, AT_ARCHITECTURE),
        (JUMP_IF_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, MISSING),
        (LOAD, 0, 0, AT_NUMBER),
        (JUMP_IF_GREATER, 0, 1, LAST_CALL),
        (RETURN, 0, 0, MISSING),
    ]
    blocks = [(CHECKED[name][place], list(_decide(check))) for name, check in checks.items()]
    for name, numbers in denied.items():
        blocks.append((numbers[place], [(RETURN, 0, 0, MISSING if name in ABSENT else DENY)]))
    for number, block in blocks:
        if number is not None:
            program += [(JUMP_IF_EQUAL, 0, len(block), number), *block]
    program.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def _decide(check: ArgumentRule) -> Iterator[Instruction]:
    yield (LOAD, 0, 0, AT_ARGUMENTS + 8 * check.argument)  # both architectures are little-endian
    if check.mask != 0xFFFFFFFF:
        yield (AND, 0, 0, check.mask)
    for value, action in check.cases.items():
        yield from ((JUMP_IF_EQUAL, 0, 1, value), (RETURN, 0, 0, action))
    yield (RETURN, 0, 0, check.otherwise)
