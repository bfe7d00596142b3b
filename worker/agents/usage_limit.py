"""Reads from what a coding tool or a model says that a usage limit is reached, and when it ends."""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MAX_WAIT = timedelta(days=8)
"""Longest wait that is believed: limits are by the minute, by some hours, by the day or by the week."""

_LIMIT = re.compile(
    r"(?i)(?:usage|session|weekly|daily|hourly|\d+-hour|rate|spend\w*|quota) limit"
    r"|\blimit (?:was |is |has been )?(?:reached|exceeded|hit)|limit will reset|(?:rate|usage).?limit"
    r"|quota (?:exceeded|exhausted)"
    r"|exceeded your (?:current )?quota|exhausted your (?:daily )?(?:capacity|quota)|quota will reset|too many requests"
    r"|resource.?exhausted|overloaded_error|(?:error|status|code|http)\W{0,4}429\b"
    r"|out of (?:extra )?(?:usage|credits?)|(?:credit )?balance is too low"
    r"|insufficient.(?:quota|credits?|funds|balance)|rejected \(429\)|limiting requests"
)
_RESET = r"(?:resets?|reset_?s?_?at|try again|retry(?!ing)|available again|again|wait|until|come back)"
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(
    _RESET + r"[^\n]{0,30}?\b(?:in|after|for)?[ \":']*((?:\d+(?:\.\d+)?\s*"
    r"(?:days?|hours?|hrs?|minutes?|mins?|seconds?|secs?|[dhms])(?![a-z])[ ,and]*)+)",
    re.IGNORECASE,
)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([dhms])", re.IGNORECASE)
_SECONDS = re.compile(r"(?i)(?:resets?_in_seconds|retry[_-]?after|retryDelay)\W{1,5}(\d+(?:\.\d+)?)")
_EPOCH = re.compile(r"(?:\||resets?_?at\W{1,4}|reset\W{1,4})(1\d{9})(?:\d{3})?\b", re.IGNORECASE)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?)\s*(Z|[+-]\d\d:?\d\d|UTC)?")
_CLOCK = re.compile(
    _RESET + r"[^\n]{0,24}?(?:\b(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? (?P<day>\d{1,2})"
    r"(?:st|nd|rd|th)?,?(?: (?P<year>\d{4}),?)? (?:at )?)?\b(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?(?::\d\d)?"
    r"\s*(?P<half>[ap]\.?m\b\.?)?(?:\s*\((?P<zone>[\w/+\-]+)\)|\s*(?P<utc>UTC|GMT)\b)?",
    re.IGNORECASE,
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def is_usage_limit(text: str) -> bool:
    """Whether a text says that a usage limit, quota or balance is used up."""
    return bool(_LIMIT.search(text))


def find_reset(text: str, now: datetime) -> datetime | None:
    """When the limit that a text speaks of ends, at most MAX_WAIT from `now`, or None if it does not say.

    Understands durations (`in 2 days 3 hours`, `after 8h44m7s`), clock times with or without a day and a time zone
    (`resets 3pm (America/Santiago)`, `try again at Aug 20, 2026, 7:38 AM`), ISO 8601, and seconds since 1970. A clock
    time without a zone is in `now`'s zone.
    """
    readers = (_from_epoch, _from_seconds, _from_duration, _from_iso, _from_clock)
    found = next((time for read in readers if (time := read(text, now))), None)
    return found if found is not None and now - timedelta(minutes=1) < found <= now + MAX_WAIT else None


def _from_epoch(text: str, now: datetime) -> datetime | None:  # noqa: ARG001 - all readers take both
    match = _EPOCH.search(text)
    return datetime.fromtimestamp(int(match[1]), UTC) if match else None


def _from_seconds(text: str, now: datetime) -> datetime | None:
    match = _SECONDS.search(text)
    return now + timedelta(seconds=float(match[1])) if match else None


def _from_duration(text: str, now: datetime) -> datetime | None:
    match = _DURATION.search(text)
    if match is None:
        return None
    return now + timedelta(seconds=sum(float(n) * _UNITS[unit.lower()] for n, unit in _PART.findall(match[1])))


def _from_iso(text: str, now: datetime) -> datetime | None:
    for match in _ISO.finditer(text):
        zone = "" if match[2] is None else "+00:00" if match[2] in ("Z", "UTC") else match[2]
        time = datetime.fromisoformat(match[1].replace(" ", "T") + zone)
        time = time if time.tzinfo else time.replace(tzinfo=now.tzinfo)
        if time > now:  # an earlier one is when the line was logged
            return time
    return None


def _from_clock(text: str, now: datetime) -> datetime | None:
    for match in _CLOCK.finditer(text):
        if match["half"] is None and match["minute"] is None:
            continue  # a number of something else
        hour, zone = int(match["hour"]), _zone(match, now)
        if match["half"]:
            hour = hour % 12 + (12 if match["half"].lower().startswith("p") else 0)
        local = now.astimezone(zone)
        try:
            time = local.replace(hour=hour, minute=int(match["minute"] or 0), second=0, microsecond=0)
            if match["month"]:
                month = _MONTHS.index(match["month"].lower()) + 1
                time = time.replace(year=int(match["year"] or local.year), month=month, day=int(match["day"]))
                return time if match["year"] or time > now else time.replace(year=time.year + 1)
        except ValueError:  # no such hour or day
            continue
        return time if time > now else time + timedelta(days=1)
    return None


def _zone(match: re.Match[str], now: datetime) -> tzinfo | None:
    if match["utc"]:
        return UTC
    try:
        return ZoneInfo(match["zone"]) if match["zone"] else now.tzinfo
    except (ZoneInfoNotFoundError, ValueError):
        return now.tzinfo
