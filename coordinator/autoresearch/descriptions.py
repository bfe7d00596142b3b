"""What a session's descriptions say of axis, direction and value: `matrix_lr 0.04->0.03`, `increase MATRIX_LR to 0.05`.

Descriptions are free text. What is not of these forms has no value, and the first name in capitals or with an
underscore for an axis, else `other`.
"""

import re
from dataclasses import dataclass

from shared.experiments import AxisDirection

NO_AXIS = "other"
MAX_CHARACTERS = 200

_VALUE = r"[-+]?[\w.^*]+%?"
_ARROW = re.compile(rf"(?P<axis>[A-Za-z][\w. ]*?)\s+(?P<old>{_VALUE})\s*(?:->|→|=>)\s*(?P<new>{_VALUE})")
_VERB = re.compile(
    rf"\b(?P<verb>increase|raise|reduce|decrease|lower|set|change)\s+(?:the\s+)?(?P<axis>[A-Za-z][\w.]*)\s+to\s+"
    rf"(?P<new>{_VALUE})",
    re.IGNORECASE,
)
_NAME = re.compile(r"\b(?:[A-Z][A-Z0-9]*_[A-Z0-9_]+|[a-z][a-z0-9]*_[a-z0-9_]+|[A-Z]{3,}[A-Z0-9]*)\b")
_UP, _DOWN = frozenset({"increase", "raise"}), frozenset({"reduce", "decrease", "lower"})


@dataclass(frozen=True)
class Change:
    """What an experiment changed, as far as its description says."""

    axis: str
    direction: AxisDirection
    value: str


def read_change(description: str) -> Change:
    """The change that a description tells of."""
    arrow = _ARROW.search(description)
    if arrow is not None:
        return _change(arrow["axis"], _compare(arrow["old"], arrow["new"]), arrow["new"])
    verb = _VERB.search(description)
    if verb is not None:
        word = verb["verb"].lower()
        direction = AxisDirection.UP if word in _UP else AxisDirection.DOWN if word in _DOWN else AxisDirection.CHANGE
        return _change(verb["axis"], direction, verb["new"])
    name = _NAME.search(description)
    return _change(name[0] if name else NO_AXIS, AxisDirection.CHANGE, "")


def _change(axis: str, direction: AxisDirection, value: str) -> Change:
    return Change(axis.strip()[:MAX_CHARACTERS], direction, value[:MAX_CHARACTERS])


def _compare(old: str, new: str) -> AxisDirection:
    try:
        before, after = float(old), float(new)
    except ValueError:
        return AxisDirection.CHANGE
    return AxisDirection.UP if after > before else AxisDirection.DOWN if after < before else AxisDirection.CHANGE
