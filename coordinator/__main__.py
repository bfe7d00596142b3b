"""Entry point of `swarm-coordinator`, also as `python -m coordinator`."""

import gc
import os

gc.disable()  # objects made while modules load are never garbage; searching them takes a fifth of a start
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads wait for each other by computing, beside requests

from coordinator.cli import main as run  # noqa: E402  the lines above must come first


def main() -> None:
    """Run the command line. Later searches for garbage skip the objects that exist now."""
    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    main()
