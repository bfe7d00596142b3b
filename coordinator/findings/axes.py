"""Names of axes as the field uses them: synonyms, abbreviations and fillers, so that one axis has one key. Pure."""

import re
import tomllib
from functools import lru_cache
from pathlib import Path

from coordinator.experiments.tokenizer import STOP_WORDS, list_words


def words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_SYNONYMS = [(re.compile(rf"\b(?:{words})\b"), name) for words, name in _WORDS["synonyms"]]
ACTIVATIONS = words_of("relu relu2 leakyrelu gelu silu swish swiglu geglu reglu tanh mish elu softplus sigmoid")
FILLERS = words_of(_WORDS["fillers"])
"""Words that tell no axis from another."""

WEAK = {"quantiz", "layer", "resolution"}
"""Words that tell an axis only where no other one does."""

SURFACE: dict[str, str] = _WORDS["surface"]
"""Words by which findings on an axis are looked for, beside its own."""


@lru_cache(maxsize=20_000)
def name_key(text: str) -> frozenset[str]:
    """The words that tell an axis from others, with one word for all that mean the same."""
    key = {stem_name(word) for word in list_names(text)}
    if key & ACTIVATIONS:
        key = (key - ACTIVATIONS - {"mlp"}) | {"activation"}
    if "activation" in key:
        key -= {"mlp"}
    return frozenset(key - WEAK or key)


def list_names(text: str) -> list[str]:
    """A text's words in their order, with one for all that mean the same, and without fillers."""
    text = re.sub(r"['\N{RIGHT SINGLE QUOTATION MARK}]s\b", "", text)
    plain = re.sub(r"(?<=[a-z]{3})(?=[A-Z][a-z]{3})|[_/()\[\],:;.'\"=<>→-]+", " ", text.replace("^2", "2")).casefold()
    plain = re.sub(r"(?<!ra)is(e|ed|es|er|ing|ation|ations)\b", r"iz\1", " ".join(plain.split()))
    for pattern, name in _SYNONYMS:
        plain = pattern.sub(name, plain)
    return [word for word in plain.split() if word not in STOP_WORDS and not {word, word.removesuffix("s")} & FILLERS]


def stem_name(word: str) -> str:
    """A word's stem; a name of an axis is one."""
    return word if word in NAMES else next(iter(list_words(word)), "")


NAMES = frozenset(name for _, name in _WORDS["synonyms"]) | ACTIVATIONS
