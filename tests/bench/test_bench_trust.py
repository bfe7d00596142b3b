"""Sybils on the real coordinator, in short: the attack wins where strangers are believed, and nowhere else."""

from tests.bench.bench_trust import DAY, QUICK, describe, try_attack
from tests.bench.sybils import Attack


def test_strangers_alone_corroborate_and_verify_nothing() -> None:
    alone, _ = QUICK
    old, new = try_attack(alone, is_old=True), try_attack(alone)
    assert len(old.false) > 0, "with the defence off they hold records of nothing"
    assert new.verified == set() and len(new.corroborated) > 0
    assert describe(alone, new, old)[:2] == ["4", "0"]


def test_sybils_among_honest_volunteers_verify_nothing_false() -> None:
    patient = Attack(4, 4, patience=2 * DAY, patient_jobs=16, rounds=8)
    outcome = try_attack(patient)
    assert outcome.vouched > 0, "their patience paid"
    assert outcome.false == set() and outcome.lies > 0
    assert len(outcome.verified) > 0, "the honest are verified all the same"
