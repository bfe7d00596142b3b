"""Compresses: `python -m harness.trainer <descriptor>`, started by the worker in a sandbox.

The edited file defines `compress(text: bytes) -> bytes` and `decompress(packed: bytes) -> bytes`. Importing it costs no
budget. Then the clock starts, and only then does the text come.
"""

import importlib
import os
from types import ModuleType

from harness.channel import Channel, Fault, open_channel


def main() -> None:
    channel = open_channel()
    begin, (handover,) = channel.expect("begin")
    try:
        compress(channel, begin, handover)
    except BaseException as error:
        channel.fail(error, begin["editable"])
        raise


def compress(channel: Channel, begin: dict, handover: int) -> None:
    codec = import_edited(begin["editable"][0], ("compress", "decompress"))
    channel.send("start")
    _, (text,) = channel.expect("started")
    content = os.pread(text, os.fstat(text).st_size, 0)
    packed = codec.compress(content)
    if not isinstance(packed, bytes):
        raise Fault(f"compress(text) returned a {type(packed).__name__}, not bytes")
    if len(packed) > begin["handover_bytes"]:
        raise Fault(f"compress(text) returned {len(packed):,} bytes; {begin['handover_bytes']:,} are allowed")
    os.pwrite(handover, packed, 0)
    channel.send("trained", size=len(packed))


def import_edited(path: str, functions: tuple[str, ...]) -> ModuleType:
    """The edited file as a module that defines `functions`."""
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for name in functions:
        if not callable(getattr(module, name, None)):
            raise Fault(f"{path} defines no function `{name}`")
    return module


if __name__ == "__main__":
    main()
