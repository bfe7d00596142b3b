"""Judges whether an experiment tried what is asked for: the same step, another of the same axis, or neither. Pure."""

import re
from collections.abc import Sequence
from functools import lru_cache
from math import isclose
from typing import NamedTuple

from coordinator.experiments.tokenizer import list_words
from coordinator.findings.axes import ACTIVATIONS, is_same_axis, name_key, words_of
from coordinator.findings.steps import NO_AXIS, VALUE, NamedStep, drop_verbs, is_same_value, list_steps, read_value
from shared.experiments import AxisDirection
from shared.findings import Likeness

FACTOR = re.compile(r"([\d.]+)x")
COVERED, PARTLY = 0.99, 0.5
"""Share of a phrase's words that an experiment must have to have tried it, and to be near."""

NUMBER_WORD = re.compile(r"n?\d.*")
MIN_SHARED, MOST, HALF = 2, 0.7, 0.5
"""Number of words that a question shares with an experiment, and shares of the words of both, without a value and
beside an equal one: tests/coordinator/findings/tried.py has the questions by which they were chosen."""

WAYS = words_of("schedul anneal adapt curriculum cyclic perlay learn dynam automat")
"""Stems of words that say how a quantity varies: to anneal one is no step of its value."""

LONG, JOINED = 7, 5  # letters of a word that may be written as two, in a title and in a question

BASELINE = "baseline"
"""Beginning of the title of an experiment that changed nothing."""


class Attempt(NamedTuple):
    """An experiment's words, and its step as its agent stated it."""

    title: str
    axis: str = NO_AXIS
    direction: str = AxisDirection.CHANGE
    value: str = ""


class TitleWords(NamedTuple):
    """The words of a title, the initials of several in a row, by which they may be asked for, and its letters."""

    words: frozenset[str]
    initials: frozenset[str]
    letters: str

    def count(self, key: frozenset[str]) -> int:
        """How many of the words it has: in one with others, too, as hugepages in huge pages."""
        known = self.words | self.initials
        return sum(word in known or (len(word) >= LONG and word in self.letters) for word in key)


class AskedStep(NamedTuple):
    """A step that is asked for, with the key of its axis."""

    step: NamedStep
    key: frozenset[str]


def list_asked(steps: Sequence[NamedStep]) -> list[AskedStep]:
    """Steps with a key; others say nothing that could be looked for."""
    asked = [AskedStep(_name_activation(step), name_key(_axis_of(step))) for step in steps]
    return [one for one in asked if one.key]


def _name_activation(step: NamedStep) -> NamedStep:
    """The step with the activation as its value, where only the axis names one."""
    named = [word for word in _split(step.axis) if word in ACTIVATIONS]
    return step if step.value or not named else step._replace(value=named[0])


def _axis_of(step: NamedStep) -> str:
    """A step's axis in words; that of a change of the activation is no other."""
    words = {*_split(step.value), *_split(step.old)}
    return "activation" if words & ACTIVATIONS else step.axis


def _split(text: str) -> list[str]:
    return [*sorted(name_word(word) for word in re.split(r"[\s_]+", text.casefold()) if word), name_word(text)]


def name_word(text: str) -> str:
    """A value that is a word, as it is compared."""
    word = re.sub(r"[\s_^]+", "", text.casefold())
    return {"relu²": "relu2", "squaredrelu": "relu2", "relusquared": "relu2", "swish": "silu"}.get(word, word)


def list_initials(text: str) -> frozenset[str]:
    """The initials of three or four words in a row: `utd` of update-to-data ratio, as people abbreviate them."""
    words = re.findall(r"[a-z]+", text.casefold())
    runs = (words[at : at + size] for size in (3, 4) for at in range(len(words) - size + 1))
    return frozenset("".join(word[0] for word in run) for run in runs)


@lru_cache(maxsize=20_000)
def _read_title(title: str) -> TitleWords:
    return TitleWords(name_key(title), list_initials(title), re.sub(r"[^a-z0-9]", "", title.casefold()))


@lru_cache(maxsize=20_000)
def read_steps(attempt: Attempt) -> list[AskedStep]:
    """The steps that an experiment made, as stated and as its title says."""
    stated = [NamedStep(attempt.axis, AxisDirection(attempt.direction), attempt.value)]
    return list_asked([*list_steps(attempt.title), *(stated if attempt.axis != NO_AXIS else [])])


def judge(asked: Sequence[AskedStep], attempt: Attempt, text: str = "") -> Likeness | None:
    """How an experiment resembles what is asked for; None where it does not. Of several steps it must have all, or all
    words of it must stand in the `text` of the question."""
    made, title = read_steps(attempt), _read_title(attempt.title)
    if not asked or attempt.title.casefold().startswith(BASELINE):
        return None
    found = [_judge_step(one, made, title) for one in asked]
    if all(likeness is Likeness.SAME_STEP for likeness in found) or _is_said_whole(asked, made, text, attempt.title):
        return Likeness.SAME_STEP
    best = next((likeness for likeness in Likeness if likeness in found), None)
    return Likeness.SAME_AXIS if best is Likeness.SAME_STEP else best


def _is_said_whole(asked: Sequence[AskedStep], made: Sequence[AskedStep], text: str, title: str) -> bool:
    """Whether what is asked for holds all words of what was made, two at least, or half of the words of both are
    shared, and its value, or without any value nearly all."""
    if {one.step.direction for one in (*asked, *made)} >= {AxisDirection.UP, AxisDirection.DOWN}:
        return False
    wanted, numbers = read_content(text)
    first = made[0].step if made else None
    letters = _read_title(text).letters
    for other in (title, title.partition("(")[0], f"{first.axis} {first.value}" if first else ""):
        had, values = read_content(other)
        if wanted & WAYS - had:
            continue
        shared = len(wanted & had) + sum(len(word) >= JOINED and word in letters for word in had - wanted)
        is_agreed = any(isclose(one, value) for one in numbers for value in values)
        share = 2 * shared / (len(wanted) + len(had) or 1)
        is_whole = shared >= MIN_SHARED and (shared >= COVERED * len(had) or (shared > MIN_SHARED and share >= MOST))
        if (is_agreed and (is_whole or share >= HALF)) or (is_whole and not numbers):
            return True
    return False


@lru_cache(maxsize=20_000)
def read_content(text: str) -> tuple[frozenset[str], tuple[float, ...]]:
    """The words of a text that name no verb of change and no number, and all its numbers."""
    plain = drop_verbs(text)
    words = frozenset(word for word in name_key(plain) if not NUMBER_WORD.fullmatch(word))
    numbers = (read_value(value) for value in VALUE.findall(plain))
    return words, tuple(number for number in numbers if number is not None)


def _judge_step(asked: AskedStep, made: Sequence[AskedStep], title: TitleWords) -> Likeness | None:
    found = [likeness for other in made if (likeness := _compare(asked, other))]
    best = next((likeness for likeness in Likeness if likeness in found), None)
    if best is Likeness.SAME_STEP:
        return best
    by_words = _compare_words(asked, made, title)
    is_valued = read_value(asked.step.value) is not None
    return by_words if best is None or (is_valued and by_words is Likeness.SAME_STEP) else best


def _compare(asked: AskedStep, made: AskedStep) -> Likeness | None:
    is_kind = asked.key < made.key  # a learning rate, and that of the matrices
    if not is_kind and not is_same_axis(asked.key, made.key):
        return None
    one, other = asked.step, made.step
    if one.value and is_kind and not is_same_axis(asked.key, made.key):
        return Likeness.SAME_AXIS
    if one.value:
        return Likeness.SAME_STEP if _is_same_value(one, other) else Likeness.SAME_AXIS
    is_against = {one.direction, other.direction} == {AxisDirection.UP, AxisDirection.DOWN}
    is_part = is_kind and one.direction is AxisDirection.DOWN and not _moves(other)
    return Likeness.SAME_AXIS if is_against or is_part else Likeness.SAME_STEP


def _moves(made: NamedStep) -> bool:
    """Whether an experiment took a thing away or gave it another value: one with it is no answer to one without."""
    return made.direction is AxisDirection.DOWN or bool(made.value)


def _is_same_value(asked: NamedStep, made: NamedStep) -> bool:
    if is_same_value(asked.value, made.value) or name_word(asked.value) == name_word(made.value):
        return True
    short, long = sorted((list_words(value) for value in (asked.value, made.value)), key=len)
    if short and read_value(asked.value) is None and {*short} <= {*long}:
        return True  # Huber, and the Huber loss
    if ACTIVATIONS.intersection(_split(asked.value)) and made.value:
        return bool(ACTIVATIONS.intersection(_split(asked.value)) & set(_split(made.value)))
    if made.value.lstrip().startswith("-") and asked.direction is AxisDirection.DOWN:
        return is_same_value(asked.value, made.value.lstrip(" -"))  # a change by so much
    factor, before, after = FACTOR.fullmatch(asked.value), read_value(made.old), read_value(made.value)
    if factor and before and after:
        return abs(after / before - float(factor[1])) < 0.01
    return False


def _compare_words(asked: AskedStep, made: Sequence[AskedStep], title: TitleWords) -> Likeness | None:
    """Of a step whose axis is a phrase: its words among those of the experiment, and its value among the values."""
    share = title.count(asked.key) / len(asked.key)
    if share < COVERED and not title.words & list_initials(asked.step.axis):
        return Likeness.ALIKE if share > PARTLY else None
    if read_value(asked.step.value) is None:
        is_part = asked.step.direction is AxisDirection.DOWN and not any(_moves(other.step) for other in made)
        return Likeness.SAME_AXIS if is_part else Likeness.SAME_STEP
    valued = [other for other in made if other.step.value]
    if len({other.step.value for other in valued}) > 1:
        valued = [other for other in valued if other.key & asked.key]
    is_same = any(is_same_value(asked.step.value, other.step.value) for other in valued)
    return Likeness.SAME_STEP if is_same else Likeness.SAME_AXIS
