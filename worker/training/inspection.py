"""What can be told of an edited file without running it: that it is within the contract's sizes."""

import io
import tokenize
from collections.abc import Mapping

from shared.contract import Files

_TEXT_TOKENS = {
    tokenize.STRING,
    tokenize.NUMBER,
    tokenize.COMMENT,
    getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING),  # Python 3.12 takes formatted strings apart
}


def find_excess(files: Mapping[str, str], limits: Files) -> str | None:
    """Why these files are not to be run, as a sentence; None if they may be.

    Strings, numbers and comments count together, because a program can read them all: that is where a text that was
    learnt by heart would have to stand.
    """
    for path in limits.editable:
        text = files.get(path, "")
        size = len(text.encode())
        if size > limits.max_bytes:
            return f"{path} has {size:,} bytes; the contract allows {limits.max_bytes:,}"
        if limits.max_text_bytes is not None and path.endswith(".py"):
            if len(limits.editable) == 1 and not _compiles(text):
                return None  # it fails by itself, with the line; and no other file is there to read it
            size = count_text(text)
            if size > limits.max_text_bytes:
                return (
                    f"{path} holds {size:,} bytes of strings, numbers and comments; the contract allows "
                    f"{limits.max_text_bytes:,}, because knowledge of the data does not belong into the file"
                )
    return None


def count_text(source: str) -> int:
    """The bytes of a Python file's strings, numbers and comments; all of its bytes where it is not Python."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return len(source.encode())
    return sum(len(token.string.encode()) for token in tokens if token.type in _TEXT_TOKENS)


def _compiles(source: str) -> bool:
    try:
        compile(source, "edited", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
