"""Whether volunteers who measured one commit agree, and what follows for their trust. Pure.

Two measurements contradict each other if they differ by more than 3 sd of their difference, offsets and what is not
known of them included. An author's result is compared with all who checked it; who checks is compared with the others
who did. Trust is lost beyond 4 sd only, since each volunteer is compared many times. One against one says that somebody
is wrong, not who: then only the author, whose result was not repeated, loses trust.

A number that is claimed rests on those who checked it and agree (decision 0017). Two must agree closely, since nothing
tells which is wrong; of more, those that stand apart from the others, or from the anchors, are left out.

Strangers cannot make each other trusted. A claim is verified if an anchor is among those who agree (decision 0031), and
a volunteer is vouched by agreeing with anchors and such (decision 0028).

Results are checked because they look good, and what is picked so was lucky on average. So an author is not held to the
number, but to what could be expected from it and its ancestors together: the posterior, with the prior of effects.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate
from math import exp, inf, log, sqrt
from statistics import fmean, median
from typing import NamedTuple

from coordinator.evidence.statistics import CHECKERS, Measurement, Normal, combine, list_checks, pool, split
from shared.experiments import Dispute
from shared.records import Trust

MAX_DIFFERENCE = 3.0
"""Measurements that differ by more sd than this contradict each other (docs/architecture.md)."""

LOSES_TRUST = 4.0
"""A volunteer loses trust by a difference of more sd than this. Of a hundred volunteers who are compared twenty times
each, 3 sd would doubt five honest ones by chance, and 4 sd one in eight times."""

STANDS_APART = 2.0
"""Replications more than this many sd from the rest are excluded from a commit's number: one honest result in twenty,
and nearly all invented ones that would matter."""

CLOSE = 1.0
"""Two checkers alone must agree within so many sd of their difference; otherwise, in one case of three, a third is
asked. What two differ by says nothing of their mean."""

ROOTS_OF_TRUST = frozenset({Trust.ANCHOR, Trust.VOUCHED})

COMMITS_WITH_ANCHORS = 3
COMMITS_WITH_VOUCHED, VOUCHED_PARTNERS = 5, 3
VOUCHED_OVER = timedelta(hours=24)
"""A volunteer is vouched by agreement with anchors on so many commits, or with vouched volunteers on so many, over at
least this time (docs/architecture.md)."""

MIN_SHARE = 0.02
"""Smallest share of a volunteer's claims that is replicated, however often they were right (docs/architecture.md)."""

MAX_UNKNOWN = 4.0
"""A worker whose offset is known no better than so many times the noise agrees with nearly everything."""

SERIOUS_SHARE = 3
"""A claim is contested while at least one checker in this many contradicts the others."""

MAX_OTHERS = 3.0
"""Weight of all other checkers of a commit, in units of its anchors'."""

CHANCE_FAILURES = 2
"""Failures of a commit's code on anchors from which on they are no chance."""

SCATTERED = 3
"""Number of volunteers from which a commit's own noise is estimated."""

SCATTERS = ((1.0, 0.93), (2.0, 0.04), (3.0, 0.03))
"""A commit's noise, in units of its class's, with the share of commits that have it before anything is measured."""

LESS_CERTAIN = 1.7
"""Power of a commit's scatter by which the sd of its number grows (by simulation, 3 to 10 volunteers): more than the
scatter itself, since those who agree where all scatter are the few that happen to be close."""

MEDIAN_SQUARE = 0.4549
"""Median of the chi-squared distribution with one degree of freedom."""

MEDIAN_SQUARE_LOSS = 0.98
"""Squared distances of n normal numbers from their median have this over n^2 less (by simulation, n from 3 to 12)."""

EFFICIENCY = 2 / 3
"""Information that a median keeps of what a mean has, about 2 / pi of it."""


class Vouching(NamedTuple):
    """A volunteer's checks in a class that agree with those of anchors and vouched volunteers, since it was
    contradicted last: commits with an anchor, commits with either, the volunteers agreed with, and when."""

    anchored: int = 0
    commits: int = 0
    partners: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None

    @property
    def is_enough(self) -> bool:
        """Whether the volunteer is vouched."""
        is_wide = self.commits >= COMMITS_WITH_VOUCHED and self.partners >= VOUCHED_PARTNERS
        if self.first_at is None or self.last_at is None:
            return False
        return (self.anchored >= COMMITS_WITH_ANCHORS or is_wide) and self.last_at - self.first_at >= VOUCHED_OVER


@dataclass(frozen=True)
class TrustHistory:
    """A volunteer's record in a project, from replications. `agreements` counts since the last contradiction."""

    agreements: int = 0
    contradictions: int = 0
    claims: int = 0
    replications_due: int = 0

    def trust(self, *, is_anchor: bool = False, is_vouched: bool = False) -> Trust:
        """The weight of its measurements as checks of others."""
        if is_anchor:
            return Trust.ANCHOR
        if self.contradictions > self.agreements:
            return Trust.DOUBTED
        return Trust.VOUCHED if is_vouched else Trust.NEWCOMER

    def after(self, agrees: bool | None) -> "TrustHistory":
        """The record once a measurement was compared with others'; None: nothing can be said."""
        if agrees is None:
            return self
        if agrees:
            return replace(self, agreements=self.agreements + 1)
        return replace(self, agreements=0, contradictions=self.contradictions + 1)

    @property
    def is_replication_due(self) -> bool:
        """Whether the next claim must be replicated, so that of n agreements' volunteer a share of 1/n is."""
        return self.replications_due < max(MIN_SHARE, 1 / max(1, self.agreements)) * (self.claims + 1)


class Agreement(NamedTuple):
    """The agreement of a new measurement with the commit's author and with others; None if it shows nothing."""

    author_agrees: bool | None
    checker_agrees: bool | None


def compare(measurements: Sequence[Measurement], noise_sd: float, expected: Normal | None) -> Agreement:
    """Judge the last of a commit's measurements, by somebody who is not its author, and the author by all others.

    `expected` is what was to be expected of the commit before all of its runs, None without a measured ancestor.
    """
    newest = measurements[-1]
    by_author, believed = believe(measurements, noise_sd)
    before = [run for run in believed if run.volunteer_id != newest.volunteer_id]
    own = [run for run in split(measurements)[1] if run.volunteer_id == newest.volunteer_id]
    if not own:
        return Agreement(None, None)  # authors do not check themselves
    if not by_author:
        return Agreement(None, _judge_checker(own, before, noise_sd))
    if newest not in believed:
        return Agreement(None, _judge_checker(own, _find_settled(before, noise_sd), noise_sd))
    settled = _find_settled(believed, noise_sd)
    said = pool(by_author, noise_sd)
    author_agrees = _judge(combine(said, expected) if expected else said, pool(settled or believed, noise_sd))
    if not settled or newest.trust == Trust.DOUBTED:
        author_agrees = author_agrees or None
    if not before:
        return Agreement(author_agrees, author_agrees or None)
    return Agreement(author_agrees, _judge_checker(own, _find_settled(before, noise_sd), noise_sd))


def believe(measurements: Sequence[Measurement], noise_sd: float) -> tuple[list[Measurement], list[Measurement]]:
    """A commit's runs by its author, and by others who were not doubted then and do not contradict its anchors; all
    others' where that leaves none. Who is known to make numbers up holds nothing up by more of them."""
    by_author, by_others = split(measurements)
    refuted = _contradict_anchors(by_others, noise_sd)
    believed = [run for run in by_others if run.trust != Trust.DOUBTED and run.volunteer_id not in refuted]
    return by_author, believed or by_others


def _judge_checker(own: Sequence[Measurement], others: Sequence[Measurement], noise_sd: float) -> bool | None:
    if not others:
        return None
    agrees = _judge(pool(own, noise_sd), pool(others, noise_sd))
    return agrees if agrees or len({run.volunteer_id for run in others}) > 1 else None


def _judge(own: Normal, others: Normal) -> bool | None:
    """Whether a volunteer's number agrees with others'; None in between."""
    distance = _distance(own, others)
    return True if distance <= MAX_DIFFERENCE else False if distance > LOSES_TRUST else None


def find_dispute(measurements: Sequence[Measurement], noise_sd: float, expected: Normal | None) -> Dispute:
    """Whether a commit's runs can be believed together; `expected` as in `compare`."""
    by_author, by_others = believe(measurements, noise_sd)
    volunteers = {run.volunteer_id for run in by_others}
    outliers = _find_outliers(by_others, noise_sd)
    are_at_odds = bool(outliers) and SERIOUS_SHARE * len(outliers) >= len(volunteers)
    settled = (by_author and _find_settled(by_others, noise_sd)) or by_others  # hundreds may have measured the seed
    if not are_at_odds and (not by_author or _is_repeated(by_author, settled, noise_sd, expected)):
        return Dispute.NONE
    return Dispute.CONTESTED if are_at_odds or len(volunteers) < CHECKERS else Dispute.REFUTED


def select(measurements: Sequence[Measurement], noise_sd: float) -> Sequence[Measurement]:
    """The runs that a commit's number rests on: once CHECKERS others measured it, theirs alone, those who agree.

    What is checked was picked because its author's run looked good, so that run is too good on average. Who is doubted
    is left out, and of three or more who stands apart. Of the seed, which nobody made, an anchor alone is enough.
    """
    if not split(measurements)[0]:
        return leave_out_apart(measurements, noise_sd) or measurements
    checks = list_checks(measurements)
    if len({run.volunteer_id for run in checks}) < CHECKERS:
        return measurements
    agreed = leave_out_apart(checks, noise_sd)
    return agreed if len({run.volunteer_id for run in agreed}) >= CHECKERS else checks


def estimate(measurements: Sequence[Measurement], noise_sd: float) -> Normal:
    """A commit's metric as the runs say that its number rests on, as uncertain as its measurements scatter.

    Where anchors measured it, all others weigh at most MAX_OTHERS times as much: many who stand a little to one side of
    an anchor would move the number by more than its sd.
    """
    runs = select(measurements, noise_sd)
    anchors = pool((run for run in runs if run.trust == Trust.ANCHOR), noise_sd)
    others = pool((run for run in runs if run.trust != Trust.ANCHOR), noise_sd)
    others = Normal(others.mean, max(others.sd, anchors.sd / sqrt(MAX_OTHERS) if anchors.sd < inf else 0.0))
    pooled = others if anchors.sd == inf else anchors if others.sd == inf else combine(anchors, others)
    return Normal(pooled.mean, pooled.sd * measure_disagreement(measurements, noise_sd, runs))


def measure_disagreement(
    measurements: Sequence[Measurement], noise_sd: float, selected: Sequence[Measurement] | None = None
) -> float:
    """By how much a commit's number is less certain because those who measured it differ: its scatter. Where it rests
    on two who contradict each other it is as uncertain as they are apart, so that one who makes numbers up moves it
    the less the larger its lie is, until others measured it too."""
    said = _pool_by_volunteer(select(measurements, noise_sd) if selected is None else selected, noise_sd)
    apart = max(_measure_distances(said).values()) if len(said) == CHECKERS else 0.0
    scatter = measure_scatter(measurements, noise_sd)
    return max(scatter, apart) if apart > LOSES_TRUST else scatter


def measure_scatter(measurements: Sequence[Measurement], noise_sd: float) -> float:
    """By how much a commit's number is less certain than the noise of its class says, because the volunteers who
    measured it differ by more; about 1 where they do not, and while fewer than SCATTERED did.

    The commit's noise has a prior of a few values, and the mean of their squares is its posterior mean: wide tails, so
    that six volunteers show what a conjugate prior hides. Of four and more volunteers the median of their squared
    distances from the median speaks, so that one who makes numbers up has little weight. A factor on the sd is Birge's
    (1932).
    """
    known = (run for run in measurements if run.trust != Trust.DOUBTED)
    said = list(_pool_by_volunteer(known, noise_sd).values())
    if len(said) < SCATTERED:
        return 1.0
    middle = median(own.mean for own in said)
    squares = sorted(((own.mean - middle) / own.sd) ** 2 for own in said)
    freedom = EFFICIENCY * (len(said) - 1)
    ratio = median(squares) / (MEDIAN_SQUARE - MEDIAN_SQUARE_LOSS / len(said) ** 2)
    if len(said) == SCATTERED:  # of three a median says next to nothing
        freedom = len(said) - 1.0
        middle = fmean((own.mean for own in said), [own.sd**-2 for own in said])
        ratio = sum(((own.mean - middle) / own.sd) ** 2 for own in said) / freedom
    odds = [
        (scatter**2, share * exp(-freedom / 2 * (log(scatter**2) + ratio / scatter**2 - ratio / SCATTERS[-1][0] ** 2)))
        for scatter, share in SCATTERS
    ]
    variance = sum(square * weight for square, weight in odds) / sum(weight for _, weight in odds)
    return float(variance ** (LESS_CERTAIN / 2))


def leave_out_apart(measurements: Sequence[Measurement], noise_sd: float) -> list[Measurement]:
    """The runs by those who are not doubted and do not stand apart, whatever the runs were made for."""
    agreed = _find_agreed(measurements, noise_sd)
    return [run for run in measurements if run.volunteer_id in agreed]


def contradict_each_other(measurements: Sequence[Measurement], noise_sd: float) -> bool:
    """Whether two volunteers or more differ by too much to be believed together."""
    said = _pool_by_volunteer(measurements, noise_sd)
    return len(said) >= CHECKERS and not _are_close(said, MAX_DIFFERENCE)


def is_agreed(measurements: Sequence[Measurement], noise_sd: float) -> bool:
    """Whether CHECKERS or more who are not doubted checked a commit, and agree as well as a claim demands."""
    agreed = _find_agreed(list_checks(measurements), noise_sd)
    return _are_close(agreed, CLOSE if len(agreed) == CHECKERS else STANDS_APART)


def _are_close(said: Mapping[int, Normal], allowed: float) -> bool:
    """Whether there are CHECKERS, and none of them differs by more sd than that from the others."""
    return len(said) >= CHECKERS and max(_measure_distances(said).values()) <= allowed


def _find_agreed(by_others: Sequence[Measurement], noise_sd: float) -> dict[int, Normal]:
    """The measurements of checkers who are not doubted and who agree with each other, and with the anchors."""
    said = _pool_by_volunteer((run for run in by_others if run.trust != Trust.DOUBTED), noise_sd)
    anchors = {run.volunteer_id for run in by_others if run.trust == Trust.ANCHOR}
    if anchors:
        level = pool((run for run in by_others if run.volunteer_id in anchors), noise_sd)
        said = {by: own for by, own in said.items() if by in anchors or _distance(own, level) <= STANDS_APART}
    while len(said) > CHECKERS:
        apart = {by: distance for by, distance in _measure_distances(said).items() if by not in anchors}
        if not apart:
            break
        worst = max(apart, key=lambda volunteer: (apart[volunteer], volunteer))
        if apart[worst] <= STANDS_APART:
            break
        del said[worst]
    return said


def _find_settled(by_others: Sequence[Measurement], noise_sd: float) -> Sequence[Measurement]:
    """The runs of checkers who agree, or of the only one; empty where they contradict each other."""
    if len({run.volunteer_id for run in by_others}) < CHECKERS:
        return by_others
    agreed = _find_agreed(by_others, noise_sd)
    is_settled = _are_close(agreed, STANDS_APART if len(agreed) > CHECKERS else MAX_DIFFERENCE)
    return [run for run in by_others if run.volunteer_id in agreed] if is_settled else []


def pool_roots(measurements: Sequence[Measurement], noise_sd: float, *, vouched_verify: bool = False) -> Normal:
    """A commit's metric by the checks of anchors alone, and of vouched volunteers where those verify, of those who
    agree; its sd is infinite without any."""
    checks = list_checks(measurements)
    agreed = _find_agreed(checks, noise_sd)
    roots = ROOTS_OF_TRUST if vouched_verify else {Trust.ANCHOR}
    return pool((run for run in checks if run.volunteer_id in agreed and run.trust in roots), noise_sd)


def is_anchored(measurements: Sequence[Measurement], noise_sd: float, *, vouched_verify: bool = False) -> bool:
    """Whether an anchor, or a vouched volunteer where those verify, is among those who checked a commit and agree."""
    return pool_roots(measurements, noise_sd, vouched_verify=vouched_verify).sd < inf


def is_run_by_roots(measurements: Sequence[Measurement], failed_on_anchors: int) -> bool:
    """Whether a commit's code ran on an anchor, or with CHECKERS vouched volunteers: then no failure stands, but for a
    second one on an anchor, which no number of patient accounts outvotes."""
    checks = list_checks(measurements)
    vouched = {run.volunteer_id for run in checks if run.trust == Trust.VOUCHED}
    outvotes = len(vouched) >= CHECKERS and failed_on_anchors < CHANCE_FAILURES
    return outvotes or any(run.trust == Trust.ANCHOR for run in checks)


class Partner(NamedTuple):
    """A volunteer whose measurements of a commit agree with another's."""

    volunteer_id: int
    is_anchor: bool


def find_partners(measurements: Sequence[Measurement], noise_sd: float) -> dict[int, set[Partner]]:
    """The anchors and vouched volunteers with whom each other checker agrees, by checker: what the last of a commit's
    measurements adds. A worker whose offset is not known yet says nothing."""
    checks = [run for run in list_checks(measurements) if run.offset.sd < MAX_UNKNOWN * noise_sd]
    newest = measurements[-1].volunteer_id
    roots = {run.volunteer_id: run.trust == Trust.ANCHOR for run in checks if run.trust in ROOTS_OF_TRUST}
    said = _pool_by_volunteer(checks, noise_sd)
    found: dict[int, set[Partner]] = {}
    for one, other in ((one, other) for one in said for other in roots if newest in (one, other)):
        if one != other and not roots.get(one) and _distance(said[one], said[other]) <= STANDS_APART:
            found.setdefault(one, set()).add(Partner(other, roots[other]))
    return found


def find_contradicted(measurements: Sequence[Measurement], noise_sd: float) -> set[int]:
    """The checkers whom the last of a commit's measurements shows to contradict its anchors. Whose machine is not
    placed yet contradicts nobody: an anchor's run places it."""
    placed = [run for run in list_checks(measurements) if run.is_placed]
    found, newest = _contradict_anchors(placed, noise_sd), measurements[-1]
    return found if newest.trust == Trust.ANCHOR else found & {newest.volunteer_id}


def _contradict_anchors(checks: Sequence[Measurement], noise_sd: float) -> set[int]:
    """Those among a commit's checkers who differ from its anchors by so much that they lose trust."""
    anchors = {run.volunteer_id for run in checks if run.trust == Trust.ANCHOR}
    if not anchors:
        return set()
    level = pool((run for run in checks if run.volunteer_id in anchors), noise_sd)
    said = _pool_by_volunteer((run for run in checks if run.volunteer_id not in anchors), noise_sd)
    return {by for by, own in said.items() if _distance(own, level) > LOSES_TRUST}


def _is_repeated(
    by_author: Sequence[Measurement], by_others: Sequence[Measurement], noise_sd: float, expected: Normal | None
) -> bool:
    """Whether others find what was to be expected from the author's runs; true while there are no others."""
    said = pool(by_author, noise_sd)
    known = combine(said, expected) if expected else said
    return not by_others or _distance(known, pool(by_others, noise_sd)) <= MAX_DIFFERENCE


def _distance(one: Normal, other: Normal) -> float:
    """How many sd of their difference two numbers are apart."""
    return abs(one.mean - other.mean) / sqrt(one.sd**2 + other.sd**2)


def _find_outliers(measurements: Sequence[Measurement], noise_sd: float) -> set[int]:
    """Volunteers whose runs contradict those of all others."""
    said = _pool_by_volunteer(measurements, noise_sd)
    if len(said) < CHECKERS:
        return set()
    return {volunteer for volunteer, distance in _measure_distances(said).items() if distance > MAX_DIFFERENCE}


def _measure_distances(said: Mapping[int, Normal]) -> dict[int, float]:
    """How many sd of their difference each of at least two volunteers is from all others together.

    Workers are independent, so precisions add up. Those of all others are added, because the own cannot be taken from a
    sum in which it is all that counts.
    """
    precisions = [1 / own.sd**2 for own in said.values()]
    weighted = [own.mean * precision for own, precision in zip(said.values(), precisions, strict=True)]
    distances = {}
    others = zip(_sum_others(precisions), _sum_others(weighted), strict=True)
    for (volunteer, own), (left, mean) in zip(said.items(), others, strict=True):
        distances[volunteer] = abs(own.mean - mean / left) / sqrt(own.sd**2 + 1 / left)
    return distances


def _sum_others(values: Sequence[float]) -> list[float]:
    """Of each value, the sum of all others."""
    before = accumulate(values[:-1], initial=0.0)
    after = reversed(list(accumulate(values[:0:-1], initial=0.0)))
    return [one + other for one, other in zip(before, after, strict=True)]


def _pool_by_volunteer(measurements: Iterable[Measurement], noise_sd: float) -> dict[int, Normal]:
    found: dict[int, list[Measurement]] = {}
    for run in measurements:
        found.setdefault(run.volunteer_id, []).append(run)
    return {volunteer: pool(runs, noise_sd) for volunteer, runs in found.items()}
