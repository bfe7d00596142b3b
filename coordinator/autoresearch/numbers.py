"""Numbers and times as people write them into logs: units, decimal commas, signs or values for nothing. Pure."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import NamedTuple

from shared.protocol import EARLIEST, LATEST, MAX_COUNT

MISSING = frozenset((
    "", "-", "--", "---", "\N{EN DASH}", "\N{EM DASH}", "?", ".", "n/a", "na", "none", "null", "nil", "tbd", "unknown",
    "missing",
))  # fmt: skip
NOT_FINITE = frozenset({"nan", "inf", "+inf", "-inf", "infinity", "-infinity", "+infinity"})
SENTINEL = re.compile(r"-?(9{3,}|10{6,})(\.0*)?|-?1(\.0*)?e\+?\d+|-?9{3,}(\.9+)?", re.IGNORECASE)
FAR = 10.0
"""A value that stands for nothing is larger by this factor than the largest of the others."""

_EPOCH = re.compile(r"1\d{9}(\.\d+)?|1\d{12}")
ZONED = re.compile(r"(Z|[A-Z]{3,4}|[+-]\d\d:?\d\d)$|^1\d{9}(\d{3})?(\.\d+)?$", re.IGNORECASE)
_ZONE = re.compile(r"(?<=\d)\s?([A-Z]{3,4})$")
_ZONES = {"UTC": 0, "GMT": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "JST": 9,
          "KST": 9, "AEST": 10, "AEDT": 11, "EST": -5, "EDT": -4, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8,
          "PDT": -7}  # fmt: skip
"""Hours before UTC, by abbreviations that stand for one zone; CST, IST and BST stand for several."""

MIN_DATE = 10  # characters; 20260305 may be a number of another kind
_TIME_FORMS = (
    "%Y-%m-%d_%H-%M-%S", "%Y%m%d_%H%M%S", "%Y%m%d-%H%M%S", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d",
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%b %d %Y %H:%M:%S", "%b %d %Y %H:%M", "%b %d %Y",
)  # fmt: skip
"""Forms in which day and month cannot be taken for each other."""

_NUMBER = re.compile(
    r"(?P<sign>[-+\N{MINUS SIGN}]?)\s?(?P<digits>\d[\d.,_]*|\.\d+)(?P<exponent>e[-+]?\d+)?\s*"
    r"(?P<unit>[%a-z\N{MICRO SIGN}](?:(?!\d+[a-z])[\w%/^\N{MICRO SIGN}])*)?"
    r"(?:\s*(?:\N{PLUS-MINUS SIGN}|\+/-|\().*)?",
    re.IGNORECASE,
)
_APART = "[ '\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{RIGHT SINGLE QUOTATION MARK}]"
_GROUPED = re.compile(rf"(?<![\d.,])\d{{1,3}}(?:{_APART}\d{{3}})+(?!\d)")
MAX_NUMBER, MAX_TIME = 1_000, 64  # characters
_MIB = {"kb": 1 / 1024, "kib": 1 / 1024, "mb": 1.0, "mib": 1.0, "m": 1.0, "gb": 1024.0, "gib": 1024.0, "g": 1024.0}
"""MiB of a unit. The original loop's `memory_gb` is its peak in MiB divided by 1024, and `peak_vram_mb` in MiB."""


class ReadNumber(NamedTuple):
    """A number, and its unit in lower case; empty without one."""

    value: float
    unit: str


def has_decimal_commas(texts: Iterable[str], *, is_european: bool = False) -> bool:
    """Whether a comma in these numbers begins their fraction: one that cannot part thousands shows it. `is_european`:
    commas part no columns, so each of them does unless a point stands behind one."""
    found = [match[0] for text in texts if (match := re.search(r"\d[\d.,]*", text)) and "," in match[0]]
    if is_european and found and not any("." in text.split(",", 1)[-1] or text.count(",") > 1 for text in found):
        return True
    return any(
        text.count(",") == 1 and (len(text.split(",")[1]) != 3 or text.startswith("0,") or "." in text.split(",")[0])
        for text in found
        if "." not in text.split(",", 1)[-1]
    )


def read_number(text: str, *, decimal_comma: bool = False) -> ReadNumber | None:
    """A number with or without a unit; None where the text is no number, or not a finite one."""
    plain = text.strip().strip("*`\"'~\N{ALMOST EQUAL TO}").strip() if len(text) <= MAX_NUMBER else ""
    match = _NUMBER.fullmatch(_GROUPED.sub(lambda found: re.sub(r"\D", "", found[0]), plain))
    if match is None:
        return None
    digits = match["digits"].replace("_", "")
    digits = digits.replace(".", "").replace(",", ".") if decimal_comma and "," in digits else digits.replace(",", "")
    sign = "-" if match["sign"] in ("-", "\N{MINUS SIGN}") else ""
    try:
        value = float(f"{sign}{digits}{match['exponent'] or ''}")
    except ValueError:
        return None
    return ReadNumber(value, (match["unit"] or "").lower()) if isfinite(value) else None


def has_remark(text: str) -> bool:
    """Whether more stands beside a number than its unit: that it is about so much, its error, or words."""
    return re.search(r"[~\N{ALMOST EQUAL TO}\N{PLUS-MINUS SIGN}(]|\+/-", text) is not None


def read_memory(text: str, column: str) -> int | None:
    """Memory in MiB, in the unit beside the number or in the column's name; None where it is not known, or zero."""
    number = read_number(text)
    if number is None or number.value <= 0:
        return None
    named = re.search(r"(kib|kb|mib|mb|gib|gb)\)?$", column)
    factor = _MIB.get(number.unit) or (_MIB[named[1]] if named else None)
    return round(number.value * factor) if factor and number.value * factor <= MAX_COUNT else None


def find_unit(numbers: Iterable[ReadNumber]) -> str:
    """The unit of most of the numbers."""
    counts = Counter(number.unit for number in numbers)
    return max(counts, key=lambda unit: counts[unit], default="")


def find_sentinels(texts: Iterable[str], kept: Collection[float] = (), *, is_signed: bool = False) -> set[float]:
    """Values such as -999 that stand for "no result": nines or a power of ten, far from all others; and -1 where no
    other one is below zero, and nothing was `kept` with it. Of a metric that may be below zero, which `is_signed` says,
    -1 is such a value only where it has fewer decimals than each of the others, which a program wrote."""
    values = {text: number.value for text in texts if (number := read_number(text))}
    suspects = {value for text, value in values.items() if SENTINEL.fullmatch(text.strip()) and abs(value) >= 999}
    others = {*values.values()} - suspects
    found = {value for value in suspects if abs(value) > FAR * max(map(abs, others), default=0.0) > 0}
    if -1.0 not in others.difference(kept) or min(others - {-1.0}, default=-1.0) < 0:
        return found
    ones, rest = (
        {len(text.partition(".")[2]) for text in values if (values[text] == -1.0) == one} for one in (True, False)
    )
    return found if is_signed and max(ones) >= min(rest) else found | {-1.0}


def read_time(text: str) -> datetime | None:
    """A date in an unambiguous form, or seconds (or milliseconds) since 1970. A time without zone is taken as UTC."""
    moment = _parse_time(" ".join(text[: 2 * MAX_TIME].replace(",", " ").split()))
    if moment is None:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return moment.astimezone(UTC) if EARLIEST < moment < LATEST else None


def _parse_time(text: str) -> datetime | None:
    if _EPOCH.fullmatch(text):
        seconds = float(text)
        return datetime.fromtimestamp(seconds / 1000 if seconds > 1e11 else seconds, UTC)
    if not MIN_DATE <= len(text) <= MAX_TIME:
        return None
    zone = _ZONE.search(text)
    text = f"{text[: zone.start()]}{_ZONES[zone[1]]:+03d}:00" if zone and zone[1] in _ZONES else text
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    for form in _TIME_FORMS:
        with suppress(ValueError):
            return datetime.strptime(text, form)  # noqa: DTZ007 - the zone is set above
    with suppress(ValueError):  # that of e-mail, and of C's ctime
        return parsedate_to_datetime(text)
    return None
