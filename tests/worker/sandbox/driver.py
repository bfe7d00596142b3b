"""A stand-in for the worker: starts one sandboxed process, as root or as a plain user, and prints its outcome.

Run as `python driver.py REQUEST`, REQUEST being the JSON of a DriverRequest.
"""

import json
import os
import stat
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
sys.path.insert(0, str(REPOSITORY))

from worker.sandbox import Limits, SandboxRequest, choose_sandbox  # noqa: E402 - the path comes first
from worker.sandbox.launcher import CLONE_NEWNS, MS_BIND, MS_PRIVATE, MS_REC, call, mount  # noqa: E402


@dataclass(frozen=True)
class DriverRequest:
    """`uid`: the plain user to become, None: stay. After `timeout` seconds the process is killed."""

    sandbox: str
    argv: list[str]
    limits: dict[str, int]
    folder: str
    timeout: float
    uid: int | None = None
    cores: list[int] | None = None


def main() -> None:
    asked = DriverRequest(**json.loads(sys.argv[1]))
    if asked.uid is not None:
        become(asked.uid, [Path(sys.prefix), Path(sys.base_prefix), REPOSITORY])
    sandbox = choose_sandbox(asked.sandbox)  # type: ignore[arg-type]  # tests give one of the names
    cores = frozenset(asked.cores) if asked.cores else None
    request = SandboxRequest(tuple(asked.argv), Limits(**asked.limits), Path(asked.folder), cores=cores)
    process = sandbox.start(request)
    print(json.dumps(asdict(process.wait(asked.timeout) or process.kill())))  # noqa: T201 - its answer


def become(uid: int, needed: list[Path]) -> None:
    """Become a plain user who can reach the `needed` folders even below folders that are closed to others."""
    call("unshare", CLONE_NEWNS)
    mount("none", "/", MS_REC | MS_PRIVATE)
    for path in needed:
        held = os.open(path, os.O_PATH)
        closed = [p for p in reversed(path.parents) if not p.stat().st_mode & stat.S_IXOTH]
        if closed:
            mount("tmpfs", str(closed[0]), 0, kind="tmpfs", options="mode=755")
            path.mkdir(parents=True)
            mount(f"/proc/self/fd/{held}", str(path), MS_BIND | MS_REC)
        os.close(held)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


if __name__ == "__main__":
    main()
