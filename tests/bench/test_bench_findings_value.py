"""Which proposals of a session its context packs could have spared."""

from pathlib import Path

from shared.experiments import AxisDirection, Verdict
from tests.bench.bench_findings_value import Told, Tried, describe, replay_session

ROWS = (
    ("a", "2.100", "keep", "baseline"),
    ("b", "2.050", "keep", "matrix_lr 0.04->0.03"),
    ("", "2.090", "discard", "weight_decay 0.2->0.4"),
    ("", "2.095", "discard", "weight_decay 0.2->0.3"),
    ("c", "2.040", "keep", "weight_decay 0.2->0.1"),
    ("d", "2.030", "keep", "matrix_lr 0.03->0.02"),
    ("", "2.200", "discard", "a word about nothing in particular"),
    ("", "2.200", "discard", "a word about nothing in particular again"),
)


def test_only_a_direction_that_was_shown_to_gain_nothing_is_avoidable(tmp_path: Path) -> None:
    """The second rise of weight_decay is; its fall, and going on where a gain was found, are not."""
    header = "commit\tval_bpb\tmemory_gb\tstatus\tdescription"
    lines = [header, *(f"{commit}\t{metric}\t44.0\t{status}\t{words}" for commit, metric, status, words in ROWS)]
    results = tmp_path / "session.tsv"
    results.write_text("\n".join(lines) + "\n")
    told = list(replay_session(results))
    assert [len(one.known) for one in told] == list(range(len(ROWS) - 1)), "only what came before is known"
    assert [number for number, one in enumerate(told) if one.is_avoidable] == [2]
    assert [number for number, one in enumerate(told) if one.was_shown] == [2, 4]
    assert [number for number, one in enumerate(told) if one.was_tried] == [2, 4], "words without an axis are no axis"
    assert describe("session", told)[:7] == ("session", "7", "5", "2", "2", "2", "1")
    assert describe("session", told)[8] == "1 of 1"


def test_what_the_pack_does_not_show_or_has_not_resolved_is_not_avoidable() -> None:
    def make(number: int, verdict: Verdict | None) -> Tried:
        return Tried(number, "depth", AxisDirection.UP, verdict)

    proposal = make(9, Verdict.WORSE)
    worse, better, open_, crash = (
        make(number, verdict)
        for number, verdict in enumerate((Verdict.WORSE, Verdict.IMPROVED, Verdict.UNRESOLVED, None), start=1)
    )
    assert Told(proposal, [worse], [worse]).is_avoidable
    hidden = Told(proposal, [worse], [])
    assert hidden.was_resolved and not hidden.was_shown and not hidden.is_avoidable
    assert not Told(proposal, [open_, crash], [open_, crash]).was_resolved
    assert not Told(proposal, [worse, better], [worse, better]).is_avoidable, "the newest counts"
    other = Tried(9, "depth", AxisDirection.DOWN, Verdict.WORSE)
    assert not Told(other, [worse], [worse]).was_tried
