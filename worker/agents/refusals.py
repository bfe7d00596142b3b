"""Reads from what a tool or a model says why it cannot work, whatever it is asked, or not before a usage limit ends.

Why it cannot work at all is read from an answer to next to nothing only: among words about real work it may mean
something else.
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

CANNOT_START = (126, 127)
"""Exit statuses of a shell whose command cannot be executed, or is not there."""

UNKNOWN_OPTION = "it does not know an option that it is started with: update it, or give your own --agent-command"
NO_CREDIT = "no credit is left with its provider: add some there, or choose another tool"
NO_MODEL = (
    "its provider does not have this model, at this address and for this account: --model NAME, or leave that out"
)
LOG_IN = "log in to it, or set its key, and grant the tool what holds them (--agent-path, `agent_environment`)"
NOT_GRANTED = "it cannot be started in its sandbox, where only what is granted can be seen: --agent-path PATH"

PASSING, SILENT = "its provider is out of order", "it says nothing"

_STATUS = r"\b(?:error|status|code|http|api|statuscode)\b\W{{0,12}}{0}\b|\b{0}\b\W{{0,3}}(?:{1})"
_KINDS = (
    (
        UNKNOWN_OPTION,
        r"unknown (?:option|argument|flag|command)s?\b|unrecogni[sz]ed (?:option|argument|subcommand)|no such option"
        r"|unexpected argument|invalid (?:value|choice) for|error: the following arguments|positionals:.*options:",
    ),
    (
        NO_CREDIT,
        r"payment required|credit balance|insufficient[ _](?:credits?|funds|balance|quota)|requires more credits"
        r"|out of credits|credits? (?:is|are) (?:depleted|used up)|^(?!.*daily quota).*check your plan and billing"
        r"|billing (?:hard limit|account)",
        _STATUS.format(402, "payment|insufficient"),
    ),
    (
        NO_MODEL,
        r"model[\w`'\"/.:() -]{0,80}(?:not (?:found|exist|supported|available)|does(?: not|n't) exist|unknown|invalid)"
        r"|(?:unknown|invalid|unsupported|no such|selected) model|model_?not_?found|not_?found_?error"
        r"|llm provider not provided",
        _STATUS.format(404, "not found"),
        _STATUS.format(422, "unprocessable"),
    ),
    (
        LOG_IN,
        r"unauthori[sz]ed|unauthenticated|authentication|not (?:logged|signed) in|please (?:log|sign) in"
        r"|log ?in (?:required|again)|(?:invalid|incorrect|missing|expired|revoked) (?:api.?key|token|credential)"
        r"|api.?key (?:is |was )?(?:not (?:valid|found|set)|missing|invalid|required)|no (?:api.?key|credentials)",
        _STATUS.format(401, "unauthori"),
        _STATUS.format(403, "forbidden"),
    ),
    (
        PASSING,
        r"\b5\d\d\b.{0,40}(?:error|overload|unavailable|gateway)|overloaded|server error|high demand|\btransient\b"
        r"|temporar(?:y|ily) (?:error|unavail|fail)",
    ),
)
_RETRIED = re.compile(r"websocket|reconnecting|retrying")  # by which the tool may have got through
_PATTERNS = [(advice, re.compile("|".join(patterns))) for advice, *patterns in _KINDS]


def find_refusal(said: str, exit_status: int | None) -> str | None:
    """Advice about a tool that says this to a small question; None if it may work."""
    if exit_status in CANNOT_START or "bwrap: execvp" in said:
        return NOT_GRANTED
    words = " ".join(" ".join(line.split()) for line in said.lower().splitlines() if not _RETRIED.search(line)).strip()
    return next((advice for advice, pattern in _PATTERNS if pattern.search(words)), None if words else SILENT)


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
