"""What can be told of edited files without running them: that they are within the contract's sizes."""

import lzma
from collections.abc import Mapping

from shared.contract import Files

_PACKING = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}]


def find_excess(files: Mapping[str, str], limits: Files) -> str | None:
    """Why these files are not to be run, as a sentence; None if they may be."""
    texts = {path: files.get(path, "").encode() for path in limits.editable}
    for path, text in texts.items():
        if len(text) > limits.max_bytes:
            return f"{path} has {len(text):,} bytes; the contract allows {limits.max_bytes:,}"
    if limits.max_text_bytes is not None:
        size = pack(b"".join(texts.values()))
        if size > limits.max_text_bytes:
            return (
                f"{' and '.join(texts)} hold {size:,} bytes when they are packed; the contract allows "
                f"{limits.max_text_bytes:,}, because knowledge of the data does not belong into the code"
            )
    return None


def pack(text: bytes) -> int:
    """How many bytes of knowledge a text can carry: those that a compressor makes of it.

    A program reads its own source, so that anything can be hidden there: not in strings and comments alone, but also
    in names, in the order of operators, or in blanks. All of it has to be packed.
    """
    return len(lzma.compress(text, format=lzma.FORMAT_RAW, filters=_PACKING))
