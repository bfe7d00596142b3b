"""A small byte-pair encoding, learned from the training text. Needs the standard library only.

Tokens 0 to 255 are the bytes; each further token joins two earlier ones within a word: letters, or anything else but
white space, with the blank before it.
"""

import re
from collections import Counter, defaultdict
from itertools import pairwise

WORD = re.compile(rb" ?[A-Za-z\x80-\xff]+| ?[^A-Za-z\x80-\xff\s]+|\s+")
Pair = tuple[int, int]


class Tokenizer:
    """Turns bytes into tokens, each of which stands for `byte_lengths[token]` bytes."""

    def __init__(self, merges: list[Pair]) -> None:
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._words: dict[bytes, list[int]] = {}
        self.byte_lengths = [1] * 256
        for left, right in merges:
            self.byte_lengths.append(self.byte_lengths[left] + self.byte_lengths[right])

    def encode(self, text: bytes) -> list[int]:
        """The tokens of a text; their byte lengths add up to its length."""
        tokens: list[int] = []
        for word in WORD.findall(text):
            if word not in self._words:
                self._words[word] = self._encode_word(word)
            tokens += self._words[word]
        return tokens

    def _encode_word(self, word: bytes) -> list[int]:
        tokens = list(word)
        while len(tokens) > 1:
            pair = min(pairwise(tokens), key=lambda p: self._ranks.get(p, len(self._ranks)))
            if pair not in self._ranks:
                break
            tokens = join(tokens, pair, 256 + self._ranks[pair])
        return tokens


def learn(text: bytes, vocab_size: int) -> Tokenizer:
    """Join the most frequent pair of tokens (of equal ones the smaller) until there are `vocab_size` tokens."""
    counts = Counter(WORD.findall(text))
    words = [list(word) for word in counts]
    weights = list(counts.values())
    pairs: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, word in enumerate(words):
        for pair in pairwise(word):
            pairs[pair] += weights[index]
            places[pair].add(index)
    merges: list[Pair] = []
    while len(merges) < vocab_size - 256:
        best = max(pairs, key=lambda pair: (pairs[pair], -pair[0], -pair[1]))
        merges.append(best)
        for index in places.pop(best):
            for pair in pairwise(words[index]):
                pairs[pair] -= weights[index]
            words[index] = join(words[index], best, 255 + len(merges))
            for pair in pairwise(words[index]):
                pairs[pair] += weights[index]
                places[pair].add(index)
    return Tokenizer(merges)


def join(tokens: list[int], pair: Pair, joined: int) -> list[int]:
    """`tokens` with each occurrence of `pair`, from the left, replaced by `joined`."""
    result: list[int] = []
    i = 0
    while i < len(tokens):
        if i + 1 < len(tokens) and (tokens[i], tokens[i + 1]) == pair:
            result.append(joined)
            i += 2
        else:
            result.append(tokens[i])
            i += 1
    return result
