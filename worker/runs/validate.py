"""Checks the sizes of edited files against the contract, without running them."""

import lzma
from collections.abc import Mapping

from shared.contract import Files

_PACKING = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}]


def find_excess(files: Mapping[str, str], limits: Files) -> str | None:
    """The reason why these files may not run, as a sentence, or None."""
    texts = {path: files.get(path, "").encode() for path in limits.editable}
    for path, text in texts.items():
        if len(text) > limits.max_bytes:
            return f"{path} has {len(text):,} bytes; the contract allows {limits.max_bytes:,}"
    if limits.max_text_bytes is not None:
        size = pack(b"".join(texts.values()))
        if size > limits.max_text_bytes:
            return (
                f"{' and '.join(texts)}: {size:,} bytes when compressed; the contract allows "
                f"{limits.max_text_bytes:,}, because code must not contain knowledge of the data"
            )
    return None


def pack(text: bytes) -> int:
    """Compressed size of a text, a bound on the knowledge it can carry.

    The whole text counts, because a program can hide data in its own strings, comments, names, operators or blanks.
    """
    return len(lzma.compress(text, format=lzma.FORMAT_RAW, filters=_PACKING))
