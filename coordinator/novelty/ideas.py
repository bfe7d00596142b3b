"""Names for what a proposal moves, so that the same idea is known again. Pure.

A number is put into a bin with those that differ from it by a few percent: a learning rate of 0.003 and one of 0.0031
are one idea. Where an axis is a constant of the code, its values are read there, before and after; elsewhere the
proposal's own words count. Two names follow: what is tried on this parent, and the move from one value to another on
any parent, whose effects differ little between neighbours.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from math import copysign, isfinite, log
from typing import NamedTuple

from shared.experiments import Proposal

BIN_RATIO = 1.1
"""Values of one bin differ by less than this factor."""

AND = " and "
_CONSTANT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Idea(NamedTuple):
    """`on_parent` names (parent, axis, direction, value bin); `move` (axis, bin before, bin after), None where the axis
    is no constant of the code. `is_words_only` says that words alone tell what is tried."""

    on_parent: str
    move: str | None

    @property
    def is_words_only(self) -> bool:
        return self.move is None


def identify_idea(proposal: Proposal, parent_sha: str, before: Mapping[str, str], after: Mapping[str, str]) -> Idea:
    """The names of a proposal's idea; `before` and `after` are the editable files.

    An axis may be several constants, as the search agent moves them: `DEPTH and WIDTH`. A constant may be new.
    """
    axes = sorted(" ".join(part.split()) for part in proposal.axis.split(AND))
    steps = [(_find_constant(before, axis), _find_constant(after, axis)) for axis in axes]
    direction = proposal.direction.value
    if any(new is None or old == new for old, new in steps):
        words = " ".join(axes).casefold()
        return Idea(_hash(parent_sha, words, direction, bin_value(proposal.value)), None)
    moves = [(axis, bin_value(old or ""), bin_value(new or "")) for axis, (old, new) in zip(axes, steps, strict=True)]
    targets = [part for axis, _, new in moves for part in (axis, new)]
    return Idea(_hash(parent_sha, direction, *targets), _hash(*(part for move in moves for part in move)))


def bin_value(text: str) -> str:
    """The bin of a value: numbers by their logarithm, all else by its words."""
    try:
        number = float(text)
    except ValueError:
        return " ".join(text.split()).casefold()
    if not isfinite(number):
        return text.casefold()
    if number == 0:
        return "0"
    return f"{copysign(1, number):+.0f}e{round(log(abs(number), BIN_RATIO))}"


def _find_constant(files: Mapping[str, str], name: str) -> str | None:
    """The value that a module-level constant is given, as text, if it is given one, once."""
    if not _CONSTANT.fullmatch(name):
        return None
    found = [value for text in files.values() for value in _list_given(f"\n{text}", name)]
    if len(found) != 1:
        return None
    try:
        value = ast.literal_eval(found[0].strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return str(value)


def _list_given(text: str, name: str) -> Iterator[str]:
    """The value after `NAME =` at the left edge. Searching for the name first takes a tenth of the time."""
    given = re.compile(rf"\n{name}[ \t]*(?::[^=\n]*)?=[ \t]*(?!=)([^\n]*)")
    at = text.find(f"\n{name}")
    while at >= 0:
        if found := given.match(text, at):
            yield found[1]
        at = text.find(f"\n{name}", at + 1)


def _hash(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()
