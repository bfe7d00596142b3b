"""The bench of verdicts on one run counts the same each time, and finds more false ones where machines drift."""

from tests.bench.bench_improved import count_improved
from tests.bench.worlds import WORLDS


def test_false_verdicts_are_counted_by_the_truth() -> None:
    counts = [
        count_improved(WORLDS[name], 3000, learns=learns) for name in ("even", "drift") for learns in (False, True)
    ]
    assert all(0 <= false <= made for false, made in counts) and any(made for _, made in counts)
    assert counts[0] == count_improved(WORLDS["even"], 3000, learns=False)
