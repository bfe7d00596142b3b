"""Can strangers make each other trusted, and can liars silence a class? Attacks on the real coordinator, old and new.

python -m tests.bench.bench_trust                      all attacks; ten minutes on two idle cores
python -m tests.bench.bench_trust --quick              the form that the tests run

Old is the rule that agreement of strangers is enough to verify. The second table says how long sybils must be honest
before something false is verified: with an anchor among those who verify no patience is enough; where a contract lets
vouched volunteers stand in for it, a day and its absence. The third counts how many jobs it takes until honest gains
are verified, with liars and without.
"""

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from logging import CRITICAL, disable
from os import cpu_count
from statistics import median
from unittest.mock import patch

from coordinator.evidence import posteriors
from coordinator.selection.findings_value import estimate_share
from tests.bench.report import format_table
from tests.bench.sybils import Attack, Outcome, open_sybils

DAY = timedelta(days=1)
QUICK = (Attack(4, 0, has_anchor=False, rounds=20), Attack(3, 6, rounds=10))
PATIENT = Attack(8, 8, patience=30 * DAY, patient_jobs=16, rounds=10)
ATTACKS = (
    *(Attack(sybils, 0, has_anchor=False, rounds=20) for sybils in (2, 4, 20)),
    *(Attack(sybils, honest, rounds=10) for sybils in (2, 8, 20) for honest in (8, 40)),
    Attack(8, 8, foreign=True, rounds=10),
    replace(PATIENT, foreign=True),
    PATIENT,
    replace(PATIENT, sybils=20),
)
WITH_OLD_RULE = 8
"""Attacks by at most so many sybils, and at most so many honest volunteers, are tried under the old rule, too."""

PATIENCE = (0.0, 0.5, 1.0, 2.0, 30.0)
HEADINGS = ("sybils", "honest", "anchor", "verifies", "class", "patience, days", "runs", "verified", "false, old rule",
            "false, new rule", "lies corroborated", "sybils vouched")  # fmt: skip

TEN = (Attack(0, 9, rounds=80, enough=5), Attack(0, 6, liars=3, rounds=80, enough=5))
"""Ten volunteers, of whom one is an anchor: without liars, and with three."""

SEEDS = (1, 2, 3)
LIARS_HEADINGS = ("seed", "liars of 10", "jobs until 1, 3, 5 honest gains are verified", "false")


@contextmanager
def _believe_strangers() -> Iterator[None]:
    with patch.object(posteriors, "is_found_by_roots", lambda *_: True):
        yield


def try_attack(attack: Attack, *, is_old: bool = False, seed: int = 1) -> Outcome:
    """The outcome of an attack; `is_old`: strangers who agree verify."""
    if is_old:
        with _believe_strangers():
            return try_attack(attack)
    with open_sybils(attack, seed) as swarm:
        return swarm.run()


def describe(attack: Attack, new: Outcome, old: Outcome | None) -> list[str]:
    anchor = "none" if not attack.has_anchor else "leaves" if attack.anchor_leaves else "at work"
    return [
        str(attack.sybils), str(attack.honest), anchor, "vouched, too" if attack.vouched_verify else "anchor",
        "invented" if attack.foreign else "common", f"{attack.patience / DAY:g}", str(new.runs), str(len(new.verified)),
        str(len(old.false)) if old else "–", str(len(new.false)), str(len(new.corroborated)), str(new.vouched),
    ]  # fmt: skip


def _try_both(attack: Attack) -> tuple[Outcome, Outcome | None]:
    disable(CRITICAL)
    is_small = max(attack.sybils, attack.honest) <= WITH_OLD_RULE and attack in (*QUICK, *ATTACKS)
    return try_attack(attack), try_attack(attack, is_old=True) if is_small else None


def list_patient() -> Iterator[Attack]:
    """The attacks of the table on patience."""
    for days in PATIENCE:
        attack = replace(PATIENT, patience=days * DAY, anchor_leaves=True)
        yield from (attack, replace(attack, vouched_verify=True))


def count_jobs(job: tuple[Attack, int]) -> Outcome:
    disable(CRITICAL)
    attack, seed = job
    return try_attack(attack, seed=seed)


def compare_liars(outcomes: Sequence[tuple[Attack, int, Outcome]]) -> Iterator[str]:
    """The table of jobs until honest gains are verified, and the ratio that the goal is about."""
    rows, after = [], {attack.liars: [] for attack, _, _ in outcomes}  # type: ignore[var-annotated]
    for attack, seed, outcome in outcomes:
        reached = [outcome.true_after[n - 1] if len(outcome.true_after) >= n else None for n in (1, 3, 5)]
        words = ", ".join("never" if jobs is None else str(jobs) for jobs in reached)
        rows.append([str(seed), str(attack.liars), words, str(len(outcome.false))])
        after[attack.liars].append(reached[-1] or float("inf"))
    yield format_table(LIARS_HEADINGS, rows)
    without, with_liars = (median(after[liars]) for liars in sorted(after))
    ratio = f"{with_liars / without:.2f} times"
    yield f"5 honest gains: {with_liars:g} jobs with 3 liars of 10, {without:g} without: {ratio} (medians)."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small attacks")
    parser.add_argument("--parts", nargs="+", choices=("attacks", "patience", "liars"), default=[], help="only these")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="of the part about liars")
    parser.add_argument("--processes", type=int, default=cpu_count() or 1, help="attacks at a time")
    given = parser.parse_args()
    with ProcessPoolExecutor(given.processes) as pool:
        tables = {"attacks": ATTACKS, "patience": tuple(list_patient())}
        chosen = [attacks for part, attacks in tables.items() if not given.parts or part in given.parts]
        for attacks in (QUICK,) if given.quick else chosen:
            rows, verified, false = [], 0, 0
            for attack, (new, old) in zip(attacks, pool.map(_try_both, attacks), strict=True):
                rows.append(describe(attack, new, old))
                print(" | ".join(rows[-1]), flush=True)
                if not attack.vouched_verify:
                    verified, false = verified + len(new.verified), false + len(new.false)
            print(format_table(HEADINGS, rows))
            share = estimate_share(false, verified)
            if share is not None:
                print(f"False among {verified} verified by an anchor: {false}, at most {share.high:.1%} (95 %).\n")
        if given.quick or (given.parts and "liars" not in given.parts):
            return
        jobs = [(attack, seed) for seed in range(1, given.seeds + 1) for attack in TEN]
        outcomes = [(*job, outcome) for job, outcome in zip(jobs, pool.map(count_jobs, jobs), strict=True)]
        print("\n".join(compare_liars(outcomes)))


if __name__ == "__main__":
    main()
