"""Which findings a context pack quotes. Pure."""

from datetime import timedelta
from typing import Any

from coordinator.findings.candidates import CandidateFinding, CandidateSet, is_negative, weigh_age, weigh_evidence
from coordinator.selection import context_pack
from coordinator.selection.context_pack import Choice, Subject
from shared.experiments import Verdict
from shared.protocol import now

NOW = now()
HERE, ELSEWHERE = "this GPU", "another GPU"
ABOUT = Subject(frozenset({"weight", "decay"}), {"weight-decay": -1}, frozenset(), HERE, 1.0)


def candidate(number: int, **changes: Any) -> CandidateFinding:
    known = CandidateFinding(
        id=number, experiment_id=100 + number, title="t", claim="c", topic=f"topic-{number}", hardware_class=HERE,
        failure=None, pace=None, effect_mean=-0.02, effect_sd=0.005, runs=1, checkers=0,
        verdict=Verdict.IMPROVED, created_at=NOW, words=frozenset({"weight", "other"}), weight=0.0,
    )._replace(**changes)  # fmt: skip
    weight = weigh_evidence(known.effect_mean, known.effect_sd, known.checkers or 0) * weigh_age(NOW - known.created_at)
    return known._replace(weight=weight)


def weigh(one: CandidateFinding, about: Subject) -> float:
    return float(context_pack.weigh(CandidateSet([one]), about)[0])


def choose(known: list[CandidateFinding], about: Subject) -> Choice:
    return context_pack.choose(CandidateSet(known), about)


def test_weight_is_relevance_times_evidence_times_hardware_times_freshness() -> None:
    usual = weigh(candidate(1), ABOUT)
    lighter = (
        {"words": frozenset({"nothing", "alike"})},
        {"effect_mean": -0.001},
        {"hardware_class": ELSEWHERE},
        {"created_at": NOW - timedelta(days=40)},
    )
    assert all(weigh(candidate(1, **changes), ABOUT) < usual for changes in lighter)
    assert weigh(candidate(1, checkers=2), ABOUT) > usual


def test_negative_findings_and_one_against_the_line_have_their_places() -> None:
    good = [candidate(number) for number in range(1, 30)]
    bad = [candidate(number, verdict=Verdict.WORSE, effect_mean=0.02) for number in range(40, 43)]
    crashed = candidate(50, failure="crashed", effect_mean=None, effect_sd=None, verdict=None)
    against = candidate(60, topic="weight-decay", verdict=Verdict.NO_CHANGE, effect_mean=0.0001)
    chosen = choose([*good, *bad, crashed, against], ABOUT)
    assert chosen.contrarian == against
    assert len(chosen.negative) >= 3 and all(map(is_negative, chosen.negative))
    assert crashed in chosen.negative and not any(map(is_negative, chosen.best))
    quoted = [*chosen.best, *chosen.negative, chosen.contrarian]
    assert len({one.id for one in quoted if one}) == len(quoted), "none of them twice"


def test_one_topic_does_not_fill_the_pack() -> None:
    same = [candidate(number, topic="depth", checkers=1) for number in range(1, 20)]
    others = [candidate(number) for number in range(30, 36)]
    chosen = choose([*same, *others], ABOUT)
    assert {one.topic for one in chosen.best} >= {one.topic for one in others}


def test_what_the_pack_tells_elsewhere_is_not_told_again() -> None:
    about = ABOUT._replace(quoted=frozenset({101}))
    assert [one.id for one in choose([candidate(1), candidate(2)], about).best] == [2]
