"""Agreement of volunteers: disputes over a commit, and their effect on records."""

from random import Random
from statistics import fmean, mean
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.evidence import agreement
from coordinator.evidence.agreement import (
    LESS_CERTAIN,
    MIN_SHARE,
    SCATTERS,
    Agreement,
    TrustHistory,
    compare,
    estimate,
    find_dispute,
    is_agreed,
    is_anchored,
    measure_scatter,
    select,
)
from coordinator.evidence.statistics import EXACT, Measurement, Normal, pool
from shared.experiments import Dispute
from shared.records import Trust

NOISE_SD = 0.0007
LIE = -0.004
AUTHOR = 0


def author(value: float) -> Measurement:
    return Measurement(value, AUTHOR, AUTHOR, True, Normal(0, NOISE_SD / 2))


def checks(*values: float) -> list[Measurement]:
    """One volunteer after the other."""
    return [Measurement(value, who, who, False, Normal(0, NOISE_SD / 2)) for who, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("runs", "dispute"),
    [
        ([author(0)], Dispute.NONE),
        ([author(0), *checks(0.001)], Dispute.NONE),
        ([author(LIE), *checks(0)], Dispute.CONTESTED),
        ([author(LIE), *checks(0, 0.0005)], Dispute.REFUTED),
        ([author(LIE), *checks(LIE, 0)], Dispute.CONTESTED),
        ([author(LIE), *checks(LIE, 0, 0)], Dispute.CONTESTED),
        ([author(LIE), *checks(LIE, 0, 0, 0)], Dispute.REFUTED),
        ([author(0), *checks(0, 0.0005, LIE)], Dispute.CONTESTED),
        ([author(0), *checks(0, 0.0005, -0.0005, LIE)], Dispute.NONE),
        (checks(0, LIE), Dispute.CONTESTED),
    ],
    ids=lambda value: value if isinstance(value, Dispute) else f"{len(value)} runs",
)
def test_disputes(runs: list[Measurement], dispute: Dispute) -> None:
    assert find_dispute(runs, NOISE_SD, None) is dispute


@pytest.mark.parametrize("offset_sd", [0.1, 1e4, 1e9, 1e11])
def test_one_of_whom_all_is_known_and_one_of_whom_nothing_is(offset_sd: float) -> None:
    """As after somebody measured the largest number that a message holds: whatever they differ by, it is judged."""
    known, unknown = checks(3.3, 3.3 + 10 * offset_sd)
    runs = [known, unknown._replace(offset=Normal(0, offset_sd))]
    assert find_dispute(runs, NOISE_SD, None) is Dispute.CONTESTED
    assert estimate(runs, NOISE_SD).mean == pytest.approx(3.3, abs=0.01)


def test_a_failure_stands_until_an_anchor_or_two_vouched_volunteers_run_the_code() -> None:
    strangers = [author(0)._replace(trust=Trust.ANCHOR), *checks(0, 0, 0, 0)]
    vouched = [run._replace(trust=Trust.VOUCHED) for run in checks(0, 0)]
    assert not agreement.is_run_by_roots(strangers, 1), "its author's own run is none"
    assert not agreement.is_run_by_roots([*strangers, vouched[0], vouched[0]], 1)
    assert not agreement.is_run_by_roots([*strangers, *(run._replace(is_check=False) for run in vouched)], 1)
    assert agreement.is_run_by_roots([*strangers, *vouched], 1)
    assert not agreement.is_run_by_roots([*strangers, *vouched], 2), "twice is no chance"
    assert agreement.is_run_by_roots([*strangers, vouched[0]._replace(trust=Trust.ANCHOR)], 2)


def test_who_is_known_to_lie_disputes_nothing_unless_nobody_else_checked() -> None:
    honest, liar = checks(0, 2 * LIE)
    doubted, anchor = liar._replace(trust=Trust.DOUBTED), honest._replace(trust=Trust.ANCHOR)
    assert find_dispute([author(0), honest, liar], NOISE_SD, None) is Dispute.CONTESTED
    assert find_dispute([author(0), honest, doubted], NOISE_SD, None) is Dispute.NONE
    assert find_dispute([author(0), anchor, liar], NOISE_SD, None) is Dispute.NONE, "the anchor contradicts it"
    assert find_dispute([author(0), doubted], NOISE_SD, None) is Dispute.CONTESTED
    assert find_dispute([author(2 * LIE), anchor, liar], NOISE_SD, None) is Dispute.CONTESTED, "and the author with it"
    assert compare([author(0), doubted], NOISE_SD, None) == Agreement(None, None)
    assert compare([author(0), liar], NOISE_SD, None) == Agreement(False, None)


@given(st.lists(st.sampled_from([0.0, 0.0005, LIE]), max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_runs_does_not_matter(values: list[float], random: Random) -> None:
    runs = [author(0), *checks(*values)]
    shuffled = random.sample(runs, len(runs))
    assert find_dispute(shuffled, NOISE_SD, None) is find_dispute(runs, NOISE_SD, None)


def test_honest_volunteers_are_seldom_in_dispute() -> None:
    draw = Random(3)
    sd = (NOISE_SD**2 + (NOISE_SD / 2) ** 2) ** 0.5
    disputed = 0
    for _ in range(2000):
        runs = [author(draw.gauss(0, sd)), *checks(*(draw.gauss(0, sd) for _ in range(3)))]
        disputed += find_dispute(runs, NOISE_SD, None) is not Dispute.NONE
    assert 0 < disputed < 0.02 * 2000


@pytest.mark.parametrize(
    ("runs", "outcome"),
    [
        ([author(0), *checks(0.001)], Agreement(True, True)),
        ([author(LIE), *checks(0)], Agreement(None, None)),
        ([author(2 * LIE), *checks(0)], Agreement(False, None)),
        ([author(LIE), *checks(0)], Agreement(None, None)),
        ([author(5 * NOISE_SD), *checks(0, 0)], Agreement(None, True)),
        ([author(LIE), *checks(0, 0)], Agreement(False, True)),
        ([author(0), *checks(0, LIE)], Agreement(True, None)),
        ([author(0), *checks(0, 0, LIE)], Agreement(True, False)),
        ([author(0), *checks(0, LIE, 0)], Agreement(True, None)),
        ([author(0), *checks(0, LIE, 0, 0)], Agreement(True, True)),
        ([author(0), *checks(0, LIE, 0, 0, LIE)], Agreement(True, False)),
        ([author(10 * LIE), *checks(0, LIE)], Agreement(None, None)),
        ([*checks(0)], Agreement(None, None)),
        ([*checks(0, 0)], Agreement(None, True)),
        ([*checks(0), author(0)], Agreement(None, None)),
    ],
)
def test_whom_a_measurement_confirms(runs: list[Measurement], outcome: Agreement) -> None:
    assert compare(runs, NOISE_SD, None) == outcome


def test_trust_grows_with_agreements_and_a_contradiction_begins_anew() -> None:
    record = TrustHistory()
    assert record.trust() is Trust.NEWCOMER
    for agrees in (True, True, None, True):
        record = record.after(agrees)
    assert record.agreements == 3 and record.trust() is Trust.NEWCOMER, "strangers do not make each other trusted"
    assert record.trust(is_vouched=True) is Trust.VOUCHED
    record = record.after(False)
    assert (record.agreements, record.contradictions) == (0, 1) and record.trust() is Trust.DOUBTED
    assert record.after(True).trust() is Trust.NEWCOMER
    assert record.after(False).after(True).trust() is Trust.DOUBTED
    assert record.trust(is_anchor=True) is Trust.ANCHOR


@pytest.mark.parametrize("agreements", [0, 1, 2, 5, 20, 1000])
def test_the_share_that_is_replicated_falls_with_agreements(agreements: int) -> None:
    record = TrustHistory(agreements)
    for _ in range(1000):
        due = record.is_replication_due
        record = TrustHistory(agreements, 0, record.claims + 1, record.replications_due + due)
    assert record.replications_due / 1000 == pytest.approx(max(MIN_SHARE, 1 / max(1, agreements)), abs=0.001)


def test_authors_do_not_vouch_for_themselves() -> None:
    own = [author(0)._replace(trust=Trust.VOUCHED), author(0)._replace(is_authors=False, trust=Trust.ANCHOR)]
    assert not is_anchored([*own, *checks(0, 0)], NOISE_SD)
    anchor = checks(0)[0]._replace(trust=Trust.ANCHOR)
    assert is_anchored([*own, anchor], NOISE_SD)
    assert not is_anchored([*own, anchor._replace(is_check=False)], NOISE_SD), "it chose the commit itself"
    vouched = [*own, anchor._replace(trust=Trust.VOUCHED)]
    assert not is_anchored(vouched, NOISE_SD) and is_anchored(vouched, NOISE_SD, vouched_verify=True)


def test_who_vouches_is_among_those_who_agree() -> None:
    apart = checks(0, 0, LIE)
    apart[2] = apart[2]._replace(trust=Trust.VOUCHED)
    assert not is_anchored([author(0), *apart], NOISE_SD, vouched_verify=True)
    assert is_agreed([author(0), *apart], NOISE_SD)


@pytest.mark.parametrize("liars", [1, 2, 5, 20])
def test_anchors_are_not_outvoted(liars: int) -> None:
    crowd = checks(*[LIE] * liars)
    assert is_agreed([author(LIE), *crowd], NOISE_SD) is (liars > 1), "without an anchor they agree"
    anchor = checks(0)[0]._replace(volunteer_id=99, worker_id=99, trust=Trust.ANCHOR)
    assert not is_agreed([author(LIE), *crowd, anchor], NOISE_SD)
    honest = checks(0, 0.0003)[1]._replace(volunteer_id=98, worker_id=98)
    runs = [author(LIE), *crowd, anchor, honest]
    assert {run.value for run in select(runs, NOISE_SD)} == {0, 0.0003} and is_anchored(runs, NOISE_SD)


def test_a_crowd_beside_an_anchor_does_not_move_a_number_past_it() -> None:
    """Ten who all stand 2 sd of a run to one side, near enough to agree with the anchor."""
    crowd = [run._replace(offset=EXACT) for run in checks(*[-2 * NOISE_SD] * 10)]
    anchor = checks(0)[0]._replace(worker_id=99, volunteer_id=99, trust=Trust.ANCHOR, offset=EXACT)
    runs = [author(-2 * NOISE_SD), *crowd, anchor]
    assert is_agreed(runs, NOISE_SD) and is_anchored(runs, NOISE_SD)

    def count_sd() -> float:
        """How many sd the number is from the truth."""
        said = estimate(runs, NOISE_SD)
        return -said.mean / said.sd

    with patch.object(agreement, "MAX_OTHERS", 1e9):
        assert count_sd() > 5, "it would be a gain without doubt"
    assert count_sd() < 3.2
    honest = [run._replace(value=value * NOISE_SD) for run, value in zip(crowd, (0.5, -0.7, 1.1), strict=False)]
    assert estimate([author(0), *honest, anchor], NOISE_SD).sd == pytest.approx(NOISE_SD / 2, rel=0.1)


def differ(*values: float) -> list[Measurement]:
    """An author's measurement and others', each by somebody else."""
    return [author(values[0]), *checks(*values[1:])]


def test_a_commit_that_scatters_is_less_certain() -> None:
    draw = Random(1)

    def average(scale: float, volunteers: int, lie: float = 0.0) -> float:
        drawn = [[draw.gauss(0, scale * NOISE_SD) for _ in range(volunteers - bool(lie))] for _ in range(400)]
        return fmean(measure_scatter(differ(*values, *([lie] if lie else [])), NOISE_SD) for values in drawn)

    assert average(1, 5) < 1.2, "a commit like the others"
    assert average(3, 3) > 2 and average(3, 6) > 3
    assert average(30, 6) == pytest.approx(SCATTERS[-1][0] ** LESS_CERTAIN, abs=0.1), "within bounds"
    assert measure_scatter(differ(0, 3 * NOISE_SD), NOISE_SD) == 1.0, "two say nothing of it"
    with patch.object(agreement, "median", lambda values: fmean(list(values))):
        outvoted = average(1, 5, LIE)
    assert outvoted > 4, "with means, one who makes numbers up makes any commit uncertain"
    assert average(1, 5, LIE) < 2


@pytest.mark.parametrize("volunteers", [3, 4, 6, 10])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_intervals_of_68_percent_cover_the_truth_of_noisy_commits_too(scale: float, volunteers: int) -> None:
    draw, tries = Random(2), 800
    runs = [differ(*(draw.gauss(0, scale * NOISE_SD) for _ in range(volunteers))) for _ in range(tries)]
    covered = sum(abs(one.mean) <= one.sd for one in (estimate(some, NOISE_SD) for some in runs)) / tries
    assert 0.55 < covered < 0.8


def test_who_was_lucky_is_not_taken_for_a_liar() -> None:
    """The best of many honest results of nothing: what can be expected of it is far less than its number."""
    expected = Normal(0, NOISE_SD)
    lucky = [author(-2.7 * NOISE_SD), *checks(0.6 * NOISE_SD)]
    assert find_dispute(lucky, NOISE_SD / 2, None) is Dispute.CONTESTED
    assert find_dispute(lucky, NOISE_SD / 2, expected) is Dispute.NONE
    assert compare(lucky, NOISE_SD / 2, expected) == Agreement(True, True)
    assert find_dispute([author(10 * LIE), *checks(0, 0)], NOISE_SD, expected) is Dispute.REFUTED


def test_what_brought_a_commit_to_notice_is_left_out_once_two_others_measured_it() -> None:
    author = Measurement(0.9, 1, 1, True, EXACT)
    same_again, other = Measurement(0.9, 2, 1, False, EXACT), Measurement(1.0, 3, 2, False, EXACT)
    third = Measurement(1.1, 4, 3, False, EXACT)
    assert select([author, same_again, other, other], NOISE_SD) == [author, same_again, other, other]
    assert select([author, other, same_again, third], NOISE_SD) == [other, third]
    assert select([other, third, same_again], 0.1) == [other, third, same_again], "nobody made the seed"


def test_a_number_that_was_checked_is_as_good_as_the_commit_on_average() -> None:
    """A commit picked for its author's run looks too good by that run; others' runs are not biased."""
    draw = Random(1)
    picked, checked = [], []
    for _ in range(10_000):
        values = [draw.gauss(1.0, NOISE_SD) for _ in range(5)]
        if values[0] < 1.0 - NOISE_SD:
            runs = [Measurement(value, who, who, who == 0, EXACT) for who, value in enumerate(values)]
            picked.append(pool(runs, NOISE_SD).mean)
            checked.append(pool(select(runs, NOISE_SD), NOISE_SD).mean)
    assert mean(picked) < 1.0 - 0.2 * NOISE_SD
    assert abs(mean(checked) - 1.0) < 0.05 * NOISE_SD


def test_a_number_rests_on_those_who_agree_and_on_nobody_who_is_doubted() -> None:
    said = checks(0, 0.0005, LIE, -0.0005)
    assert select([author(LIE), *said], NOISE_SD) == [said[0], said[1], said[3]]
    assert select([author(LIE), *said[:3]], NOISE_SD) == said[:2]
    assert select([author(LIE), *said[1:3]], NOISE_SD) == said[1:3], "of two nobody knows which one is wrong"
    doubted = said[1]._replace(trust=Trust.DOUBTED)
    assert select([author(0), said[0], doubted, said[3]], NOISE_SD) == [said[0], said[3]]
    assert select([author(0), said[0], doubted], NOISE_SD) == [said[0], doubted], "there are no others"
    assert not is_agreed([author(0), said[0], doubted], NOISE_SD)


def test_nobody_moves_the_number_of_the_seed() -> None:
    """All gains are counted from it. What one of four makes up, who is doubted, or a crowd beside an anchor has no part
    in it; nearly all honest runs have."""
    honest, liar = checks(0, 0.0005, -0.0005), checks(0, 0, 0, -LIE)[3]
    assert select([*honest, liar], NOISE_SD) == honest and select(honest, NOISE_SD) == honest
    doubted = liar._replace(value=0.0003, trust=Trust.DOUBTED)
    assert select([*honest, doubted], NOISE_SD) == honest
    anchor = honest[0]._replace(trust=Trust.ANCHOR)
    crowd = [liar._replace(worker_id=who, volunteer_id=who) for who in range(4, 12)]
    assert select([anchor, *crowd], NOISE_SD) == [anchor] and estimate([anchor, *crowd], NOISE_SD).mean == 0
    assert select(checks(0, LIE), NOISE_SD) == checks(0, LIE), "of two nobody knows which one is wrong"
    draw = Random(3)
    many = checks(*(draw.gauss(0, NOISE_SD) for _ in range(100)))
    assert len(select(many, NOISE_SD)) > 90 and abs(estimate(many, NOISE_SD).mean) < 3 * NOISE_SD / 10


@pytest.mark.parametrize(
    ("values", "agreed"),
    [
        ([0.0], False),
        ([0.0, 0.0005], True),
        ([0.0, 0.0015], False),
        ([0.0, 0.0015, 0.0005], True),
        ([0.0, LIE], False),
        ([0.0, LIE, 0.0005], True),
        ([0.0, LIE, 0.0014], False),
        ([0.0, LIE, 0.0014, 0.0007], True),
    ],
)
def test_two_must_agree_closely_before_anything_is_claimed(values: list[float], agreed: bool) -> None:
    assert is_agreed([author(0), *checks(*values)], NOISE_SD) is agreed
    assert is_agreed(checks(*values)[::-1], NOISE_SD) is agreed, "whoever came first"


def test_a_partner_who_makes_up_results_seldom_gets_into_a_claim() -> None:
    """Two pick the same commit up: one of them lies. Runs are added until they agree, or six were made."""
    draw = Random(5)
    sd = (NOISE_SD**2 + (NOISE_SD / 2) ** 2) ** 0.5
    held, honest_waits = 0, 0
    for _ in range(2000):
        lie = draw.randrange(3)
        said = checks(*(draw.gauss(LIE if who == lie else 0, sd) for who in range(5)))
        claimed = next((n for n in range(2, 6) if is_agreed([author(LIE), *said[:n]], NOISE_SD)), None)
        if claimed is not None:
            held += any(run.volunteer_id == lie + 1 for run in select([author(LIE), *said[:claimed]], NOISE_SD))
        honest_waits += not is_agreed([author(0), *checks(draw.gauss(0, sd), draw.gauss(0, sd))], NOISE_SD)
    assert held < 0.02 * 2000
    assert 0.25 * 2000 < honest_waits < 0.4 * 2000
