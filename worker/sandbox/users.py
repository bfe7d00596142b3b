"""Users of this machine: one that is free for a sandboxed process, and what one has running."""

import random

import psutil

DYNAMIC_UIDS = range(61184, 65520)
"""systemd's range for users that exist only as long as a process: no package and no person has one of these."""


def unused_uid() -> int:
    """A uid that no process of this machine has."""
    used = {uid for p in psutil.process_iter(["uids"]) if p.info["uids"] for uid in p.info["uids"]}
    return random.choice([uid for uid in DYNAMIC_UIDS if uid not in used])


def threads_of_user(uid: int) -> int:
    """How many threads the user's processes have now: RLIMIT_NPROC counts threads, of all of them together."""
    processes = psutil.process_iter(["uids", "num_threads"])
    return sum(p.info["num_threads"] or 0 for p in processes if p.info["uids"] and p.info["uids"].real == uid)
