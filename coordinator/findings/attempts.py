"""Judges whether an experiment tried what is asked for: the same step, another of the same axis, or neither. Pure.

A question and a title are compared by shares of their words, by their values and by their directions, which are summed
with weights. `tests/bench/fit_tried.py` fits these to labelled questions, and says how well those of each session are
answered with weights of the other sessions'.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from math import isclose
from typing import NamedTuple

from coordinator.experiments.tokenizer import list_words
from coordinator.findings.axes import ACTIVATIONS, NAMES, list_names, stem_name
from coordinator.findings.steps import (
    DIMENSIONS,
    NO_AXIS,
    PARTS,
    VALUE,
    NamedStep,
    find_turn,
    first_clause,
    list_steps,
    normalise,
    read_value,
)
from shared.experiments import AxisDirection
from shared.findings import Likeness

SHORTEST, LONG, MANY, MANY_LETTERS = 3, 4, 3, 8
"""Letters of a word that may stand within others, as hugepages in huge pages; numbers of words in common, and of
letters in a word, from which on more say nothing more."""

FACTORS = {
    "double": 2.0, "doubled": 2.0, "doubling": 2.0, "twice": 2.0, "triple": 3.0, "tripled": 3.0, "halve": 0.5,
    "halved": 0.5, "halving": 0.5, "half": 0.5, "third": 1 / 3, "quarter": 0.25, "fifth": 0.2, "tenth": 0.1,
}  # fmt: skip


BETAS = frozenset(("beta1", "beta2"))


class Attempt(NamedTuple):
    """An experiment's words, and its step as its agent stated it."""

    title: str
    axis: str = NO_AXIS
    direction: str = AxisDirection.CHANGE
    value: str = ""


class ReadText(NamedTuple):
    """A text as read: its words, with those of each of its parts, values, directions, and number of valued steps.

    `listed` are all its words as they stand, `words` those that tell an axis.
    `short` are words that may abbreviate others, by whose first letters `initials` has them. `is_limited`: it says that
    only a part is changed; `is_swap`: that one named thing takes the place of another; `removes`: that something is
    left out. `clauses` are its parts word by word, without numbers; `amounts` the words and the values of each part
    that has both.
    """

    text: str
    listed: tuple[str, ...]
    words: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]
    letters: str
    values: frozenset[float]
    shifts: frozenset[float]
    moves: frozenset[float]
    factors: frozenset[float]
    ratios: frozenset[float]
    valued: int
    directions: frozenset[AxisDirection]
    initials: Mapping[str, tuple[str, ...]]
    short: frozenset[str]
    is_limited: bool
    is_swap: bool
    removes: bool
    clauses: tuple[tuple[str, ...], ...]
    amounts: tuple[tuple[frozenset[str], frozenset[float]], ...]


class Features(NamedTuple):
    """How a question and an experiment compare: shares of 1 of the words, numbers of words, and what is true as 1.

    `lacked` is the share of the question's words that the experiment lacks and that another one, or the field, uses:
    it would have used them too. `is_limited` is a question that says "only", where the experiment does not;
    `is_removed` an experiment without what the question has; `is_replaced` one that has another thing in its place.
    `rare` is 1 where both have a word of eight letters and more that no other experiment has; less where it is shorter,
    or others have it.
    """

    always: float
    asked: float
    both: float
    shared: float
    lacked: float
    is_limited: float
    is_same_value: float
    same_value_of_same: float
    is_other_value: float
    is_value_unknown: float
    is_other_kind: float
    is_against: float
    is_removed: float
    is_replaced: float
    rare: float


WEIGHTS = Features(-4.5, 2.6, 1.7, 0.9, -1.6, -1.4, 2.7, 1.6, -5.6, -0.4, -1.2, -2.3, -1.7, -2.5, 1.5)
OF_WORDS = 4
"""Number of the first features, which compare words only."""

PARTLY, PART = 0.5, 0.15
"""Share of a question's words that an experiment must have to be near; what a share of a part of a title is less."""


def read_question(text: str, steps: Sequence[NamedStep], said: str = "") -> ReadText:
    """Read a text whose steps are known."""
    words = tuple(dict.fromkeys([*_list_words(text), *DIMENSIONS & {step.axis for step in steps}]))  # wider: the width
    old = {number for step in steps if (number := read_value(step.old)) is not None}
    factors = {FACTORS[word] for word in re.findall(r"[a-z]+", normalise(text).casefold()) if word in FACTORS}
    if not old:
        factors |= {number for value in _TIMES.findall(normalise(said or text)) if (number := read_value(value))}
    new = set(_list_numbers(said or text)) - old
    shifts = {float(found[1] or found[2]) for found in _SHIFT.finditer(normalise(text))}
    return ReadText(
        text, tuple(list_words(text)), words, _list_parts(text), "".join(word for word in words if word not in NAMES),
        frozenset(new - shifts), frozenset(shifts), frozenset(abs(value - before) for value in new for before in old),
        frozenset(factors),
        frozenset(filter(_is_factor, (value / before for before in old if before for value in new))),
        sum(read_value(step.value) is not None for step in steps),
        frozenset([*(step.direction for step in steps), *[AxisDirection.DOWN] * (0.0 in new)]),
        _list_initials(text), frozenset(_SHORT.findall(text.casefold())) - NAMES, bool(_LIMIT.search(normalise(text))),
        any(step.old and step.value and read_value(step.value) is None for step in steps),
        bool(_REMOVAL.search(PARTS.split(first_clause(text))[0])), _list_clauses(text),
        tuple(_list_amounts(said or text)),
    )  # fmt: skip


@lru_cache(maxsize=20_000)
def read_attempt(attempt: Attempt) -> ReadText:
    """Read what an experiment did, from its title and its step."""
    steps, clause = list(list_steps(attempt.title)), first_clause(attempt.title)
    clause = clause if _list_numbers(clause) else normalise(attempt.title).partition("(")[0]
    clause = clause if _list_numbers(clause) else normalise(attempt.title)
    if attempt.axis == NO_AXIS:
        return _add_label(read_question(attempt.title, steps, clause))
    stated = NamedStep(attempt.axis, AxisDirection(attempt.direction), attempt.value)
    title = read_question(attempt.title, [*steps, stated], clause)
    axis, value = _list_words(attempt.axis), read_value(attempt.value)
    title = _add_label(title)
    return title._replace(
        words=(*title.words, *axis), parts=(*title.parts, axis) if axis else title.parts,
        values=title.values | ({value} if value is not None else set()),
    )  # fmt: skip


def _add_label(title: ReadText) -> ReadText:
    """With the name that stands before a colon as a part of its own: `WSD schedule: warmup 5%, decay 15%`."""
    found = _NAMED.match(title.text)
    words = _list_words(found[1]) if found else ()
    if not words or words in title.parts:
        return title
    return title._replace(words=tuple(dict.fromkeys((*title.words, *words))), parts=(*title.parts, words))


def _list_parts(text: str) -> tuple[tuple[str, ...], ...]:
    """The words of a text's step, and of each part of it."""
    clause = first_clause(text)
    return tuple(dict.fromkeys(words for part in (clause, *PARTS.split(clause)) if (words := _list_words(part))))


def _list_clauses(text: str) -> tuple[tuple[str, ...], ...]:
    """A text's step, and each part of it, word by word, without numbers."""
    clause = first_clause(text).casefold()
    return tuple(dict.fromkeys(tuple(re.findall(r"[a-z]\w*", part)) for part in (clause, *PARTS.split(clause))))


def _list_amounts(text: str) -> Iterator[tuple[frozenset[str], frozenset[float]]]:
    for part in PARTS.split(normalise(text)):
        if (words := _list_words(part)) and (values := _list_numbers(part)):
            yield frozenset(words), frozenset(values)


@lru_cache(maxsize=20_000)
def _list_words(text: str) -> tuple[str, ...]:
    """The words of a text, in their order, that name neither a change nor a number; an activation names its axis."""
    names = [name for name in list_names(normalise(text)) if not find_turn(name) and name not in FACTORS]
    words = [stem for name in names if (stem := stem_name(name)) and not re.fullmatch(r"n?\d.*", stem)]
    if {"tie", "untie"} & {*words}:  # of the embeddings with each other, as a rule
        words = [word for word in words if word not in ("embedding", "lmhead", "weight")]
    words = [word for word in words if word != "optim"] or words  # another word tells which one
    return tuple(dict.fromkeys([*words, "activation"] if ACTIVATIONS & {*words} else words))


def _list_numbers(text: str) -> list[float]:
    plain = normalise(text)
    return [number for value in VALUE.findall(plain) if (number := read_value(value)) is not None]


_FIELD = dict.fromkeys(NAMES, 0)


def count_known(attempts: Iterable[Attempt]) -> Counter[str]:
    """The words by which the field and these experiments name what they change, and how many experiments have each."""
    known = Counter(_FIELD)
    known.update(word for attempt in attempts for word in {*read_attempt(attempt).words})
    return known


def judge(asked: ReadText, attempt: Attempt, known: Mapping[str, int] = _FIELD) -> Likeness | None:
    """How an experiment resembles what is asked for; None where it does not. `known` are those of `count_known`."""
    made = read_attempt(attempt)
    if asked.listed == made.listed:
        return Likeness.SAME_STEP
    if attempt.title.casefold().startswith("baseline"):  # it changed nothing
        return None
    both = _abbreviate(asked, made), _abbreviate(made, asked)
    if not any(_has(both[1], word) for word in both[0].words):  # most experiments: an answer takes half the time
        return None
    features = compare(asked, made, known)
    terms = [weight * feature for weight, feature in zip(WEIGHTS, features, strict=True)]
    if sum(terms) >= 0:
        return Likeness.SAME_STEP
    if sum(terms[:OF_WORDS]) >= 0:
        return Likeness.SAME_AXIS
    return Likeness.ALIKE if features.asked >= PARTLY else None


def compare(asked: ReadText, made: ReadText, known: Mapping[str, int] = _FIELD) -> Features:
    """Compare a question with an experiment. `known` are words as of `count_known`."""
    asked, made = _leave_other_beta(_abbreviate(asked, made), made), _abbreviate(made, asked)
    lacked = [word for word in asked.words if not _has(made, word)]
    count, number = len(asked.words) or 1, len(asked.words) - len(lacked)
    unasked = {word for word in made.words if not _has(asked, word)}
    of_asked = number / count
    # A part of a title says less than the whole.
    shares = [sum(word not in unasked for word in part) / len(part) for part in made.parts]
    of_made = max((share - (PART if number else 0) for number, share in enumerate(shares)), default=0.0)
    # Of several values, those that stand beside a word that is asked for.
    beside = [values for words, values in made.amounts if any(word not in unasked for word in words)]
    said = (made.values.intersection(*[frozenset().union(*beside)] if beside else []) or made.values) | made.factors
    agreed = sum(any(_is_close(one, other) for other in said) for one in asked.values)
    by_factor = (*product(asked.factors, said | made.ratios), *product(asked.ratios, made.factors))
    is_same = agreed >= max(1, asked.valued) or any(_is_close(one, other) for one, other in by_factor)
    by_shift = (*product(asked.shifts, made.moves), *product(asked.moves, made.shifts))
    is_same = is_same or any(_is_close(one, other) for one, other in by_shift)
    up, down, both_ways = AxisDirection.UP, AxisDirection.DOWN, ((asked, made), (made, asked))
    return Features(
        1, of_asked, of_asked * of_made, min(number, MANY), sum(word in known for word in lacked) / count,
        asked.is_limited and not made.is_limited, is_same, is_same * of_asked * of_made,
        not is_same and (bool(asked.values and made.values) or _is_numbered(lacked, unasked)),
        bool(asked.values) and not made.values,
        bool(asked.valued) and made.is_swap and not is_same,
        any(up in one.directions and down in two.directions and up not in two.directions for one, two in both_ways),
        made.removes and not asked.removes,
        bool(lacked and unasked) and any(_is_replaced(*two) for two in product(asked.clauses[:1], made.clauses)),
        0 if asked.is_limited and not made.is_limited else max(
            (min(1, len(one) / MANY_LETTERS) / max(1, known.get(one, 0)) for one in asked.words if one not in lacked),
            default=0,
        ),
    )  # fmt: skip


def _leave_other_beta(asked: ReadText, made: ReadText) -> ReadText:
    """A question without the beta that an experiment does not change: code sets both of Adam's at once."""
    other = BETAS.difference(made.words)
    if len(other) != 1 or not BETAS.issubset(asked.words):
        return asked
    values = frozenset().union(*(values for words, values in asked.amounts if other & words))
    return asked._replace(
        words=tuple(word for word in asked.words if word not in other), values=asked.values - values,
        valued=asked.valued - len(values),
    )  # fmt: skip


def _is_numbered(lacked: Iterable[str], unasked: Iterable[str]) -> bool:
    """Whether a word differs from another one in its number only: float2, and float4."""
    names = {re.sub(r"\d+", "#", word) for word in unasked if re.search(r"[a-z].*\d", word)}
    return any(re.sub(r"\d+", "#", word) in names for word in lacked if word[-1:].isdigit() or word not in NAMES)


def _is_factor(ratio: float) -> bool:
    """Whether a ratio is one that people name: 2x, half, a tenth."""
    return ratio > 0 and any(abs(one - round(one)) < 1e-6 for one in (ratio, 1 / ratio))


def _is_close(one: float, other: float) -> bool:
    """Whether two numbers are the same, where thousands may be of 1024."""
    factors = (1, 1.024, 1 / 1.024, 1.024**2, 1.024**-2) if one >= 1000 else (1,)
    return any(isclose(one, other * factor, rel_tol=1e-3 if one >= 1000 else 1e-6) for factor in factors)


def _has(text: ReadText, word: str) -> bool:
    if word in text.words or word in NAMES or len(word) < SHORTEST:
        return word in text.words
    return (len(word) >= LONG and word in text.letters) or any(_is_like(word, other) for other in text.words)


@lru_cache(maxsize=100_000)
def _is_like(word: str, other: str) -> bool:
    """Whether one of two words abbreviates the other (env, attn), or they differ in their last letters only."""
    short, long = sorted((word, other), key=len)
    if len(short) < SHORTEST or short[0] != long[0] or NAMES & {word, other} or _is_numbered([word], [other]):
        return False
    if long.startswith(short):
        return long == word or len(short) == SHORTEST
    same = _count_same(short, long)
    letters = iter(long)
    return same >= max(5, 0.7 * len(long)) or (
        len(short) <= LONG and not _VOWEL.search(short, 1) and all(letter in letters for letter in short)
    )


def _count_same(one: Sequence[str], other: Sequence[str]) -> int:
    """With how many same elements two sequences begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (of_one, of_other) in pairs if of_one != of_other), min(len(one), len(other)))


def _is_replaced(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two texts differ in a few words of their midst or end: index on open orders, index on closed orders."""
    before = _count_same(one, other)
    after = _count_same(one[before:][::-1], other[before:][::-1])
    rests = [len(text) - before - after for text in (one, other)]
    return min(rests) > 0 and max(rests) <= MANY and before + after > 1


def _abbreviate(one: ReadText, other: ReadText) -> ReadText:
    """A text with the other's abbreviations in place of the words whose initials they are: LM, and language model."""
    found = sorted((other.short - one.short) & one.initials.keys(), key=len)[::-1]
    if not found:
        return one
    text = _HUMP.sub(" ", one.text).casefold()
    for word in found:
        text = re.sub(r"\W+(?:and\W+|of\W+)?".join(one.initials[word]), word, text)
    return one._replace(words=_list_words(text), parts=_list_parts(text))


def _list_initials(text: str) -> dict[str, tuple[str, ...]]:
    """Two to four words in a row by their initials."""
    words = [word for word in re.findall(r"[a-z]+", _HUMP.sub(" ", text).casefold()) if word not in ("and", "of")]
    runs = (tuple(words[at : at + size]) for size in (4, 3, 2) for at in range(len(words) - size + 1))
    return {"".join(word[0] for word in run): run for run in runs}


_SHIFT = re.compile(r"\b(\d+) (?:more|fewer|less|extra|additional)\b|\b(\d+) \w+ (?:more|fewer|less)\b")
_LIMIT = re.compile(r"\b(?:only|separate(?:ly)?|except|alone)\b", re.IGNORECASE)
_REMOVAL = re.compile(
    r"\b(?:(?:remov|drop(?!out|path)|disabl|strip|exclud|delet|omit|ablat|eliminat)|(?:without|no|not|never|off)\b)",
    re.IGNORECASE,
)
_TIMES = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)(?:x| times)(?![\w.])")
_VOWEL = re.compile("[aeiouy]")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NAMED = re.compile(r"^([A-Za-z][^:=(\d]{2,59}):\s")
_SHORT = re.compile(r"(?<![a-z])[a-z]{2,4}(?![a-z])")
