"""Workers of one machine keep to different cores as long as there are enough."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
HOLD = """
import sys
from worker.cores import claim_cores
with claim_cores(int(sys.argv[1])) as cores:
    print(*sorted(cores), flush=True)
    input()
"""


@contextmanager
def claimed_by_a_worker(count: int, folder: Path) -> Iterator[list[int]]:
    """The cores that another process holds; claims are kept in `folder`, apart from this machine's real workers."""
    command = [sys.executable, "-c", HOLD, str(count)]
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        yield [int(core) for core in process.stdout.readline().split()]
        process.communicate("\n")


def test_gives_what_is_asked_for(tmp_path: Path) -> None:
    with claimed_by_a_worker(1, tmp_path) as cores:
        assert cores == CORES[:1]


def test_gives_all_if_there_are_fewer(tmp_path: Path) -> None:
    with claimed_by_a_worker(10_000, tmp_path) as cores:
        assert cores == CORES


def test_shares_only_when_it_must(tmp_path: Path) -> None:
    """Each worker gets a core of its own, and one too many shares."""
    with ExitStack() as stack:
        claims = [stack.enter_context(claimed_by_a_worker(1, tmp_path)) for _ in CORES]
        assert sorted(core for claim in claims for core in claim) == CORES
        with claimed_by_a_worker(1, tmp_path) as cores:
            assert cores == CORES[:1]


def test_frees_cores_at_the_end(tmp_path: Path) -> None:
    for _ in range(2):
        with claimed_by_a_worker(1, tmp_path) as cores:
            assert cores == CORES[:1]
