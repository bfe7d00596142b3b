"""How often the intervals of a rung's effect and of the transfer ratio are right, and what a liar moves.

python -m tests.bench.bench_promotion                      on the pure functions of the coordinator
python -m tests.bench.bench_promotion --coordinator 20     so many small swarms on the real one, 30 s each
"""

import argparse
from random import Random
from statistics import fmean
from typing import NamedTuple

from coordinator.evidence.promotion import Pair, estimate, find_ratio
from coordinator.evidence.statistics import Normal
from shared.records import Trust
from tests.bench.records_swarm import Z, tabulate_promoted
from tests.bench.report import format_table

NOISE_SD, EFFECT = 0.001, -0.01
TRIALS = 20_000
SWARMS = ((4, 2), (4, 4), (8, 4))
"""Numbers of pairs, and of volunteers who made them; the first is an anchor."""


def draw_pairs(draw: Random, count: int, volunteers: int, scale: float = 1.0, effect: float = EFFECT) -> list[Pair]:
    """Pairs by an anchor and vouched volunteers, whose noise on the rung is `scale` times the class's."""
    return [
        Pair(
            effect + draw.gauss(0, scale * NOISE_SD * 2**0.5),
            number % volunteers,
            number % volunteers,
            Trust.VOUCHED if number % volunteers else Trust.ANCHOR,
        )
        for number in range(count)
    ]


def cover_effect(count: int, volunteers: int, scale: float, trials: int = TRIALS) -> float:
    """The share of worlds in which the effect's 95 % interval covers the true one."""
    draw, covered = Random(f"{count} {volunteers} {scale}"), 0
    for _ in range(trials):
        found = estimate(draw_pairs(draw, count, volunteers, scale), NOISE_SD).effect
        assert found is not None
        covered += abs(found.mean - EFFECT) <= Z * found.sd
    return covered / trials


class RatioCover(NamedTuple):
    """Shares of worlds: a ratio is told; of these, its interval covers the true one; so does the delta method's."""

    told: float
    ours: float
    delta: float


def cover_ratio(true: float, budget_sd: float, trials: int = TRIALS) -> RatioCover:
    """A rung that carries `true` of the effect over, which is known to `budget_sd` with the contract's budget."""
    draw, told, ours, delta = Random(f"ratio {true} {budget_sd}"), 0, 0, 0
    for _ in range(trials):
        effect, budget = (
            Normal(draw.gauss(true * EFFECT, 0.001), 0.001),
            Normal(draw.gauss(EFFECT, budget_sd), budget_sd),
        )
        ratio = find_ratio(effect, budget)
        if ratio is None:
            continue
        told += 1
        ours += ratio.low <= true <= ratio.high
        half = Z / abs(budget.mean) * (effect.sd**2 + (ratio.ratio * budget.sd) ** 2) ** 0.5
        delta += abs(ratio.ratio - true) <= half
    return RatioCover(told / trials, ours / told, delta / told)


def move_effect(lie: float, trials: int = TRIALS // 10) -> tuple[float, float]:
    """By how much one vouched liar of four moves the effect on average, and the plain mean."""
    draw, ours, plain = Random(f"lie {lie}"), 0.0, 0.0
    for _ in range(trials):
        pairs = draw_pairs(draw, 4, 4)
        pairs[3] = pairs[3]._replace(difference=pairs[3].difference - lie)
        found = estimate(pairs, NOISE_SD).effect
        assert found is not None
        ours += (found.mean - EFFECT) / trials
        plain += (fmean(pair.difference for pair in pairs) - EFFECT) / trials
    return ours, plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coordinator", type=int, metavar="SWARMS")
    given = parser.parse_args()
    if given.coordinator:
        print(tabulate_promoted(range(given.coordinator)))
        return
    rows = [
        [f"{scale:g}", *(f"{cover_effect(count, volunteers, scale):.1%}" for count, volunteers in SWARMS)]
        for scale in (0.5, 1.0, 2.0, 3.0)
    ]
    print("How often the effect's 95 % interval covers the true effect.\n")
    headings = [f"{count} pairs by {volunteers} volunteers" for count, volunteers in SWARMS]
    print(format_table(("noise on the rung, in units of the class's", *headings), rows))
    rows = []
    for budget_sd in (0.0005, 0.002, 0.0033):
        for true in (0.0, 0.5, 1.0):
            cover = cover_ratio(true, budget_sd)
            rows.append([f"{-budget_sd / EFFECT:.0%}", f"{true:g}", *(f"{share:.1%}" for share in cover)])
    print("\nHow often the transfer ratio's 95 % interval covers the true ratio.\n")
    headings = ["true ratio", "told", "Fieller's interval covers", "a symmetric one"]
    print(format_table(("sd of the budget effect", *headings), rows))
    rows = [[f"{lie:g}", *(f"{moved:+.5f}" for moved in move_effect(lie))] for lie in (0.001, 0.003, 0.01, 0.1)]
    print(f"\nOne of four volunteers lies, not the anchor; a run's noise is {NOISE_SD}.\n")
    print(format_table(("lie", "error of the effect", "error of the plain mean"), rows))


if __name__ == "__main__":
    main()
