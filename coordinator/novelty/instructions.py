"""What Python's compiler makes of a source, as bytes that can be hashed."""

from collections.abc import Iterator, Mapping
from types import CodeType, MappingProxyType

NO_DOCSTRINGS = 2
"""`optimize` of `compile`: docstrings and assertions go."""

NOT_COMPILED = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)
"""What `compile_source` raises, whatever it is given."""

NOTHING: Mapping[int, bytes] = MappingProxyType({})


def compile_source(text: str, flags: int = 0) -> CodeType:
    """The code of a module; `flags` are those of `__future__`. Nothing is run. Raises one of NOT_COMPILED."""
    code = compile(text, "a.py", "exec", flags=flags, dont_inherit=True, optimize=NO_DOCSTRINGS)
    assert isinstance(code, CodeType)
    return code


def describe(code: CodeType, known: Mapping[int, bytes] = NOTHING) -> bytes:
    """Everything that tells two pieces of code apart, but not where they stand nor what their locals are called.

    `known` has descriptions of the code's own constants, by their number.
    """
    return b"".join(_list_parts(code, known))


def _list_parts(code: CodeType, known: Mapping[int, bytes]) -> Iterator[bytes]:
    arguments = code.co_argcount + code.co_kwonlyargcount
    names = (code.co_name, code.co_names, code.co_varnames[:arguments], code.co_flags, arguments)
    yield b"%b\0%b\0%b\0" % (code.co_code, code.co_exceptiontable, repr(names).encode())
    for number, constant in enumerate(code.co_consts):
        if number in known:
            yield known[number]
        elif isinstance(constant, CodeType):
            yield from _list_parts(constant, NOTHING)
        elif isinstance(constant, frozenset):  # its order changes from process to process
            yield repr(sorted(map(repr, constant))).encode() + b"\0"
        else:
            yield repr(constant).encode() + b"\0"
