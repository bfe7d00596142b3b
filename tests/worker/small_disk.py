"""A disk that fills up, for a program of its own: run by bubblewrap with a small file system in memory."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DISK_MIB = 16


def run_on_small_disk(folder: Path, code: str, *arguments: str) -> list[str]:
    """Run Python code where `folder` is a disk of 16 MiB, which `fill()` fills and `make_room()` empties again.

    Its words on stdout, line by line. `DISK` is the folder, `sys.argv[1:]` are the arguments.
    """
    preamble = f"""
        import os, sys
        from pathlib import Path
        DISK = Path({str(folder)!r})

        def fill():
            with open(DISK / "filler", "ab", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError as error:
                    assert error.errno == 28, error

        def make_room():
            (DISK / "filler").unlink()
    """
    program = textwrap.dedent(preamble) + textwrap.dedent(code)
    command = [
        "bwrap",
        "--dev-bind",
        "/",
        "/",
        "--size",
        str(DISK_MIB << 20),
        "--tmpfs",
        str(folder),
        "--die-with-parent",
    ]
    done = subprocess.run(
        [*command, sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, timeout=120, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
