"""Finds results that an author typed into a finding's words, and puts placeholders in their place. Pure.

A number is taken for a result if it agrees with what was measured to the digits that were typed, and stands nowhere in
the proposal: a constant's new value stays as it is, and what is told "as first measured". After "by" or "from" a number
may differ a little more, because the author knew another number of the parent than the coordinator has when the
result comes.
"""

import re
from math import isclose
from typing import TYPE_CHECKING, NamedTuple

from shared.claims import WORDS
from shared.experiments import Proposal
from shared.findings import FindingDraft

if TYPE_CHECKING:
    from coordinator.models import Experiment

NEAR = 0.5
"""How far a number after "by" or "from" may be from what was measured, in sd of the effect."""

LONGEST_CLAIM = 200
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.])[-+\N{MINUS SIGN}])?(?<![\w.])"
    r"(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+(?:e-?\d+)?|\d+e-\d+|\d{4,}|(?<=\bby )\d{2,3})"
    r"(?:\s*(?:±|\+/-)\s*\d*\.?\d+)?(?P<percent>\s?%)?(?!\w|\.\d)"
)
_COMMENT = re.compile(r"\s[\N{EM DASH}\N{EN DASH}-]+\s|;|\(|:\s")
_ANY_NUMBER = re.compile(r"\d*\.?\d+(?:e-?\d+)?", re.IGNORECASE)


class MeasuredResult(NamedTuple):
    """Results as known when a finding was written: metrics of the commit, the parent's, and effects with their sd. What
    is not known is None."""

    metrics: tuple[float | None, ...]
    parent: float | None
    effects: tuple[float, ...]
    effect_sd: float


def replace_results(draft: FindingDraft, proposal: "Proposal | Experiment", measured: MeasuredResult) -> FindingDraft:
    """The draft with placeholders where its author typed results."""
    kept = _list_kept(proposal)
    words = {name: _replace(getattr(draft, name), kept, measured) for name in WORDS}
    if len(words["claim"]) > LONGEST_CLAIM:
        words["claim"] = words["claim"][:LONGEST_CLAIM].rpartition(" ")[0] + "…"
    return draft.model_copy(update=words)


def _list_kept(proposal: "Proposal | Experiment") -> frozenset[float]:
    """The numbers of a proposal, which are no results. What follows a title's first clause may tell the result."""
    change = _COMMENT.split(proposal.title, maxsplit=1)[0]
    stated = f"{change} {proposal.axis} {proposal.value} {proposal.hypothesis}"
    numbers = {float(found) for found in _ANY_NUMBER.findall(stated)}
    return frozenset(numbers | {abs(float(one)) for one in proposal.settings.values() if not isinstance(one, str)})


def _replace(text: str, kept: frozenset[float], measured: MeasuredResult) -> str:
    def name(found: re.Match[str]) -> str:
        value = float(found["number"].replace(",", ""))
        if any(isclose(value, one, rel_tol=1e-9) for one in kept):
            return found[0]
        if "as first measured" in text[text.rfind(". ", 0, found.start()) + 1 : found.start()]:
            return found[0]
        before = text[max(0, found.start() - 12) : found.start()].casefold()
        if found["percent"]:
            return _name_share(found, value, measured) or found[0]
        return _name_result(found, value, before, measured) or found[0]

    return _NUMBER.sub(name, text)


def _name_result(found: re.Match[str], value: float, before: str, measured: MeasuredResult) -> str | None:
    number = found["number"].replace(",", "")
    last, is_precise = _last_place(number), len(number.split("e")[0].replace(".", "").lstrip("0")) >= 2
    for metric in measured.metrics:
        if metric is not None and is_precise and abs(value - abs(metric)) <= last:
            return "{metric}"
    loose = NEAR * measured.effect_sd
    by = loose if re.search(r"\bby\s+(?:about |roughly |~)?$", before) else 0.0
    since = loose if re.search(r"(?:\bfrom|parent\S*)\s+(?:of )?$", before) else 0.0
    for effect in measured.effects:
        if (is_precise or by) and abs(value - abs(effect)) <= last + by:
            return "{effect}" if found["sign"] else "{fall}" if effect < 0 else "{rise}"
    if measured.parent is not None and is_precise and abs(value - abs(measured.parent)) <= last + since:
        return "{parent}"
    return None


def _name_share(found: re.Match[str], value: float, measured: MeasuredResult) -> str | None:
    number, last = found["number"], _last_place(found["number"].replace(",", ""))
    for effect in measured.effects if measured.parent else ():
        share = 100 * effect / abs(measured.parent or 1.0)
        if abs(value - abs(share)) <= last:
            return "{rise_percent}" if found["sign"] or effect > 0 else "{fall_percent}"
    for name, known in (*(("metric", one) for one in measured.metrics), ("parent", measured.parent)):
        is_share = known is not None and abs(known) <= 1
        if known is not None and len(number) > 3 and abs(value - (100 if is_share else 1) * abs(known)) <= last:
            return f"{{{name}_percent}}" if is_share else f"{{{name}}}{found['percent']}"
    return None


def _last_place(number: str) -> float:
    """Half of the last digit that was typed."""
    mantissa, _, power = number.partition("e")
    return 0.505 * 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
