"""How hard windows are for counted n-grams of the training text, so that draws can be balanced by it (draw.py).

Losses of orders 0 to 2, by interpolated counts (Witten and Bell, 1991), and the bytes that a window stands for.
"""

import numpy

ORDERS = 3
MAX_COUNTED = 20_000_000  # tokens of the training text; more would change little
WINDOWS_AT_ONCE = 1024


def describe_windows(windows: numpy.ndarray, train: numpy.ndarray, byte_lengths: numpy.ndarray) -> numpy.ndarray:
    """Features (windows, ORDERS + 1) of windows (windows, length + 1): the loss of each order in nats, and bytes."""
    tables = [count(train[:MAX_COUNTED].astype(numpy.int64), order, len(byte_lengths)) for order in range(ORDERS)]
    parts = [windows[at : at + WINDOWS_AT_ONCE] for at in range(0, len(windows), WINDOWS_AT_ONCE)]
    losses = [find_losses(part.astype(numpy.int64), tables, len(byte_lengths)) for part in parts]
    sizes = byte_lengths[windows[:, 1:]].sum(axis=1)
    return numpy.column_stack([numpy.concatenate(losses) if losses else numpy.zeros((0, ORDERS)), sizes])


def count(tokens: numpy.ndarray, order: int, vocab_size: int) -> tuple[numpy.ndarray, ...]:
    """Sorted n-grams as numbers with their counts, then their beginnings with counts and numbers of continuations."""
    grams = combine([tokens[at : len(tokens) - order + at] for at in range(order + 1)], vocab_size)
    found, counts = numpy.unique(grams, return_counts=True)
    beginnings, kinds = numpy.unique(found // vocab_size, return_counts=True)
    totals = numpy.add.reduceat(counts, numpy.searchsorted(found // vocab_size, beginnings))
    return found, counts, beginnings, totals, kinds


def combine(columns: list[numpy.ndarray], vocab_size: int) -> numpy.ndarray:
    """One number for the tokens at the same place of all columns."""
    result = numpy.zeros(columns[0].shape, dtype=numpy.int64)
    for column in columns:
        result = result * vocab_size + column
    return result


def find_losses(windows: numpy.ndarray, tables: list[tuple[numpy.ndarray, ...]], vocab_size: int) -> numpy.ndarray:
    """The loss of each window (rows,) under each order, in nats: (rows, orders)."""
    length = windows.shape[1] - 1
    probability, losses = numpy.full((len(windows), length), 1 / vocab_size), []
    for order, (grams, counts, beginnings, totals, kinds) in enumerate(tables):
        begin = max(0, order - 1)  # the first targets have too little before them
        asked = combine([windows[:, begin + 1 - back : length + 1 - back] for back in range(order, -1, -1)], vocab_size)
        where, is_known = find(beginnings, asked // vocab_size)
        total, kind = totals[where] * is_known, kinds[where] * is_known
        where, is_known = find(grams, asked)
        seen, below = counts[where] * is_known, probability[:, begin:]
        better = (seen + kind * below) / numpy.maximum(total + kind, 1)
        probability[:, begin:] = numpy.where(total > 0, better, below)
        losses.append(-numpy.log(probability).sum(axis=1))
    return numpy.column_stack(losses)


def find(table: numpy.ndarray, wanted: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Where in a sorted table the numbers are, and whether they are there at all."""
    where = numpy.minimum(numpy.searchsorted(table, wanted), len(table) - 1)
    return where, table[where] == wanted
