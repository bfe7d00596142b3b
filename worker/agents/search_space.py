"""Constants of a Python file, their search space (an annotation or a default), and rewriting their values.

A constant is an UPPER_CASE name that is assigned one literal (bool, int, float or str) exactly once, at module level.
A comment on its line may state its search space, alone or after other words:

    EMBEDDING_LR = 0.003  # range: 1e-4 to 3e-2, log
    HEADS: int = 4        # choices: 2, 3, 4, 6
    SEQUENCE_LENGTH = 128 # fixed

Defaults without one:

- a positive float: a quarter to four times its value, logarithmic. A fraction stays a fraction: from 0.5 (say, a
  momentum) the distance to 1 is scaled instead; below 0.5 the range ends at 0.5.
- a positive int: half to twice its value, logarithmic. From 32, multiples of 8 stay multiples of 8.
- the float zero: 0 to 0.2, because it is mostly a rate that is switched off.
- a bool: both values.
- strings, negative numbers and the int 0 are not searched: a guess would mostly break the file.
"""

import ast
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from shared.experiments import MAX_SETTING_CHARACTERS, MAX_SETTING_NAME, MAX_SETTING_NUMBER, MAX_SETTINGS, Setting

_NAME = re.compile(r"^[A-Z][A-Z0-9_]*$")


class ConstantsError(ValueError):
    """The file is not valid Python, or has no such constant; the message says which."""


@dataclass(frozen=True)
class Constant:
    """A constant, the position of its value (line from 0; start and end in bytes), and its comment."""

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


def read_values(source: str) -> dict[str, Setting]:
    """The values of a file's constants by name. Raises ConstantsError."""
    return {name: constant.value for name, constant in read_constants(source).items()}


def read_spaces(source: str) -> dict[str, "SearchSpace"]:
    """The search spaces of those constants of a file that are to be searched. Raises ConstantsError."""
    spaces = {name: find_space(constant) for name, constant in read_constants(source).items()}
    return {name: space for name, space in spaces.items() if space is not None}


def read_settings(files: Mapping[str, str]) -> dict[str, Setting]:
    """The constants of these files, for a proposal; none if a file is not valid Python."""
    settings: dict[str, Setting] = {}
    for path, text in files.items():
        if path.endswith(".py"):
            try:
                settings |= {name: value for name, value in read_values(text).items() if fits_proposal(name, value)}
            except ConstantsError:
                return {}  # the run will report the mistake
    return dict(list(settings.items())[:MAX_SETTINGS])


def fits_proposal(name: str, value: Setting) -> bool:
    """Whether a constant is one that a proposal may list."""
    fits = len(value) <= MAX_SETTING_CHARACTERS if isinstance(value, str) else abs(value) <= MAX_SETTING_NUMBER
    return fits and len(name) <= MAX_SETTING_NAME


def rewrite_constants(source: str, values: Mapping[str, Setting]) -> str:
    """The file with these values replaced. Raises ConstantsError for an unknown constant."""
    constants = read_constants(source)
    unknown = sorted(values.keys() - constants.keys())
    if unknown:
        raise ConstantsError(f"the file has no constant {', '.join(unknown)}")
    lines = _lines(source)
    # From the end, so that positions on the same line stay valid.
    for constant in sorted((constants[name] for name in values), key=lambda c: (c.line, c.start), reverse=True):
        line = lines[constant.line]
        lines[constant.line] = line[: constant.start] + repr(values[constant.name]).encode() + line[constant.end :]
    return b"".join(lines).decode()


def _lines(source: str) -> list[bytes]:
    """Lines as the parser counts them, in bytes because its columns are."""
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


_NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\brange:\s*({_NUMBER})\s+to\s+({_NUMBER})(\s*,\s*log\b)?")
_CHOICES = re.compile(r"\bchoices:\s*(.+)$")
_FIXED = re.compile(r"(?:^|[,;]\s*)fixed\b")

_SPREAD = 4.0
_SWITCHED_OFF_MAX = 0.2
MIN_STEP = 0.08
"""Smallest step worth a run, as a share of the range: a smaller effect is below the noise of one run."""


@dataclass(frozen=True)
class NumberRange:
    """Numbers from `low` to `high`, for integers only multiples of `multiple`.

    `scale` is `linear`, `log`, or `complement` (the logarithm of the distance to 1).
    """

    low: float
    high: float
    scale: str = "linear"
    integer: bool = False
    multiple: int = 1

    def position(self, value: float) -> float:
        """A value's position in the range, 0 to 1."""
        ends = (self._measure(self.low), self._measure(self.high))
        return (self._measure(value) - ends[0]) / (ends[1] - ends[0])

    def at(self, position: float) -> int | float:
        """The value at a position (0 to 1): whole, or rounded to three significant digits."""
        low, high = self._measure(self.low), self._measure(self.high)
        measured = low + min(max(position, 0.0), 1.0) * (high - low)
        if self.scale == "complement":
            return round(1.0 - float(f"{math.exp(-measured):.3g}"), 12)
        value = math.exp(measured) if self.scale == "log" else measured
        return self.multiple * round(value / self.multiple) if self.integer else float(f"{value:.3g}")

    def are_close(self, one: Setting, other: Setting) -> bool:
        """Whether two values are too close for a run to distinguish."""
        if self.integer or not self.holds(one) or not self.holds(other):
            return one == other
        return abs(self.position(float(one)) - self.position(float(other))) < MIN_STEP

    def holds(self, value: Setting) -> bool:
        """Whether a value lies in the range."""
        return not isinstance(value, str | bool) and self.low <= value <= self.high

    def _measure(self, value: float) -> float:
        if self.scale == "log":
            return math.log(value)
        return -math.log(1.0 - value) if self.scale == "complement" else value


@dataclass(frozen=True)
class Choices:
    """A list of values."""

    values: tuple[Setting, ...]

    def are_close(self, one: Setting, other: Setting) -> bool:
        return one == other

    def holds(self, value: Setting) -> bool:
        """Whether a value is one of the choices."""
        return value in self.values


SearchSpace = NumberRange | Choices


def find_space(constant: Constant) -> SearchSpace | None:
    """The search space of a constant, or None if it is not to be searched."""
    return None if is_fixed(constant) else _annotated(constant) or _default(constant.value)


def is_fixed(constant: Constant) -> bool:
    """Whether its comment says that it stays as it is."""
    return bool(_FIXED.search(constant.comment))


def _annotated(constant: Constant) -> SearchSpace | None:
    """The space in the comment, or None if there is none that fits the value."""
    value = constant.value
    if found := _CHOICES.search(constant.comment):
        return _choices(found.group(1), value)
    found = _RANGE.search(constant.comment)
    if found is None or isinstance(value, bool | str):
        return None
    low, high = min(float(found.group(1)), value), max(float(found.group(2)), value)
    scale = "log" if found.group(3) else "linear"
    if low >= high or (scale == "log" and low <= 0):
        return None
    return NumberRange(low, high, scale, isinstance(value, int))


def _choices(text: str, value: Setting) -> Choices | None:
    try:
        values = ast.literal_eval(f"({text},)")
    except (ValueError, SyntaxError):
        return None
    if not all(isinstance(v, bool | int | float | str) for v in values):
        return None
    if isinstance(value, float):
        values = tuple(float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in values)
    both = tuple(dict.fromkeys((*values, value)))
    return Choices(both) if len(both) > 1 else None


def _default(value: Setting) -> SearchSpace | None:
    if isinstance(value, bool):
        return Choices((False, True))
    if isinstance(value, int):
        multiple = 8 if value >= 32 and value % 8 == 0 else 1
        low = max(multiple, value // 2 // multiple * multiple)
        return NumberRange(low, value * 2, "log", integer=True, multiple=multiple) if value > 0 else None
    if not isinstance(value, float) or not math.isfinite(value) or value < 0:
        return None
    if value == 0:
        return NumberRange(0.0, _SWITCHED_OFF_MAX)
    if 0.5 <= value < 1:
        gap = 1.0 - value
        return NumberRange(max(0.0, 1.0 - gap * _SPREAD), 1.0 - gap / _SPREAD, "complement")
    high = min(value * _SPREAD, 0.5) if value < 0.5 else value * _SPREAD
    return NumberRange(value / _SPREAD, high, "log")
