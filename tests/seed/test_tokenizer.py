"""The byte-pair encoding that `prepare` learns."""

from harness.tokenizer import Tokenizer, join, learn
from hypothesis import given
from hypothesis import strategies as st

TEXT = b"the cat sat on the mat, and the cat saw that the mat was flat.\n" * 30


def test_joins_the_most_frequent_pair_first() -> None:
    tokenizer = learn(b"aab aab aab xy", 258)
    assert tokenizer.encode(b"aab") == [257]
    assert tokenizer.byte_lengths[256:] == [2, 3]


def test_has_the_size_asked_for_and_shortens_its_text() -> None:
    tokenizer = learn(TEXT, 280)
    assert len(tokenizer.byte_lengths) == 280
    assert len(tokenizer.encode(TEXT)) < len(TEXT) / 2


def test_never_crosses_a_word() -> None:
    tokenizer = learn(TEXT, 280)
    assert tokenizer.encode(b"the cat") == tokenizer.encode(b"the") + tokenizer.encode(b" cat")


@given(st.text(max_size=300))
def test_stands_for_every_byte_of_any_text(text: str) -> None:
    tokenizer = learn(TEXT, 280)
    tokens = tokenizer.encode(text.encode())
    assert sum(tokenizer.byte_lengths[token] for token in tokens) == len(text.encode())


@given(st.binary(max_size=200))
def test_falls_back_to_bytes(content: bytes) -> None:
    assert Tokenizer([]).encode(content) == list(content)


def test_joins_from_the_left() -> None:
    assert join([1, 1, 1, 2], (1, 1), 9) == [9, 1, 2]
