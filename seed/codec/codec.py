"""Compresses English text, and gives it back. This is the file to change.

The harness calls two functions of this file, in two sandboxes that share nothing but what `compress` returns:

    compress(text: bytes) -> bytes
    decompress(packed: bytes) -> bytes

The metric is bits per byte of text, this file's own bytes included. Lower is better. See program.md; `# choices:`
beside a constant tells the search agent where it may go.
"""

import lzma

LITERAL_CONTEXT = 3  # choices: 0, 1, 2, 3, 4
LITERAL_POSITION = 0  # choices: 0, 1, 2
POSITION_BITS = 2  # choices: 0, 1, 2, 3, 4
NICE_LENGTH = 64  # choices: 8, 16, 32, 64, 128, 273
SEARCH_DEPTH = 0  # choices: 0, 16, 64, 256, 1000

assert LITERAL_CONTEXT + LITERAL_POSITION <= 4, "LZMA's own limit"

FILTERS = [
    {
        "id": lzma.FILTER_LZMA2,
        "dict_size": 1 << 23,
        "lc": LITERAL_CONTEXT,
        "lp": LITERAL_POSITION,
        "pb": POSITION_BITS,
        "mode": lzma.MODE_NORMAL,
        "nice_len": NICE_LENGTH,
        "mf": lzma.MF_BT4,
        "depth": SEARCH_DEPTH,
    }
]


def compress(text: bytes) -> bytes:
    return lzma.compress(text, format=lzma.FORMAT_RAW, filters=FILTERS)


def decompress(packed: bytes) -> bytes:
    return lzma.decompress(packed, format=lzma.FORMAT_RAW, filters=FILTERS)
