"""Entry point of `swarm-coordinator`, also as `python -m coordinator`."""

import gc

gc.disable()  # what modules make while they load lives for good; to search it for garbage takes a fifth of a start

from coordinator.cli import main as run  # noqa: E402  loading is what the line above is for


def main() -> None:
    """Run the command line. What is loaded by now is left out of every later search for garbage."""
    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    main()
