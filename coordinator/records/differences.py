"""By how much two commits differ in a hardware class: one number for each pair, which every page and address gives."""

from collections.abc import Mapping
from math import hypot

from sqlalchemy.orm import Session

from coordinator.evidence.posteriors import ANCHORS
from coordinator.evidence.statistics import Normal
from coordinator.lineage import commits
from coordinator.models import CommitPosterior
from coordinator.records import queries
from shared.experiments import Standing

AT_ONCE, MAX_DISTANCE = 250, 5_000
"""Number of ancestors that are read at once, and of those among which the other commit is looked for."""


def find_difference(session: Session, a: str, b: str, hardware_class: str) -> Normal | None:
    """metric(b) − metric(a); None unless both were measured in the class.

    Against its nearest measured ancestor a commit's difference is its effect, and against its nearest verified one its
    milestone: those take into account that one was derived from the other. Other pairs are taken as independent.
    """
    found = _map_posteriors(session, [a, b], hardware_class)
    if a not in found or b not in found:
        return None
    if a == b:
        return Normal(0.0, 0.0)
    if (down := _find_below(session, a, found[b])) is not None:
        return down
    if (up := _find_below(session, b, found[a])) is not None:
        return Normal(-up.mean, up.sd)
    one, other = found[a], found[b]
    return Normal(other.metric_mean - one.metric_mean, hypot(one.metric_sd, other.metric_sd))


def _find_below(session: Session, above: str, row: CommitPosterior) -> Normal | None:
    """The effect or the milestone of a commit, if `above` is the ancestor that it was measured against."""
    start, is_nearest, count = row.commit_sha, True, commits.MAX_CACHED_LINE  # mostly one of the nearest ends it
    for _ in range(MAX_DISTANCE // AT_ONCE + 1):
        line = commits.list_nearest(session, start, count)
        known = _map_posteriors(session, line[1:], row.hardware_class)
        for sha in line[1:]:
            ancestor = known.get(sha)
            if ancestor is None or ancestor.standing == Standing.REJECTED:
                continue
            mean, sd = (row.effect_mean, row.effect_sd) if is_nearest else (row.milestone_mean, row.milestone_sd)
            is_base = ancestor.standing in ANCHORS or ancestor.milestone_mean is None
            if sha == above and (is_nearest or is_base):
                return Normal(mean, sd) if mean is not None and sd is not None else None
            if sha == above or is_base:
                return None
            is_nearest = False
        if len(line) < count:
            return None
        start, count = line[-1], AT_ONCE
    return None


def _map_posteriors(session: Session, shas: list[str], hardware_class: str) -> Mapping[str, CommitPosterior]:
    rows = queries.list_posteriors(session, shas)
    return {row.commit_sha: row for row in rows if row.hardware_class == hardware_class}
