"""Can strangers make each other trusted, and can liars silence a class? Attacks on the real coordinator, old and new.

python -m tests.bench.bench_trust                      all attacks; TMPDIR=/dev/shm spares waits for a disk
python -m tests.bench.bench_trust --quick              the form that the tests run
python -m tests.bench.bench_trust --parts anchors      what it costs honest volunteers that anchors find gains alone

Old is the rule that agreement of strangers is enough to verify. The second table says how long sybils must be honest
before something false is verified: with an anchor among those who verify no patience is enough; where a contract lets
vouched volunteers stand in for it, as many jobs as make a sybil vouched, a day, and the anchor's absence. The third
counts how many jobs it takes until honest gains are verified, with liars of several styles and without, by the rules
before liars' measurements and leases stopped holding honest ones up, and by those since.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from logging import CRITICAL, disable
from math import exp, log, nan, sqrt
from os import cpu_count
from statistics import fmean, median, stdev
from unittest.mock import patch

from coordinator.evidence import agreement, posteriors, responses, statistics, trust
from coordinator.evidence.promotion import find_student_quantile
from coordinator.evidence.statistics import Measurement, Model, Normal
from coordinator.selection import policy, queries
from coordinator.selection import service as selection
from coordinator.selection.parents import Candidate
from coordinator.selection.policy import MAX_RUNS_OF_ONE_COMMIT, Snapshot
from shared.contract import Contract
from tests.bench.report import format_table
from tests.bench.search_report import Goal, Range, bound_goal, bound_share
from tests.bench.sybils import Attack, Outcome, Style, open_sybils

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

PATIENCE = (2.0, 0.5)
PATIENT_JOBS = 40
"""Jobs of each sybil while it is honest, in the table on patience: so many that most come to be vouched."""

HEADINGS = ("sybils", "honest", "anchor", "verifies", "class", "patience, days", "runs", "verified", "false, old rule",
            "false, new rule", "lies corroborated", "sybils vouched", "honest jobs until vouched")  # fmt: skip

ENOUGH = 3
WITHOUT = Attack(0, 9, rounds=60, enough=ENOUGH)
WITH_LIARS = Attack(0, 6, liars=3, rounds=60, enough=ENOUGH)
"""Ten volunteers, of whom one is an anchor: without liars, and with three."""

LIARS = [style for style in Style if style not in (Style.FAILS, Style.ALONE)]
SEEDS = 5
MOST_TIMES = 2.0
PARTS = ("attacks", "patience", "liars", "invented", "anchors", "failures")
FAILURES = tuple(
    Attack(0, honest, liars=liars, style=style, has_anchor=has_anchor, rounds=25)
    for style in (Style.FAILS, Style.ALONE)
    for liars, honest, has_anchor in ((2, 8, True), (8, 8, True), (20, 8, True), (2, 8, False), (8, 8, False))
)
FAILURES_HEADINGS = ("liars", "style", "honest", "anchor", "rules", "runs", "honest gains",
                     "of them suspect",
                     "for rounds of 25: median, most", "honest experiments upon lies", "verified", "false")  # fmt: skip
LIARS_HEADINGS = (
    "three liars of ten",
    "rules",
    "jobs by seed",
    "times the jobs of the first row (95 %)",
    "false of verified, and the bound (one-sided 95 %)",
)


@contextmanager
def _believe_strangers() -> Iterator[None]:
    """The rule that agreement of strangers is enough."""
    with patch.multiple(posteriors, is_found_by_roots=lambda *_: True, is_found_on_machines=lambda *_: True):
        yield


@contextmanager
def _believe_who_agrees_with_anchors() -> Iterator[None]:
    """The rule that an anchor has to be among those who agree, without finding the gain by its own runs."""

    def is_anchored(contract: Contract, model: Model, above: Normal, runs: Sequence[Measurement], sure: float) -> bool:
        return agreement.is_anchored(runs, model.noise_sd)

    with patch.multiple(posteriors, is_found_by_roots=is_anchored, is_found_on_machines=lambda *_: True):
        yield


@contextmanager
def _let_liars_hold_up() -> Iterator[None]:
    """The rules before: all measurements dispute alike, lies move others' offsets by a bounded amount, doubted
    volunteers check what they like, leases that come to nothing cost nothing, and a commit with six runs gets no more,
    not even an anchor's, nor do those behind it."""

    def may_add(snapshot: Snapshot, leader: Candidate) -> bool:
        is_missing = snapshot.is_anchor and leader.sha not in snapshot.own
        has_room = leader.runs + leader.measured_in_flight < MAX_RUNS_OF_ONE_COMMIT
        is_again = snapshot.is_anchor and leader.is_corroborated
        return is_missing or (has_room and (is_again or leader.sha not in snapshot.own))

    def list_leaders(snapshot: Snapshot) -> list[Candidate]:
        leaders = list_all(snapshot)
        given_up = (at for at, one in enumerate(leaders) if one.runs >= MAX_RUNS_OF_ONE_COMMIT)
        stops = (at for at in given_up if not snapshot.is_anchor or leaders[at].sha in snapshot.own)
        return leaders[: next(stops, len(leaders))]

    list_all = policy.list_leaders
    with (
        patch.object(agreement, "believe", lambda runs, noise_sd: statistics.split(runs)),
        patch.object(selection, "is_doubted", lambda *_: False),
        patch.object(queries, "LOST_WITHIN", timedelta(0)),
        patch.multiple(responses, REDESCENDS=1, WEIGHINGS=2),
        patch.object(policy, "_may_add", may_add),
        patch.object(policy, "list_leaders", list_leaders),
    ):
        yield


def try_attack(attack: Attack, *, is_old: bool = False, seed: int = 1) -> Outcome:
    """The outcome of an attack; `is_old`: strangers who agree verify."""
    if is_old:
        with _believe_strangers():
            return try_attack(attack, seed=seed)
    with open_sybils(attack, seed) as swarm:
        return swarm.run()


def describe(attack: Attack, new: Outcome, old: Outcome | None) -> list[str]:
    anchor = "none" if not attack.has_anchor else "leaves" if attack.anchor_leaves else "at work"
    return [
        str(attack.sybils), str(attack.honest), anchor, "vouched, too" if attack.vouched_verify else "anchor",
        "invented" if attack.foreign else "common", f"{attack.patience / DAY:g}", str(new.runs), str(len(new.verified)),
        str(len(old.false)) if old else "–", str(len(new.false)), str(len(new.corroborated)), str(new.vouched),
        _describe_patience(new),
    ]  # fmt: skip


def _describe_patience(outcome: Outcome) -> str:
    """The fewest jobs and the median of those who came to be vouched, and how many did."""
    jobs = sorted(outcome.vouched_after.values())
    return f"{jobs[0]}, median {median(jobs):g} of {len(jobs)}" if jobs else "–"


def _try_both(attack: Attack) -> tuple[Outcome, Outcome | None]:
    disable(CRITICAL)
    is_small = max(attack.sybils, attack.honest) <= WITH_OLD_RULE and attack in (*QUICK, *ATTACKS)
    return try_attack(attack), try_attack(attack, is_old=True) if is_small else None


def list_patient() -> Iterator[Attack]:
    """The attacks of the table on patience."""
    for days in PATIENCE:
        attack = replace(PATIENT, sybils=3, honest=2, patience=days * DAY, anchor_leaves=True)
        attack = replace(attack, patient_jobs=PATIENT_JOBS, rounds=30)
        yield from (attack, replace(attack, vouched_verify=True))


RULES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "now": nullcontext,
    "before": _let_liars_hold_up,
    "an anchor agrees": _believe_who_agrees_with_anchors,
    "strangers agree": _believe_strangers,
    "strangers stop results": lambda: patch.object(trust, "_may_say_it_fails", lambda *_: True),
}


def describe_failures(attack: Attack, rules: str, outcome: Outcome) -> list[str]:
    rounds = sorted(outcome.suspect_for.values())
    return [
        str(attack.liars), attack.style.value, str(attack.honest), "at work" if attack.has_anchor else "none", rules,
        str(outcome.runs), str(len(outcome.honest_gains)), str(len(rounds)),
        f"{median(rounds):g}, {rounds[-1]}" if rounds else "–", str(outcome.built_on_lies),
        str(len(outcome.verified)), str(len(outcome.false)),
    ]  # fmt: skip


def print_failures(pool: ProcessPoolExecutor, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """The table of accounts that say that others' code fails, and of code that fails but with its author."""
    both = ("strangers stop results", "now")
    jobs = [(attack, 1, rules) for attack in attacks for rules in both[not attack.has_anchor :]]  # else they are alike
    rows = []
    for (attack, _, rules), outcome in zip(jobs, pool.map(count_jobs, jobs), strict=True):
        rows.append(describe_failures(attack, rules, outcome))
        print(" | ".join(rows[-1]), flush=True)
        yield from [outcome] if rules == "now" else ()
    print(f"{format_table(FAILURES_HEADINGS, rows)}\n")


def count_jobs(job: tuple[Attack, int, str]) -> Outcome:
    """An attack's outcome with a seed, by one of RULES."""
    disable(CRITICAL)
    attack, seed, rules = job
    with RULES[rules]():
        return try_attack(attack, seed=seed)


def find_jobs(outcome: Outcome) -> int:
    """The jobs until enough honest gains were verified, or all of them if they were not."""
    return outcome.true_after[ENOUGH - 1] if len(outcome.true_after) >= ENOUGH else outcome.runs


def list_ratios(outcomes: Sequence[Outcome], without: Sequence[Outcome]) -> list[float]:
    """Logarithms of how many times the jobs, by seed."""
    return [log(find_jobs(one) / find_jobs(other)) for one, other in zip(outcomes, without, strict=True)]


def estimate_ratio(logs: Sequence[float]) -> Range:
    """The geometric mean of ratios over seeds, with its 95 % interval by Student's distribution."""
    half = find_student_quantile(len(logs) - 1) * stdev(logs) / sqrt(len(logs)) if len(logs) > 1 else nan
    return Range(exp(fmean(logs)), exp(fmean(logs) - half), exp(fmean(logs) + half))


def describe_liars(name: str, rules: str, outcomes: Sequence[Outcome], without: Sequence[Outcome]) -> list[str]:
    """A row of the table on liars, beside the same seeds without any."""
    words = [f"{'' if len(one.true_after) >= ENOUGH else '> '}{find_jobs(one)}" for one in outcomes]
    ratio = "–" if outcomes is without else str(estimate_ratio(list_ratios(outcomes, without)))
    return [name, rules, ", ".join(words), ratio, describe_false(*count_false(outcomes))]


def count_false(outcomes: Sequence[Outcome]) -> tuple[int, int]:
    """How many were verified falsely, and how many at all."""
    return sum(len(one.false) for one in outcomes), sum(len(one.verified) for one in outcomes)


def describe_false(false: int, verified: int) -> str:
    """A share of claims with its one-sided 95 % bound (Clopper and Pearson)."""
    return f"{false} of {verified}" + (f", at most {bound_share(false, verified):.1%}" if verified else "")


def compare_liars(
    pool: ProcessPoolExecutor, rules: str, styles: Sequence[Style], seeds: int
) -> Iterator[tuple[str, list[Outcome]]]:
    """Jobs until honest gains are verified, without liars first and then with those of each style."""
    attacks = [("none", WITHOUT), *((style.value, replace(WITH_LIARS, style=style)) for style in styles)]
    outcomes = pool.map(count_jobs, [(attack, seed, rules) for _, attack in attacks for seed in range(1, seeds + 1)])
    for name, _ in attacks:
        yield name, [next(outcomes) for _ in range(seeds)]


def list_liars_goals(found: Mapping[str, Sequence[Outcome]]) -> Iterator[Goal]:
    """Within twice the jobs, by the bounds of intervals."""
    ratios = {name: list_ratios(outcomes, found["none"]) for name, outcomes in found.items() if name != "none"}
    ratios["all of these"] = [fmean(logs) for logs in zip(*ratios.values(), strict=True)]
    for name, logs in ratios.items():
        yield Goal(f"three liars of ten ({name}), times the jobs", MOST_TIMES, estimate_ratio(logs), is_least=False)


def compare_rules(pool: ProcessPoolExecutor, seeds: int) -> Iterator[list[str]]:
    """The rows of the table of what anchors' own runs cost honest volunteers, each beside that of the weakest rule."""
    rules = ("strangers agree", "an anchor agrees", "now")
    jobs = [(WITHOUT, seed, rule) for rule in rules for seed in range(1, seeds + 1)]
    outcomes, weakest = pool.map(count_jobs, jobs), list[Outcome]()
    for rule in rules:
        own = [next(outcomes) for _ in range(seeds)]
        weakest = weakest or own
        yield describe_liars("none (ten honest)", rule, own, weakest)


def print_attacks(pool: ProcessPoolExecutor, attacks: Sequence[Attack]) -> list[Outcome]:
    """The table of attacks; returns what came of those in which an anchor verifies, by the present rules."""
    rows, outcomes = [], []
    for attack, (new, old) in zip(attacks, pool.map(_try_both, attacks), strict=True):
        rows.append(describe(attack, new, old))
        print(" | ".join(rows[-1]), flush=True)
        outcomes += [] if attack.vouched_verify else [new]
    print(f"{format_table(HEADINGS, rows)}\n")
    return outcomes


def print_liars(
    pool: ProcessPoolExecutor, every: Sequence[str], styles: Sequence[Style], seeds: int
) -> Iterator[Outcome]:
    """The table of liars and its goals, by each of the rules named; yields what came of it by the present ones."""
    rows = []
    for rules in every:
        found: dict[str, list[Outcome]] = {}
        for name, outcomes in compare_liars(pool, rules, styles, seeds):
            found[name] = outcomes
            rows.append(describe_liars(name, rules, outcomes, found["none"]))
            print(" | ".join(rows[-1]), flush=True)
            yield from outcomes if rules == "now" else ()
        print("\n".join(f"- {rules}: {goal}" for goal in list_liars_goals(found)), flush=True)
    print(f"Jobs until {ENOUGH} honest gains are verified:\n{format_table(LIARS_HEADINGS, rows)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small attacks")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:3], help="only these")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of the part about liars")
    parser.add_argument("--styles", nargs="+", choices=[one.name.lower() for one in Style], help="of liars, only these")
    parser.add_argument("--rules", nargs="+", choices=("now", "before"), default=("now", "before"), help="only these")
    parser.add_argument("--processes", type=int, default=cpu_count() or 1, help="attacks at a time")
    given = parser.parse_args()
    with ProcessPoolExecutor(given.processes) as pool:
        if given.quick:
            print_attacks(pool, QUICK)
            return
        invented = tuple(attack for attack in ATTACKS if attack.foreign)
        tables = {"attacks": ATTACKS, "invented": invented, "patience": tuple(list_patient())}
        outcomes = [one for part in tables if part in given.parts for one in print_attacks(pool, tables[part])]
        if "liars" in given.parts:
            styles = [Style[name.upper()] for name in given.styles or ()] or LIARS
            outcomes += print_liars(pool, given.rules, styles, given.seeds)
        if "failures" in given.parts:
            outcomes += print_failures(pool, FAILURES)
        if "anchors" in given.parts:
            rows = list(compare_rules(pool, given.seeds))
            print(f"Jobs until {ENOUGH} honest gains are verified, by rule:\n{format_table(LIARS_HEADINGS, rows)}\n")
        print(bound_goal("false among {} that were ever verified by the present rules, %", *count_false(outcomes)))


if __name__ == "__main__":
    main()
