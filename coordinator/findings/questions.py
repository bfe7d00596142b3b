"""What a question is about: a sentence, or a diff, of which the constants that it changes are read. Pure."""

import re
from typing import NamedTuple

from shared.findings import QuestionKind

_HUNK = re.compile(r"^(@@ |diff --git |--- |\+\+\+ )", re.MULTILINE)
_ASSIGNMENT = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*(?::[^=]+)?=\s*([^=#\n][^#\n]*?),?\s*(?:#.*)?$")
_CHANGE = re.compile(r"([A-Za-z_]\w*)\s*[:=]?\s*(?:from\s+)?[\d.eE^+-]+\s*(?:->|→|to)\s*([\d.][\d.eE^+-]*)")
_TO = re.compile(r"([A-Za-z_]\w*)\s+(?:to|=)\s*([\d.][\d.eE^+-]*)")


class AskedStep(NamedTuple):
    """A constant that is set anew. `value` is its new value as it was written."""

    name: str
    value: str


class ParsedQuestion(NamedTuple):
    """`words` is what is looked for; `steps` are the constants that it names with a value."""

    kind: QuestionKind
    words: str
    steps: list[AskedStep]


def parse_question(text: str) -> ParsedQuestion:
    """Tell a diff from a sentence, and take the constants out of either."""
    if _HUNK.search(text) or _looks_like_diff(text):
        return _parse_diff(text)
    found = _CHANGE.findall(text) or _TO.findall(text)
    return ParsedQuestion(QuestionKind.SENTENCE, text, [AskedStep(name, value) for name, value in found])


def _looks_like_diff(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) > 1 and all(line[0] in "+- " for line in lines) and any(line[0] in "+-" for line in lines)


def _parse_diff(text: str) -> ParsedQuestion:
    gone: dict[str, str] = {}
    come: dict[str, str] = {}
    words = []
    for line in text.splitlines():
        if line.startswith(("+++", "---", "@@", "diff ")) or not line.startswith(("+", "-")):
            continue
        words.append(line[1:].strip())
        found = _ASSIGNMENT.match(line[1:])
        if found:
            (come if line[0] == "+" else gone)[found[1]] = found[2].strip()
    steps = [AskedStep(name, value) for name, value in come.items() if gone.get(name) != value]
    # Constants that are set anew come first; the words of other lines help where a diff has none.
    names = " ".join(f"{step.name} {step.value}" for step in steps)
    return ParsedQuestion(QuestionKind.DIFF, f"{names}\n" + "\n".join(dict.fromkeys(words)), steps)
