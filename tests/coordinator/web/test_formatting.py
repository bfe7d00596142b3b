"""Numbers as people read them on the pages."""

from coordinator.web.formatting import format_count, format_seconds


def test_counts_and_seconds() -> None:
    assert format_count(400_000) == "400,000"
    assert format_count(0) == "–"
    assert format_count(512, " MiB") == "512 MiB"
    assert format_seconds(19.84) == "19.8 s"
    assert format_seconds(312.4) == "5 min 12 s"
