"""Tokens by word are those of the whole text."""

from pathlib import Path
from random import Random

import wordllama

from coordinator.novelty.tokens import WordTokens
from tests.coordinator.novelty.proposals import PROPOSALS

ALPHABET = [*' \n\tabT=_-.▁é漢07"\r<', "the", " learning", "s>", "<s>", "1e-4", "  "]


def test_words_are_read_as_the_tokenizer_reads_the_text() -> None:
    random = Random(0)
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    tokens = WordTokens(model.tokenizer, len(model.embedding))
    texts = ["", " ", "x" * 9_000, *("".join(random.choices(ALPHABET, k=80)) for _ in range(300))]
    for text in [*texts, *(part for proposal in PROPOSALS for part in proposal[1:])]:
        whole = model.tokenizer.encode(text, add_special_tokens=False).ids
        assert tokens.list_tokens(text) == whole
        assert tokens.list_tokens(text) == whole  # remembered


def test_words_are_not_parted_where_tokens_join_them() -> None:
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    model.tokenizer.add_tokens(["of the"])
    tokens = WordTokens(model.tokenizer, len(model.embedding) + 1)
    whole = model.tokenizer.encode("the end of the line", add_special_tokens=False).ids
    assert tokens.list_tokens("the end of the line") == whole
