"""Runs the edited file's `build`: `python -m harness.trainer <descriptor>`, started in a sandbox.

Importing the edited file costs no budget. The clock runs from `start` to `trained`, and is the worker's own.
"""

import importlib
import json
import os
from types import ModuleType

from harness.channel import Channel, Fault, open_channel


def main() -> None:
    channel = open_channel()
    begin, (handover,) = channel.expect("begin")
    try:
        build(channel, begin, handover)
    except BaseException as error:
        channel.fail(error, begin["editable"])
        raise


def build(channel: Channel, begin: dict, handover: int) -> None:
    edited = import_edited(begin["editable"][0], ("build", "answer"))
    channel.send("start")
    _, (train,) = channel.expect("started")
    examples = json.loads(os.pread(train, os.fstat(train).st_size, 0))
    built = edited.build(examples)
    if not isinstance(built, bytes) or len(built) > begin["handover_bytes"]:
        raise Fault(f"build(examples) must return at most {begin['handover_bytes']:,} bytes")
    os.pwrite(handover, built, 0)
    # A project that trains sends `progress` now and then, with step and loss: people see it, and a curve is kept.
    channel.send("trained", size=len(built))


def import_edited(path: str, functions: tuple[str, ...]) -> ModuleType:
    """The edited file as a module that defines `functions`."""
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for name in functions:
        if not callable(getattr(module, name, None)):
            raise Fault(f"{path} defines no function `{name}`")
    return module


if __name__ == "__main__":
    main()
