"""Tokens of texts, word by word: most words were seen before, and a tokenizer needs a millisecond for a page.

That comes out the same where no token reaches from one word into the next, as in vocabularies made by SentencePiece
(Kudo, Richardson 2018): a space begins a token or stands among spaces, and a newline or a digit stands alone.
`WordTokens` looks at the vocabulary whether that is so.
"""

import re
from typing import Any

SPACE = "\u2581"
"""How SentencePiece writes a space."""

WORDS_REMEMBERED = 20_000
MAX_WORD = 64
"""Characters of a word that is remembered, at most."""

_WORDS = re.compile(r"[\n0-9]| *[^ \n0-9]+| +")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_JOINS = re.compile(rf".*[^{SPACE}]{SPACE}|.*\n|.*[0-9].|.+[0-9]", re.DOTALL)
"""A token that would reach from one word into the next."""


class WordTokens:
    """The tokens of a `tokenizers.Tokenizer`, remembered by word. Safe to use from several threads."""

    def __init__(self, tokenizer: Any, rows: int) -> None:
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        self._tokenizer = tokenizer
        self._specials = [str(token.content) for token in tokenizer.get_added_tokens_decoder().values()]
        self._newline = vocabulary.get("<0x0A>", -1)
        self._is_wordwise = (
            self._newline >= 0
            and max(vocabulary.values()) < rows
            and not any(_JOINS.match(token) and not _BYTE.fullmatch(token) for token in vocabulary)
            and self._encode("a\n b") == [*self._encode("a"), self._newline, *self._encode("b")]
        )
        self._known: dict[str, list[int]] = {"\n": [self._newline]}

    def list_tokens(self, text: str) -> list[int]:
        """The numbers of a text's tokens."""
        if not text or not self._is_wordwise or any(special in text for special in self._specials):
            return self._encode(text)
        words = _WORDS.findall(f" {text}".replace(SPACE, " "))  # as the tokenizer sees it
        known = self._known
        new = {word: list[int]() for word in words if word not in known}
        if new:
            self._read(new)
        return [token for word in words for token in new.get(word) or known[word]]

    def _read(self, new: dict[str, list[int]]) -> None:
        """The tokens of words, all at once, each on a line."""
        tokens = [*self._encode("\n" + "\n".join(new)), self._newline]
        begin = tokens.index(self._newline) + 1
        for found in new.values():
            end = tokens.index(self._newline, begin)
            found += tokens[begin:end]
            begin = end + 1
        if len(self._known) > WORDS_REMEMBERED:
            self._known = {"\n": [self._newline]}
        self._known.update((word, found) for word, found in new.items() if len(word) <= MAX_WORD)

    def _encode(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return tokens
