"""The memory between scorer and host: token windows one way, logits the other.

The scorer asks for the logits at `span` positions of each row, from the row's `first` on. The request is int64: `span`,
then `first` of each row, then the tokens (rows, length). The answer is float32: (rows, span, vocabulary).
"""

import contextlib
import mmap

import numpy

# Of a request, which has at least one row. Few large ones keep a GPU busier than many small ones.
MAX_ROWS = 32
MAX_ANSWER_BYTES = 512 * 1024 * 1024  # eight rows of 2,048 tokens with 8,192 logits each


def size_memories(length: int, vocab_size: int, count: int) -> tuple[int, int, int]:
    """The rows of each request if as few as can be ask for `count`, and the sizes of request and answer in bytes."""
    row_bytes = length * vocab_size * 4
    most = max(1, min(MAX_ROWS, MAX_ANSWER_BYTES // row_bytes))
    rows = -(-count // -(-count // most))
    return rows, 8 * (1 + rows + rows * length), rows * row_bytes


def lock_pages(array: numpy.ndarray, device: str) -> None:
    """Let a GPU copy from and to this memory by itself. Where the system refuses, copies are slower; no more."""
    import torch  # noqa: PLC0415 - the scorer of a CPU run does without

    if int(torch.cuda.cudart().cudaHostRegister(array.ctypes.data, array.nbytes, 0)) != 0:
        with contextlib.suppress(RuntimeError):  # the refusal stays pending until a launch asks for errors
            torch.zeros(1, device=device)


class Windows:
    """One process's view of both memories. For a GPU their pages are locked, which makes copies faster."""

    def __init__(self, facts: dict, device: str, request: int, answer: int) -> None:
        self.rows: int = facts["rows"]
        self.length: int = facts["sequence_length"]
        self.vocab_size: int = facts["vocab_size"]
        self._request = numpy.frombuffer(mmap.mmap(request, 0), dtype=numpy.int64)
        self._answer = numpy.frombuffer(mmap.mmap(answer, 0), dtype=numpy.float32)
        if device != "cpu":
            lock_pages(self._answer, device)

    def write(self, tokens: numpy.ndarray, first: numpy.ndarray, span: int) -> None:
        """Put a request: `tokens` int64 (rows, length), `first` (rows,)."""
        rows = len(tokens)
        self._request[0] = span
        self._request[1 : 1 + rows] = first
        self._request[1 + self.rows : 1 + self.rows + tokens.size] = tokens.ravel()

    def read(self, rows: int) -> tuple[numpy.ndarray, numpy.ndarray, int]:
        """The current request: a copy of its tokens and of `first`, and `span`."""
        begin = 1 + self.rows
        tokens = self._request[begin : begin + rows * self.length].reshape(rows, self.length).copy()
        return tokens, self._request[1 : 1 + rows].copy(), int(self._request[0])

    def logits(self, rows: int, span: int) -> numpy.ndarray:
        """The memory of the answer to `rows` rows: float32 (rows, span, vocabulary)."""
        return self._answer[: rows * span * self.vocab_size].reshape(rows, span, self.vocab_size)
