"""Words for searching: how a text is taken apart, the same way for what is stored and for what is asked. Pure.

A word is stemmed (Snowball's English stemmer), an identifier falls into its parts, and a number is one word however it
is written: `0.40` and `.4` are the same.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from threading import Lock

from snowballstemmer import stemmer

MAX_TERMS = 24
"""Of a question; the rarest of them are looked for."""

MAX_WORD = 200
"""Characters of a word that are kept; PostgreSQL refuses a word of more than 2,046 bytes."""

ABBREVIATIONS = {
    "attn": "attention",
    "bs": "batch size",
    "emb": "embedding",
    "ffn": "feed forward mlp",
    "lr": "learning rate",
    "mlp": "feed forward",
    "oom": "out of memory",
    "rope": "rotary position embedding",
    "wd": "weight decay",
}
"""Abbreviations of the field and their long forms; a search looks for both."""

STOP_WORDS = frozenset((
    "a", "an", "and", "any", "anybody", "are", "as", "at", "be", "been", "by", "did", "do", "does", "for", "from",
    "has", "have", "if", "in", "into", "is", "it", "its", "no", "not", "of", "on", "or", "someone", "than", "that",
    "the", "then", "there", "this", "to", "tried", "was", "what", "when", "where", "which", "will", "with", "would",
))  # fmt: skip

_PIECE = re.compile(r"\d+\^\d+|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?(?![^\W\d_])|[^\W_]+", re.IGNORECASE)
_HUMP = re.compile(r"(?<=[a-z]{3})(?=[A-Z][a-z]{2})")
_stemmer = stemmer("english")
_stemming = Lock()
"""The stemmer keeps the word that it is at in itself."""


def list_words(text: str) -> list[str]:
    """The words of a text in their order, as they are stored and asked for: letters and digits only."""
    return [word for piece in _PIECE.findall(text) for word in _take_apart(piece)]


def list_terms(text: str) -> list[str]:
    """The different words of a question that say something."""
    return list(dict.fromkeys(word for word in list_words(text) if word not in STOP_WORDS))


def list_beginnings(text: str) -> list[str]:
    """The words of a filter, all of which a text has to hold: without what abbreviations stand for."""
    return list(dict.fromkeys(_take_apart(part)[0] for piece in _PIECE.findall(text) for part in _HUMP.split(piece)))


def spell_out(text: str) -> str:
    """A text as an embedder reads it best: identifiers as words, and what abbreviations stand for beside them."""
    pieces = (part for piece in _PIECE.findall(text) for part in _HUMP.split(piece))
    spelled = " ".join(f"{piece} {ABBREVIATIONS.get(piece.casefold(), '')}".strip() for piece in pieces)
    return spelled.casefold()


@lru_cache(maxsize=50_000)
def _take_apart(piece: str) -> tuple[str, ...]:
    piece = piece[:MAX_WORD]
    if piece[0].isdigit() or piece[0] == ".":
        return (_name_number(piece),)
    parts = _HUMP.split(piece)
    words = [piece, *parts] if len(parts) > 1 else [piece]
    with _stemming:
        return tuple(stem for word in words for stem in _stem(word.casefold()))


def _stem(word: str) -> Iterator[str]:
    yield word if word in STOP_WORDS else _stemmer.stemWord(word)
    for meant in ABBREVIATIONS.get(word, "").split():
        yield _stemmer.stemWord(meant)


def _name_number(piece: str) -> str:
    """`n0d4` for 0.40, `n1em8` for 1e-08, `n2p16` for 2^16."""
    if "^" in piece:
        return "n" + piece.replace("^", "p")
    if not re.fullmatch(r"(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", piece, re.IGNORECASE):
        return piece.casefold()
    mantissa, _, exponent = f"{float(piece):.6g}".partition("e")
    return "n" + mantissa.replace(".", "d") + (f"e{int(exponent)}".replace("-", "m") if exponent else "")


SNIPPET_CHARACTERS = 240


def find_best_part(fields: Sequence[tuple[str, str]], terms: Sequence[str]) -> tuple[str, str, list[tuple[int, int]]]:
    """The name of the field and the part of it that holds most of the terms, with [start, end) of each such word.

    `fields` are names and texts, the most important first.
    """
    wanted = frozenset(terms)
    best = ("", "", list[tuple[int, int]]())
    best_count = -1
    for name, text in fields:
        marks = [found.span() for found in _PIECE.finditer(text) if not wanted.isdisjoint(_take_apart(found[0]))]
        start, count = _find_window(text, marks)
        if count > best_count and text:
            end = min(len(text), start + SNIPPET_CHARACTERS)
            inside = [(a - start, b - start) for a, b in marks if a >= start and b <= end]
            best, best_count = (name, text[start:end], inside), count
    return best


def _find_window(text: str, marks: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Where a part of the text begins that holds most marks, and how many it holds."""
    if len(text) <= SNIPPET_CHARACTERS:
        return 0, len(marks)
    counts = [(sum(a <= b < a + SNIPPET_CHARACTERS - 40 for b, _ in marks), -a) for a, _ in marks]
    if not counts:
        return 0, 0
    count, at = max(counts)
    begin = max(0, -at - 30)
    space = text.rfind(" ", 0, begin) + 1
    return (space if begin - space < 30 else begin), count
