"""Reads a language model's answer: finds the JSON in it, repairs it, and fits it to a form.

Finding and fitting are liberal (fences, reasoning, prose, other names of fields, numbers for texts); the result is then
validated, and a text that was cut off is never completed by guessing.
"""

import html
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import EnumType
from functools import partial
from typing import Any, TypeVar, get_args, get_origin

from json_repair import repair_json
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from shared.mistakes import describe_first
from worker.agents.markup import list_marked, read_patch, replace_between

Form = TypeVar("Form", bound=BaseModel)

MAX_OBJECTS = 50
"""Objects of one text that are tried."""

MAX_CHARACTERS, MAX_REPAIRED = 400_000, 64_000
"""Length of a text of which more than one whole JSON value is looked for, at its end; and of one that is repaired."""

MAX_DEPTH = 4
"""Wrappers around an object that are opened."""

_END = "\N{SECTION SIGN}END\N{SECTION SIGN}"
"""Put after a text that is repaired: if it ends up inside a string, that string was cut off."""

_SYNONYMS = {
    "title": ("name", "experiment", "summary"),
    "hypothesis": ("rationale", "reasoning", "motivation", "description", "why"),
    "axis": ("parameter", "constant", "variable", "knob"),
    "direction": ("change", "move"),
    "value": ("newvalue", "to"),
    "predicted_effect": ("effect", "expectedeffect", "predicted", "predictedchange"),
    "refuted_by": ("refutation", "falsifiedby"),
    "explanation": ("reason", "rationale", "description"),
    "edits": ("edit", "changes", "replacements", "modifications", "codechanges", "codeedits", "filechanges", "patches",
              "patch", "diff", "unifieddiff"),
    "files": ("wholefiles", "newfiles"),
    "file": ("path", "filename", "filepath"),
    "search": ("old", "oldstr", "oldstring", "oldtext", "oldcode", "oldline", "find", "before", "original", "current",
               "from"),
    "replace": ("new", "newstr", "newstring", "newtext", "newcode", "newline", "replacement", "after", "modified",
                "updated", "replacewith", "to"),
    "text": ("content", "contents", "code", "source", "newtext"),
    "claim": ("finding", "conclusion", "title"),
    "mechanism": ("explanation", "why"),
    "caveats": ("caveat", "limitations"),
    "follow_ups": ("followup", "nextsteps", "next"),
    "answer": ("response", "reply"),
}  # fmt: skip
"""Other names that models give to a field, in lower case and without separators."""

_PATH = re.compile(r"[\w./-]+\.[a-z]\w*")

_SEARCHES = {"search", *_SYNONYMS["search"], "old_str", "old_string", "old_text", "replace", "diff"}
_TEXTS = {"text", "content", "contents", "code", "source", "new_content"}
_CODE = ("search", "replace", "text")
"""Fields of which a list is the lines."""

_NOTHING: tuple[Any, ...] = (None, "", [])

_WORDS = {
    "up": "up upward upwards increase increased increasing higher raise raised raising larger bigger more grow ↑ +",
    "down": "down downward downwards decrease decreased decreasing lower lowered reduce reduced smaller less ↓ -",
}
_DIRECTIONS = {word: direction for direction, words in _WORDS.items() for word in words.split()}

_REASONING_TAGS = "think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad"
_REASONING = re.compile(
    rf"<(?:{_REASONING_TAGS})\b[^<>]{{0,200}}>|\[THINK\]|<\|begin_of_thought\|>|◁think▷", re.IGNORECASE
)
_REASONING_END = re.compile(
    rf"</(?:{_REASONING_TAGS})\s{{0,20}}>|\[/THINK\]|<\|end_of_thought\|>|◁/think▷", re.IGNORECASE
)
_HARMONY_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*(?:<\|[a-z]+\|>[^<]*)??<\|message\|>", re.IGNORECASE)
_TOKEN = re.compile(r"<\|[a-z_]+\|>")
_FENCE = re.compile(r"(?:```|~~~)[ \t]*[\w.+-]*\s*?\n?(.*?)(?:```|~~~|\Z)", re.DOTALL)
_LONG_STRINGS = [
    (re.compile(rf"(?<=[:\[,]) {{0,20}}{quote}"), re.compile(rf"{quote}(?=\s{{0,200}}[,}}\]])"))
    for quote in ('"""', "'''", "`")
]
"""The marks of a string of several lines, as Python and JavaScript write one."""

_NUMBER = re.compile(r"[~≈]?\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z_/ ()]*)", re.IGNORECASE)
_SIGN_WORDS = re.compile(
    r"\b(to|lower|less|decrease|reduction|down|drop|higher|more|increase|up|or|and)\b", re.IGNORECASE
)


class Unreadable(ValueError):
    """No part of the answer fits the form; the message says why, for its author."""


def read_form(texts: Sequence[str], form: type[Form], *, is_cut_off: bool = False) -> tuple[Form, bool]:
    """The best object in these texts that fits the form, and whether it had to be repaired. Raises Unreadable.

    The texts stand in order of trust. One that was cut off may hold a whole object, and is not repaired; where its last
    diff ends is not known.
    """
    problem, exact = "", _load(texts[0]) if texts else None
    for text in texts:
        for number, found in enumerate(_list_objects(text, is_cut_off=is_cut_off)):
            if number == MAX_OBJECTS:
                break
            fitted = fit(form, found)
            if not isinstance(fitted, dict):
                continue
            lacks_changes = "edits" in form.model_fields and not fitted.get("edits") and not fitted.get("files")
            if lacks_changes and not is_cut_off:
                fitted |= {"edits": patch} if (patch := read_patch(strip_reasoning(text))) else {}
            try:
                return form.model_validate(fitted), fitted != exact
            except ValidationError as error:
                problem = problem or f"it does not fit the schema: {describe_first(error, 'the answer')}"
    raise Unreadable(problem or "it holds no JSON object")


def _list_objects(text: str, *, is_cut_off: bool) -> Iterator[Any]:
    """JSON values in a text: the whole text, then objects in it from the last to the first, then repaired ones."""
    whole = _load(text)
    if isinstance(whole, str):  # JSON in JSON
        yield from _list_objects(whole, is_cut_off=is_cut_off)
    if isinstance(whole, dict | list):
        yield whole
        return
    text = text[-MAX_CHARACTERS:]
    said = strip_reasoning(text)
    sources = dict.fromkeys((said, text, html.unescape(said), re.sub(r"(?m)^> ?", "", said)))
    for source in sources:
        yield from reversed(found := list(_scan(source)))
        parts = {name: value for one in found for name, value in one.items()}
        if len(found) > 1 and len(parts) == sum(map(len, found)):  # a statement and its changes one after the other
            yield parts
    if is_cut_off:
        return
    yield from list_marked(said[-MAX_REPAIRED:])
    for source in sources:
        blocks = [block for block in _FENCE.findall(source) if "{" in block]
        for block in (*reversed(blocks), source):
            yield from _repair(block)


def strip_reasoning(text: str) -> str:
    """The text without what a model thought aloud, and without the marks of its chat template."""
    final = list(_HARMONY_FINAL.finditer(text))
    if final:
        text = text[final[-1].end() :]
        text = re.split(r"<\|(?:return|end|start|call)\|>", text)[0]
    text = replace_between(text, _REASONING, _REASONING_END)
    text = text[ends[-1].end() :] if (ends := list(_REASONING_END.finditer(text))) else text
    return _TOKEN.sub("", text).strip()


def _load(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _scan(text: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects in a text."""
    decoder, at = json.JSONDecoder(strict=False), text.find("{")
    while at >= 0:
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield found
        at = text.find("{", end)


def _repair(text: str) -> Iterator[Any]:
    """Objects that json_repair makes of a text, unless its last string was cut off."""
    text = text[max(0, text.find("{")) :].strip()
    if not text.startswith("{") or len(text) > MAX_REPAIRED:
        return
    for opening, closing in _LONG_STRINGS:
        text = replace_between(text, opening, closing, json.dumps)
    try:
        found = repair_json(text, return_objects=True, skip_json_loads=True)
        marked = repair_json(f"{text}{_END}", return_objects=True, skip_json_loads=True)
    except (ValueError, RecursionError, IndexError):  # the library promises none
        return
    is_closed = text.endswith('"') and not text.endswith('\\"')
    if is_closed or not any(_END in string and string.strip() != _END for string in _list_strings(marked)):
        yield from reversed(found) if isinstance(found, list) else [found]


def _list_strings(found: Any) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, list | dict):
        for item in (*found.keys(), *found.values()) if isinstance(found, dict) else found:
            yield from _list_strings(item)


def fit(form: type[BaseModel], found: Any, depth: int = 0, *, is_row: bool = False) -> Any:
    """The object found, with the form's names and kinds of value where these are clear; the rest as it was.

    A row of a list need not have a field by its own name.
    """
    if isinstance(found, str) and depth:
        found = _load(found) if found.lstrip()[:1] in ("{", "[") else found
    if isinstance(found, list):
        objects = [fit(form, item, depth + 1) for item in found if isinstance(item, dict | list)]
        return max(objects, key=lambda item: _count_known(form, item), default=found) if depth < MAX_DEPTH else found
    if not isinstance(found, dict):
        return found
    named = _rename(form, found, is_sure=is_row)
    for inner in found.values() if named and not is_row else ():  # {"experiment": {...}, "edits": [...]}
        more = _rename(form, inner, is_sure=False) if isinstance(inner, dict) else {}
        filled = {name: value for name, value in named.items() if name not in more or value not in _NOTHING}
        if all(more[name] in (value, *_NOTHING) for name, value in filled.items() if name in more):
            named = more | filled  # what gives a field another value is another's
    named = _part_files(form, named)
    if named and "edits" in form.model_fields and not named.keys() & {"edits", "files"}:  # {"train.py": {...}}
        by_path = {
            path: part for path, part in found.items() if _PATH.fullmatch(path) and isinstance(part, dict | list)
        }
        named |= {"edits": by_path} if by_path else {}
    if not named and depth < MAX_DEPTH:  # {"arguments": {...}}, {"experiment": {...}}
        inner = [fit(form, value, depth + 1) for value in found.values() if isinstance(value, dict | list | str)]
        known = [item for item in inner if _count_known(form, item) > 0]
        whole = {name: value for item in known for name, value in item.items()}
        if len(known) > 1 and len(whole) == sum(map(len, known)):  # {"proposal": {...}, "changes": {"edits": [...]}}
            return whole
        return max(inner, key=lambda item: _count_known(form, item), default=found)
    return {name: _fit_value(name, form.model_fields[name], value) for name, value in named.items()}


def _part_files(form: type[BaseModel], named: dict[str, Any]) -> dict[str, Any]:
    """The fields, with whole files that stand among the edits in their own field."""
    rows = named.get("edits")
    if "files" not in form.model_fields or named.get("files") or not isinstance(rows, list):
        return named
    files = [row for row in rows if isinstance(row, dict) and not row.keys() & _SEARCHES and row.keys() & _TEXTS]
    return named | {"edits": [row for row in rows if row not in files], "files": files} if files else named


def _count_known(form: type[BaseModel], found: Any) -> int:
    return len(form.model_fields.keys() & found.keys()) if isinstance(found, dict) else -1


def _rename(form: type[BaseModel], found: Mapping[Any, Any], *, is_sure: bool) -> dict[str, Any]:
    """The form's fields among these, by their own names, and by others where one is there or it `is_sure`."""
    plain = {re.sub(r"[^a-z0-9]", "", str(key).lower()): value for key, value in found.items()}
    named = {name: plain.pop(name.replace("_", "")) for name in form.model_fields if name.replace("_", "") in plain}
    for name in form.model_fields:
        is_text = form.model_fields[name].annotation is str
        others = (word for word in _SYNONYMS.get(name, ()) if word in plain)
        other = next((word for word in others if not (is_text and isinstance(plain[word], dict))), None)
        if (named or is_sure) and name not in named and other is not None:
            named[name] = plain.pop(other)
    return named


def _fit_value(name: str, field: FieldInfo, value: Any) -> Any:
    kind, parts = field.annotation, get_args(field.annotation)
    if get_origin(kind) is list:
        (item,) = parts
        return _fit_rows(item, value) if isinstance(item, type) and issubclass(item, BaseModel) else _fit_words(value)
    if isinstance(kind, EnumType):
        word = re.split(r"[^a-z↑↓+-]", str(value).strip().lower())[0]
        return _DIRECTIONS.get(word, "change")
    if float in parts or kind is float:
        return _fit_number(value)
    if kind is str:
        text = _fit_text(value, "\n" if name in _CODE else "; ")
        return re.sub(r"^[ab]?/(?=\w)|^\./|:\d+$", "", text.strip().strip("`'\"")) if name == "file" else text
    return value


def _fit_rows(item: type[BaseModel], value: Any) -> Any:
    """A list of objects, from one object, a mapping of paths to texts, edits in short forms, or nothing."""
    if value in (*_NOTHING, "null", "~"):
        return []
    if "search" in item.model_fields:
        rows = list(_list_edits(item, value, ""))
        return [fit(item, row, 1, is_row=True) for row in rows] if rows else value
    value = _load(value) if isinstance(value, str) else value
    if isinstance(value, dict):
        is_mapping = not _rename(item, value, is_sure=True)
        parts = {path: text if isinstance(text, dict) else {"text": text} for path, text in value.items()}
        value = [{"file": path} | part for path, part in parts.items()] if is_mapping else [value]
    return [fit(item, row, 1, is_row=True) for row in value] if isinstance(value, list) else value


def _list_edits(item: type[BaseModel], value: Any, file: str, depth: int = 0) -> Iterator[Any]:
    """Edits, an object each, from objects, diffs, `[file, old, new]`, `{old: new}`, `{file: ...}` and lists of these;
    `file` is that of those which name none."""
    own, more = {"file": file} if file else {}, partial(_list_edits, item, depth=depth + 1)
    if depth > 2 * MAX_DEPTH:
        return
    if isinstance(value, str):
        yield from more(loaded, file) if (loaded := _load(value)) else (row | own for row in read_patch(value))
    elif isinstance(value, list) and len(value) in (2, 3) and all(isinstance(part, str) for part in value):
        short = own | dict(zip(("file", "search", "replace")[-len(value) :], value, strict=True))
        yield from [row for part in value for row in more(part, file)] or [short]
    elif isinstance(value, list):
        for part in value:
            yield from more(part, file) if isinstance(part, dict | list | str) else [part]
    elif isinstance(value, dict):
        named = _rename(item, value, is_sure=True)
        file, inner = str(named.get("file") or file), {} if named.keys() & {"search", "replace"} else value
        yield from [] if inner else [own | value]
        is_mapping = "file" not in named and all(isinstance(part, str) for part in value.values())  # of code to code
        for key, part in inner.items():
            if isinstance(part, dict | list) or (isinstance(part, str) and read_patch(part)):
                yield from more(part, key if _PATH.fullmatch(key) else file)
            elif is_mapping and re.search(r"\W", key):
                yield {"file": file, "search": key, "replace": part}


def _fit_words(value: Any) -> Any:
    if value is None:
        return []
    if isinstance(value, str):
        return re.split(r"\s*[,;\n]\s*", value)
    return [str(word) for word in (value if isinstance(value, list) else [value])]


def _fit_text(value: Any, separator: str) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        return separator.join(_fit_text(item, separator) for item in value)
    return json.dumps(value, ensure_ascii=False)


def _fit_number(value: Any) -> float | None:
    """The number, or None where the sign or the unit is not clear: the field may be empty."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e300 and math.isfinite(value) else None
    if isinstance(value, list | dict) and len(value) == 1:
        return _fit_number(next(iter(value.values() if isinstance(value, dict) else value)))
    if not isinstance(value, str):
        return None
    found = _NUMBER.fullmatch(re.split("±|[+]/-", value)[0].strip().replace("\N{MINUS SIGN}", "-").replace(",", ""))
    return None if found is None or _SIGN_WORDS.search(found[2]) else float(found[1])
