"""Objects and edits in an answer that is no JSON.

Tags and calls, in which models were taught to use tools; YAML and TOML; edits as diffs, `apply_patch` blocks and
search/replace blocks.
"""

import ast
import html
import re
import tomllib
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any

import yaml  # type: ignore[import-untyped]

MAX_TAGS, MAX_YAML_DEPTH, MAX_LABEL_CHARACTERS = 500, 9, 4000
MAX_CALLS, MAX_ENDS = 20, 5
"""Calls that are read, and ends of one that are tried."""

_TAGS = re.compile(
    r"<(?P<kind>parameter|param|argument|field)(?:=|\s+name\s*=\s*)[\"']?(?P<name>[\w-]+)[\"']?[^>]*>(?P<value>.*?)</(?P=kind)>"
    r"|<arg_key>\s*(?P<key>[\w-]+)\s*</arg_key>\s*<arg_value>(?P<given>.*?)</arg_value>"
    r"|<(?P<tag>[A-Za-z][\w-]*)>(?P<content>.*?)</(?P=tag)>",
    re.DOTALL,
)
_LEAVES = re.compile(r"search|replace|text|old|new|content|code|before|after|find", re.IGNORECASE)
_CDATA = re.compile(r"\s*<!\[CDATA\[(.*?)\]\]>\s*", re.DOTALL)
_CALL = re.compile(
    r"(?:^[ \t]*(?:\w+ = )?|(?<=[>\[(])[ \t]*)(?P<call>[A-Za-z_][\w.]*\((?=\s*[A-Za-z_]\w*\s*=[^=]))", re.MULTILINE
)
"""A call that begins a line, a tag's content or a list: one in the middle of a sentence is talked about."""

_YAML = re.compile(r"(?:---\s*\n)?\w+ *:\s")
_LABEL = re.compile(r"^[\d.#*\-\s]*(?:\*\*|#)\s*([A-Za-z][\w ]{2,30}?)[* ]*:[* ]*(\S.*?)[* ]*$")
_FENCED = re.compile(
    r"^(?:```|~~~) *(yaml|yml|toml)\b[^\n]*\n(.*?)^(?:```|~~~)", re.MULTILINE | re.DOTALL | re.IGNORECASE
)


def replace_between(
    text: str, opening: re.Pattern[str], closing: re.Pattern[str], write: Callable[[str], str] = lambda _: ""
) -> str:
    """The text with each part from an opening mark to the next closing one replaced by what `write` makes of the words
    between them. It takes linear time on any text, as no pattern with `.*?` does."""
    ends = [(found.start(), found.end()) for found in closing.finditer(text)]
    parts, after = list[str](), 0
    for begin in opening.finditer(text):
        if begin.start() < after:
            continue
        number = bisect_left(ends, (begin.end(), 0))
        if number == len(ends):
            break
        parts += [text[after : begin.start()], write(text[begin.end() : ends[number][0]])]
        after = ends[number][1]
    return "".join([*parts, text[after:]])


def list_marked(text: str) -> Iterator[dict[str, Any]]:
    """Objects made of a text's tags, of its calls in Python's notation, and of its YAML and TOML."""
    if text.count("<") <= MAX_TAGS and (found := _read_tags(text)) is not None:
        yield found
    ends = [at + 1 for at, letter in enumerate(text) if letter == ")"][-MAX_ENDS:]
    for call in list(_CALL.finditer(text))[-MAX_CALLS:]:
        yield from filter(None, (_read_call(text[call.start("call") : end]) for end in ends if end > call.end()))
    fenced = [(found[1].lower(), found[2]) for found in _FENCED.finditer(text)]
    is_whole = text.rstrip().rpartition("\n")[2][:1] not in (" ", "\t", "-")  # not cut off within its last list
    bare = [("yaml", text)] if is_whole and _YAML.match(text) else []
    for kind, block in reversed(fenced or bare):
        if isinstance(document := _read_document(kind, block), dict):
            yield document
    labels = [label for line in text.splitlines() if (label := _LABEL.match(line[:MAX_LABEL_CHARACTERS])) is not None]
    if "title" in (said := {label[1].lower(): label[2] for label in labels}):  # **Title:** ...
        yield said


def _read_tags(text: str) -> dict[str, Any] | None:
    """The outermost tags as an object; a name that occurs several times has a list."""
    found: dict[str, list[Any]] = {}
    for tag in _TAGS.finditer(text):
        name = tag["name"] or tag["key"] or tag["tag"]
        value = next(part for part in (tag["value"], tag["given"], tag["content"]) if part is not None)
        inner = None if _LEAVES.fullmatch(name) else _read_tags(value)
        found.setdefault(name, []).append(inner or _read_text(value))
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()} or None


def _read_text(value: str) -> str:
    if (raw := _CDATA.fullmatch(value)) is not None:
        return raw[1]
    value = html.unescape(value) if "&lt;" in value or "&quot;" in value or "&amp;" in value else value
    return value.removeprefix("\n").removesuffix("\n")


def _read_call(text: str) -> dict[str, Any] | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes in strings
            (call,) = (node for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Call))
        return {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return None


def _read_document(kind: str, text: str) -> Any:
    """A document; YAML's values are all texts. One that refers to its own parts is none: it may be huge."""
    depth = 0
    try:
        if kind == "toml":
            return tomllib.loads(text)
        for event in yaml.parse(text, yaml.CBaseLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_YAML_DEPTH or isinstance(event, yaml.AliasEvent):
                return None
        return yaml.load(text, yaml.CBaseLoader)  # noqa: S506 - which makes texts, lists and tables of them
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


Replacement = dict[str, str]

_OPENS, _CLOSES = (re.compile(rf"{mark}{{5,9}}(?!{mark}).*") for mark in "<>")
_TURNS = re.compile(r"={5,9}(?:\s.*)?")
"""The three lines of a search/replace block."""

_PATH = r"[`\"']?(?:[ab]/)?([\w./-]+\.\w+)[`\"']?"
_NAMED = re.compile(rf"[#* ]*(?:file(?:name)?: *|path: *)?{_PATH}[:*]* *", re.IGNORECASE)
_HEADER = re.compile(rf"^(?:\+\+\+|\*\*\* (?:Update|Add) File:) +{_PATH}")
_OTHER_HEADER = re.compile(r"^(?:diff --git |index [0-9a-f]+\.\.|--- |\+\+\+ |\*\*\* |\\ No newline|new file mode)")
_FENCE = re.compile(r"^ *(?:```|~~~)")


def read_patch(text: str) -> list[Replacement]:
    """The replacements in a text, each with `file` (empty where none is named), `search` and `replace`."""
    text = text.replace("\r\n", "\n")
    return [*_read_blocks(text)] or [*_read_hunks(text)]


def _read_blocks(text: str) -> Iterator[Replacement]:
    """Search/replace blocks; a file is named in the lines before its first one."""
    file, search, replace = "", list[str](), list[str]()
    lines: list[str] | None = None
    for line in text.split("\n"):
        if _OPENS.fullmatch(line):
            search, replace = [], []
            lines = search
        elif lines is search and _TURNS.fullmatch(line):
            lines = replace
        elif lines is replace and _CLOSES.fullmatch(line):
            yield _replace(file, "\n".join(search), "\n".join(replace))
            lines = None
        elif lines is not None:
            lines.append(line)
        elif named := _NAMED.fullmatch(line):
            file = named[1]


def _read_hunks(text: str) -> Iterator[Replacement]:
    """The hunks of diffs and patches: from `@@`, a file's header or a fence of a diff to the next of these."""
    file, old, new = "", list[str](), list[str]()
    is_inside = False
    for line in [*text.split("\n"), "@@"]:
        header = _HEADER.match(line)
        if header or line.startswith("@@") or _OTHER_HEADER.match(line) or _FENCE.match(line):
            if old != new:
                yield _replace(file, "\n".join(old), "\n".join(new))
            old, new = [], []
            file = header[1] if header else file
            is_inside = bool(header) or line.startswith(("@@", "```diff", "~~~diff", "```patch"))
        elif is_inside:
            if not line.startswith("+"):
                old.append(line[1:] if line[:1] in ("-", " ") else line)
            if not line.startswith("-"):
                new.append(line[1:] if line[:1] in ("+", " ") else line)


def _replace(file: str, search: str, replace: str) -> Replacement:
    return {"file": file, "search": search, "replace": replace}
