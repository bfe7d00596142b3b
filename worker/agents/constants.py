"""Module-level constants of a Python file: read them, and rewrite their values with every other byte as it was.

A constant is an UPPER_CASE name that is assigned one literal (bool, int, float or str), once, at module level:
`EMBEDDING_LR = 0.003` or `DEPTH: int = 4`. A name that is assigned twice is left alone, for it is not clear which
one counts.
"""

import ast
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from shared.experiments import Setting

MAX_SETTINGS = 200
"""As many as a proposal may have."""

_NAME = re.compile(r"^[A-Z][A-Z0-9_]*$")


class ConstantsError(ValueError):
    """The file is not Python, or has no such constant; the message says which."""


@dataclass(frozen=True)
class Constant:
    """A constant, where its value stands (line from 0; start and end in bytes), and the comment beside it."""

    name: str
    value: Setting
    line: int
    start: int
    end: int
    comment: str


def read_constants(source: str) -> dict[str, Constant]:
    """The constants of a file by name, in the file's order. Raises ConstantsError if it is not Python."""
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise ConstantsError(f"the file is not valid Python: {error}") from error
    lines = _lines(source)
    assigned = Counter(name for statement in module.body for name in _targets(statement))
    found = (_read(statement, lines) for statement in module.body)
    return {c.name: c for c in found if c is not None and assigned[c.name] == 1}


def read_settings(files: Mapping[str, str]) -> dict[str, Setting]:
    """The constants of these files' Python, as a proposal tells them; none where one is not valid Python."""
    settings: dict[str, Setting] = {}
    for path, text in files.items():
        if path.endswith(".py"):
            try:
                settings |= {name: constant.value for name, constant in read_constants(text).items()}
            except ConstantsError:
                return {}  # such a file is a trial too, and its run will say so
    return dict(list(settings.items())[:MAX_SETTINGS])


def rewrite_constants(source: str, values: Mapping[str, Setting]) -> str:
    """The file with these constants' values replaced. Raises ConstantsError for a name that is no constant of it."""
    constants = read_constants(source)
    unknown = sorted(values.keys() - constants.keys())
    if unknown:
        raise ConstantsError(f"the file has no constant {', '.join(unknown)}")
    lines = _lines(source)
    # From the end, so that positions of constants on the same line stay true.
    for constant in sorted((constants[name] for name in values), key=lambda c: (c.line, c.start), reverse=True):
        line = lines[constant.line]
        lines[constant.line] = (
            line[: constant.start] + format_value(values[constant.name]).encode() + line[constant.end :]
        )
    return b"".join(lines).decode()


def format_value(value: Setting) -> str:
    """A value as Python source: the shortest form that reads back as the same value and type."""
    return repr(value)


def _lines(source: str) -> list[bytes]:
    """Lines as the parser counts them; its columns are in bytes of UTF-8."""
    return source.encode().splitlines(keepends=True)


def _targets(statement: ast.stmt) -> list[str]:
    """Names that a module-level statement assigns."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def _read(statement: ast.stmt, lines: list[bytes]) -> Constant | None:
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return None
    names, node = _targets(statement), statement.value
    if len(names) != 1 or not _NAME.match(names[0]) or node is None or node.lineno != node.end_lineno:
        return None
    assert node.end_col_offset is not None
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    if not isinstance(value, bool | int | float | str):
        return None
    line = node.lineno - 1
    rest = lines[line][node.end_col_offset :].decode().strip()
    comment = rest[1:].strip() if rest.startswith("#") else ""
    return Constant(names[0], value, line, node.col_offset, node.end_col_offset, comment)
