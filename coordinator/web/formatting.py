"""Numbers as people read them on the pages."""

from shared.formatting import format_effect as format_effect
from shared.formatting import format_measure as format_measure


def format_seconds(seconds: float) -> str:
    """`19.8 s`, or `5 min 12 s` from two minutes on."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def format_count(count: int, unit: str = "") -> str:
    """`400,000`; `–` for a zero, which a worker reports for what it did not count."""
    return f"{count:,}{unit}" if count else "–"
