"""Finds the ten most frequent words of a text. This is the file to change; see program.md.

    build(examples: list[str]) -> bytes       once, within the budget; what it returns is handed to the other process
    answer(built: bytes, text: str) -> list[str]     the ten most frequent words, ties in alphabetical order

A word is a run of the letters a to z. The metric is how long an answer takes. Lower is better.
"""

CHUNK = 4096  # choices: 256, 1024, 4096, 16384


def build(examples: list[str]) -> bytes:
    return b""


def answer(built: bytes, text: str) -> list[str]:
    counts: dict[str, int] = {}
    word = ""
    for start in range(0, len(text), CHUNK):
        for character in text[start : start + CHUNK]:
            if "a" <= character <= "z":
                word += character
            elif word:
                counts[word] = counts.get(word, 0) + 1
                word = ""
    if word:
        counts[word] = counts.get(word, 0) + 1
    return sorted(counts, key=lambda word: (-counts[word], word))[:10]
