"""Sybils on the real coordinator, in short: the attack wins where strangers are believed, and nowhere else."""

from dataclasses import replace

from tests.bench.bench_trust import DAY, QUICK, RULES, describe, try_attack
from tests.bench.sybils import Attack


def test_strangers_alone_verify_nothing() -> None:
    alone = replace(QUICK[0], rounds=14)
    old, new = try_attack(alone, is_old=True), try_attack(alone)
    assert len(old.false) > 0, "with the defence off they hold records of nothing"
    assert new.verified == set() and new.lies > 0
    assert describe(alone, new, old)[:2] == ["4", "0"]


def test_sybils_among_honest_volunteers_verify_nothing_false() -> None:
    """Whether or not their patience pays: whom the anchor agrees with depends on the draw."""
    outcome = try_attack(Attack(4, 4, patience=2 * DAY, patient_jobs=10, rounds=12))
    assert outcome.false == set() and outcome.lies > 0
    assert len(outcome.verified) > 0, "the honest are verified all the same"


def test_each_of_the_rules_before_can_still_be_applied() -> None:
    """They replace what the coordinator names otherwise one day."""
    for rules in RULES.values():
        with rules():
            pass
