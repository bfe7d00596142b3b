"""Can strangers make each other trusted, and can liars silence a class? Attacks on the real coordinator, old and new.

python -m tests.bench.bench_trust                      all attacks; some minutes each for large ones
python -m tests.bench.bench_trust --quick              the form that the tests run

Old is the rule that agreement of strangers is enough to verify. The second table says how long sybils must be honest:
with an anchor at work they verify nothing, however long; without it, from the first patience at which something false
is verified.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from unittest.mock import patch

from coordinator.evidence import agreement
from tests.bench.report import format_table
from tests.bench.sybils import Attack, Outcome, open_sybils

DAY = timedelta(days=1)
QUICK = (Attack(4, 0, has_anchor=False, rounds=20), Attack(3, 6, rounds=10))
ATTACKS = (
    *(Attack(sybils, 0, has_anchor=False, rounds=20) for sybils in (2, 4, 20)),
    *(Attack(sybils, honest, rounds=16) for sybils in (2, 8, 20) for honest in (8, 40)),
    Attack(8, 8, foreign=True, rounds=16),
    Attack(8, 8, foreign=True, patience=30 * DAY, patient_jobs=30, rounds=16),
    Attack(20, 8, patience=30 * DAY, patient_jobs=30, rounds=16),
)
PATIENCE = (0.0, 0.5, 1.0, 2.0, 7.0, 30.0)
HEADINGS = ("sybils", "honest", "anchor", "class", "patience, days", "runs", "verified", "false, old rule",
            "false, new rule", "lies corroborated", "sybils vouched")  # fmt: skip


@contextmanager
def _believe_strangers() -> Iterator[None]:
    with patch.object(agreement, "is_anchored", lambda *_, **__: True):
        yield


def try_attack(attack: Attack, *, is_old: bool = False) -> Outcome:
    """The outcome of an attack; `is_old`: strangers who agree verify."""
    if is_old:
        with _believe_strangers():
            return try_attack(attack)
    with open_sybils(attack) as swarm:
        return swarm.run()


def describe(attack: Attack, new: Outcome, old: Outcome | None) -> list[str]:
    anchor = "none" if not attack.has_anchor else "leaves" if attack.anchor_leaves else "at work"
    return [
        str(attack.sybils), str(attack.honest), anchor, "invented" if attack.foreign else "common",
        f"{attack.patience / DAY:g}", str(new.runs), str(len(new.verified)), str(len(old.false)) if old else "–",
        str(len(new.false)), str(len(new.corroborated)), str(new.vouched),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small attacks")
    given = parser.parse_args()
    rows = []
    for attack in QUICK if given.quick else ATTACKS:
        rows.append(describe(attack, try_attack(attack), try_attack(attack, is_old=True)))
        print(" | ".join(rows[-1]), flush=True)
    print(format_table(HEADINGS, rows))
    if given.quick:
        return
    rows = []
    for leaves in (False, True):
        for days in PATIENCE:
            attack = Attack(8, 8, patience=days * DAY, patient_jobs=30, rounds=16, anchor_leaves=leaves)
            rows.append(describe(attack, try_attack(attack), None))
            print(" | ".join(rows[-1]), flush=True)
    print(format_table(HEADINGS, rows))


if __name__ == "__main__":
    main()
