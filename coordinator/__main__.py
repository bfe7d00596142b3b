"""Entry point of `swarm-coordinator`, also as `python -m coordinator`."""

import gc
import os

gc.set_threshold(50_000, 20, 20)  # modules that load make no garbage; searching them takes a fifth of a command
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads wait for each other by computing, beside requests

from coordinator.cli import main as run  # noqa: E402  the lines above must come first


def main() -> None:
    """Run the command line. The search for garbage with which a process ends skips what is there."""
    try:
        run()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
