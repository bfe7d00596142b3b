"""Attackers who keep within what agreement allows, and honest volunteers whom the same guards must not stop. Pure."""

from collections.abc import Iterator, Sequence
from random import Random
from unittest.mock import patch

import pytest

from coordinator.evidence import posteriors, statistics
from coordinator.evidence.confirmation import (
    CONFIRMATIONS,
    MAX_TRIES,
    ConfirmationRun,
    Published,
    Tries,
    coarsen,
    find_gap,
    is_alarming,
    may_confirm,
    pool_holdout,
    summarize,
)
from coordinator.evidence.posteriors import Ancestor, conclude
from coordinator.evidence.statistics import EffectPrior, Measurement, Model, Normal
from shared.contract import Contract, parse_contract
from shared.experiments import Standing
from shared.records import Trust
from shared.seeds import SEEDS_FOLDER

NOISE_SD, SEED, AUTHOR, ANCHOR = 0.0007, 1.0, 1, 99
UNKNOWN = Normal(0.0, 0.3 * NOISE_SD)
WORLDS = 120


@pytest.fixture(scope="module")
def contract() -> Contract:
    return parse_contract((SEEDS_FOLDER / "gpt" / "swarm.toml").read_text())


def measure(value: float, who: int, trust: Trust = Trust.NEWCOMER) -> Measurement:
    return Measurement(value, who, who, who == AUTHOR, UNKNOWN, trust)


def judge(contract: Contract, runs: Sequence[Measurement]) -> Standing:
    effect_sd = contract.evidence.effect_sd
    model = Model(NOISE_SD, effect_sd, {None: EffectPrior(0.0, effect_sd, 0.02)})
    above = Ancestor("seed", statistics.begin(Normal(SEED, 0.4 * NOISE_SD)), 1, True, False)
    return conclude(contract, model, above, runs).standing


def stand_beside(contract: Contract, copies: int) -> int:
    """In how many of WORLDS a gain that is none is verified, if accounts place their numbers knowing the anchor's."""
    draw, found = Random(5), 0
    for _ in range(WORLDS):
        anchor = measure(SEED + draw.gauss(0, NOISE_SD), ANCHOR, Trust.ANCHOR)
        claimed = [measure(SEED - 2.5 * NOISE_SD, AUTHOR), measure(SEED - 2.5 * NOISE_SD, 2), anchor]
        found += any(
            judge(contract, [*claimed, *(measure(SEED - place / 2 * NOISE_SD, 3 + at) for at in range(copies))])
            is Standing.VERIFIED
            for place in range(14)
        )
    return found


@pytest.mark.parametrize("copies", [1, 3])
def test_volunteers_who_stand_beside_an_anchor_verify_nothing(contract: Contract, copies: int) -> None:
    if copies == 3:
        with patch.object(posteriors, "is_found_by_roots", lambda *_: True):
            assert stand_beside(contract, copies) > 5, "where an anchor has to agree only"
    assert stand_beside(contract, copies) == 0


def find_on_machines(
    contract: Contract, runs: Sequence[Measurement], base: Sequence[Measurement], learnt: float = NOISE_SD
) -> bool:
    """Whether anchors' own runs find a gain; `learnt` is the class's noise, as all volunteers' runs say."""
    return posteriors.is_found_on_machines(contract, Model(learnt, contract.evidence.effect_sd), runs, base)


def by_anchor(value: float, who: int = ANCHOR, offset: float = 0.0, exposure: float = 0.0) -> Measurement:
    """An anchor's run; others' runs say that its machine differs by `offset`."""
    return measure(value, who, Trust.ANCHOR)._replace(offset=Normal(offset, 0.0), exposure=exposure)


def test_no_offset_that_others_give_an_anchor_makes_a_gain(contract: Contract) -> None:
    """Whoever measures what one of two anchors measured, a little too low each time, gives it an offset."""
    lifted = by_anchor(SEED, 98, offset=0.02)
    assert not find_on_machines(contract, [lifted] * 6, [by_anchor(SEED)] * 6)
    assert not find_on_machines(contract, [lifted] * 6, [by_anchor(SEED), by_anchor(SEED, 98, offset=0.02)])
    assert not find_on_machines(contract, [lifted] * 6, []), "nor is it counted from what others say alone"
    gain = by_anchor(SEED - 8 * NOISE_SD, 98, offset=0.02)
    assert find_on_machines(contract, [gain], [by_anchor(SEED, 98, offset=0.02)]), "an honest one is found at once"
    newcomer = measure(SEED, 98)
    assert find_on_machines(contract, [gain], [newcomer]), "also with its run from before it was an anchor"


def test_no_noise_that_others_make_too_small_makes_a_gain(contract: Contract) -> None:
    """Whoever copies others' numbers repeats them exactly. By the contract's noise six runs of each find the gain."""
    runs, base = [by_anchor(SEED - 2.5 * NOISE_SD)], [by_anchor(SEED)]
    assert not find_on_machines(contract, runs, base, learnt=NOISE_SD / 10)
    assert not find_on_machines(contract, runs * 2, base * 2, learnt=3 * NOISE_SD)
    assert find_on_machines(contract, runs * 6, base * 6)


def test_no_budget_that_others_change_makes_a_gain(contract: Contract) -> None:
    """A run with twice the budget is not compared with one of the seed from before, by whatever slope others' say."""
    longer = by_anchor(SEED - 0.05, exposure=0.7)
    assert not find_on_machines(contract, [longer] * 3, [by_anchor(SEED)] * 3)
    assert find_on_machines(contract, [longer] * 3, [by_anchor(SEED), by_anchor(SEED, exposure=0.7)])


def list_honest(draw: Random, gain: float) -> Iterator[Measurement]:
    """A real gain's honest runs: the author's, a checker's, the anchor's, and three more, one of them the anchor's."""
    unknown = {who: draw.gauss(0, UNKNOWN.sd) for who in (AUTHOR, 2, 3, 4, ANCHOR)}
    for who in (AUTHOR, 2, ANCHOR, 3, ANCHOR, 4):
        value = SEED - gain + unknown[who] + draw.gauss(0, NOISE_SD)
        yield measure(value, who, Trust.ANCHOR if who == ANCHOR else Trust.NEWCOMER)


def test_an_honest_gain_is_verified_all_the_same(contract: Contract) -> None:
    draw = Random(6)

    def count_verified(gain: float) -> int:
        worlds = [list(list_honest(draw, gain * NOISE_SD)) for _ in range(WORLDS)]
        return sum(
            any(judge(contract, runs[:number]) is Standing.VERIFIED for number in range(3, 7)) for runs in worlds
        )

    assert count_verified(5) > 0.95 * WORLDS and count_verified(4) > 0.85 * WORLDS


def confirm(value: float, holdout: float, who: int) -> ConfirmationRun:
    return ConfirmationRun(measure(value, who, Trust.ANCHOR if who == ANCHOR else Trust.VOUCHED), holdout)


def confirm_honestly(level: float, sealed: float, count: int = 4) -> list[ConfirmationRun]:
    small = NOISE_SD / 4
    return [confirm(level + small * (at % 2), sealed + small * (at % 2), ANCHOR) for at in range(count)]


def test_a_lie_about_sealed_windows_hides_no_gap_and_makes_no_alarm() -> None:
    fits_windows_only, good = confirm_honestly(SEED - 0.01, SEED), confirm_honestly(SEED - 0.01, SEED - 0.01)
    seed = confirm_honestly(SEED, SEED)
    flattering, spoiling = confirm(SEED - 0.01, SEED - 0.1, 2), confirm(SEED - 0.01, SEED + 0.1, 2)
    assert is_alarming(find_gap([flattering, *fits_windows_only], seed, 1.0, NOISE_SD))
    assert not is_alarming(find_gap([spoiling, *good], seed, 1.0, NOISE_SD))
    assert not is_alarming(find_gap(good, [confirm(SEED, SEED - 0.1, 2), *seed], 1.0, NOISE_SD))
    said = summarize([flattering, *fits_windows_only], NOISE_SD)
    assert (said.runs, said.left_out, said.volunteers_left_out) == (4, 1, {2})
    assert pool_holdout([flattering, *fits_windows_only], NOISE_SD).mean == pytest.approx(SEED, abs=NOISE_SD)


def test_two_who_contradict_each_other_about_sealed_windows_publish_nothing() -> None:
    vouched = [confirm(SEED, SEED - 0.1 * (who == 3), who) for who in (2, 3, 2, 3)]
    assert summarize(vouched, NOISE_SD, vouched_verify=True).metric is None


def test_a_gap_is_shown_in_steps_its_sd_too() -> None:
    """Its digits are made of sealed numbers: whoever gets them all learns their sum of squares."""
    shown = {coarsen(Normal(0.00031, 0.00042 + at * 1e-6), 0.001) for at in range(50)}
    assert len(shown) == 1
    (one,) = shown
    assert one.mean == 0 and 0.0004 < one.sd <= 0.00075


def confirmable(tries: dict[int, Tries], trusted: set[int], left_out: frozenset[int] = frozenset()) -> set[int]:
    """Which of the trusted volunteers may make a run of a commit that has none yet; the anchor is one of them."""
    said = Published(None, 0, 0, len(left_out), left_out)
    return {who for who in trusted if may_confirm(said, tries, trusted, who, is_anchor=who == ANCHOR)}


def test_vouched_liars_cannot_keep_a_record_from_being_confirmed() -> None:
    sybils = set(range(2, 10))
    released = {who: Tries(given=2) for who in sybils}
    assert sum(tries.given for tries in released.values()) > MAX_TRIES
    assert confirmable(released, sybils | {ANCHOR}) == {ANCHOR}
    assert confirmable({who: Tries(1, 0, 1) for who in sybils}, sybils | {ANCHOR}, frozenset(sybils)) == {ANCHOR}
    alone = {**released, ANCHOR: Tries(given=3, runs=3)}
    said = Published(None, 3, 1, 0)
    assert may_confirm(said, alone, sybils | {ANCHOR}, ANCHOR, is_anchor=True), "it makes all of the runs"


def test_who_shares_the_runs_makes_its_share_only() -> None:
    trusted = {2, 3, 4, ANCHOR}
    assert confirmable({}, trusted) == trusted
    assert confirmable({2: Tries(1, 0, 1)}, trusted) == trusted - {2}
    assert (
        confirmable({2: Tries(1, 1, 0), 3: Tries(1, 1, 0), 4: Tries(1, 1, 0), ANCHOR: Tries(1, 1, 0)}, trusted) == set()
    )
    one_crash = {2: Tries(1, 0, 0)}
    assert 2 in confirmable(one_crash, trusted), "a lost run is no abuse"
    assert CONFIRMATIONS == 4
