"""Numbers as people read them: never a mean without its uncertainty."""

from datetime import datetime
from math import ceil, floor, log10

MAX_DECIMALS = 8
MINUS = "\N{MINUS SIGN}"


def clean(text: str) -> str:
    """The text on one line, without control characters: strangers wrote much of what terminals show."""
    return "".join(c if c.isprintable() else " " for c in text)


def clean_lines(text: str) -> str:
    """As `clean`, with its tabs and line ends; other characters that nobody sees stand as `<U+202E>`."""
    if text.replace("\n", "").replace("\t", "").isprintable():  # nearly all: a tenth of the time
        return text
    return "".join(c if c.isprintable() or c in "\t\n" else f"<U+{ord(c):04X}>" for c in text)


def format_local(moment: datetime) -> str:
    """`2026-01-01 12:00 CET`: a moment in this machine's time zone, as all that people read at it."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M %Z}"


def list_ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    """Round numbers from low to high, at most `most`, with their texts: multiples of 1, 2 or 5 times a power of ten."""
    if not low < high or most < 1:
        return []
    least = (high - low) / most
    power = floor(log10(least))
    step = next(many * 10.0**power for many in (1, 2, 5, 10) if many * 10.0**power >= least)
    places = max(0, -floor(log10(step) + 1e-9))
    numbers = range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)
    return [(number * step, f"{number * step:,.{places}f}".replace("-", MINUS)) for number in numbers][:most]


def decimals_for(sd: float) -> int:
    """Digits after the point so that `sd` shows two significant ones."""
    if not sd > 0:
        return 4
    return min(MAX_DECIMALS, max(0, 1 - floor(log10(sd))))


def format_measure(mean: float, sd: float) -> str:
    """`3.2712 ± 0.0040`: both to the same decimals."""
    places = decimals_for(sd)
    return f"{mean:.{places}f} ± {sd:.{places}f}".replace("-", MINUS)


def format_run(metric: float | None) -> str:
    """`3.27123`: one run's metric, which has no uncertainty of its own, to six significant digits; `–` without one."""
    return "–" if metric is None else f"{metric:#.6g}".rstrip(".").replace("-", MINUS)


def format_decimals(metric: float) -> str:
    """`0.997900`: a metric for programs, to six digits after the point, or six significant ones where it is small."""
    return f"{metric:.6f}" if abs(metric) >= 0.1 or metric == 0 else f"{metric:#.6g}"


def format_effect(mean: float | None, sd: float | None, unknown: str = "–") -> str:
    """`−0.0312 ± 0.0061`: as `format_measure`, always with a sign; `unknown` where one of them is."""
    if mean is None or sd is None:
        return unknown
    places = decimals_for(sd)
    return f"{mean:+.{places}f} ± {sd:.{places}f}".replace("-", MINUS)


def format_change(change: float | None, unknown: str = "–") -> str:
    """`−0.012`: a change without an uncertainty, as somebody predicted it, to four significant digits."""
    return unknown if change is None else f"{change:+.4g}".replace("-", MINUS)


def format_ratio(ratio: float | None, low: float | None, high: float | None) -> str:
    """`0.82 (0.55 to 1.14)`, or `not known`."""
    if ratio is None or low is None or high is None:
        return "not known"
    return f"{ratio:.2f} ({low:.2f} to {high:.2f})".replace("-", MINUS)


def count_noun(number: int, noun: str) -> str:
    """`3 runs`, `1 run`, `no runs`."""
    return f"{format(number, ',') if number else 'no'} {noun}{'' if number == 1 else 's'}"
