"""Chooses an experiment's parent: Thompson sampling over the frontier, spread over branches.

Each candidate draws once from its posterior, and the lowest draw wins (Thompson 1933; Russo et al. 2018, A Tutorial on
Thompson Sampling). A winner with children in flight is turned down with probability 1 − 1/(1 + children), and all draw
again, so that a fleet spreads out.

Experiments of one worker on one parent are compared best, so the draw of a worker's last parent counts as better by its
posterior's sd. Each active branch gets a minimum share of the jobs, for which it does not compete with others; a branch
with its maximum of the experiments under way gets none of the other jobs. What a maintainer paused, and what waits for
approval, gets none at all.
"""

from collections.abc import Sequence
from math import ceil
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.random import SFC64, Generator

from shared.contract import Diversity
from shared.formatting import count_noun

MAX_DRAWS = 100  # after which the last winner is taken although it is busy
MAX_RESERVED = 0.5  # largest share of all jobs that the contract's minimums take, with those that maintainers gave


class Candidate(NamedTuple):
    """A measured commit, settled once it is verified or corroborated. `mean` and `sd` are of the posterior, with the
    sign turned so that lower is better; `measured_in_flight` counts live leases that measure it."""

    sha: str
    mean: float
    sd: float
    runs: int
    children_in_flight: int
    is_settled: bool = False
    is_suspect: bool = False
    measured_in_flight: int = 0
    branch_id: int = 0
    is_corroborated: bool = False
    is_disputed: bool = False


class ResearchDirection(NamedTuple):
    """A branch. `in_flight` counts the experiments under way on it; `is_stalled` asks for another axis. `share` is the
    minimum share of the jobs that a maintainer gave it, and `closed` says why nobody may work on it."""

    id: int
    name: str
    head_sha: str
    is_active: bool = True
    is_stalled: bool = False
    in_flight: int = 0
    share: float | None = None
    closed: str = ""

    def holds(self, candidate: Candidate) -> bool:
        """Whether experiments on this branch may start from a commit: from its own, and from where it begins."""
        return candidate.branch_id == self.id or candidate.sha == self.head_sha


class Parent(NamedTuple):
    """A drawn parent, the branch that the experiment belongs to (None: that of the parent), and why, in a sentence."""

    candidate: Candidate
    branch: ResearchDirection | None
    why: str


def choose_parent(
    candidates: Sequence[Candidate],
    branches: Sequence[ResearchDirection],
    rules: Diversity,
    last_parent: str | None,
    chosen: ResearchDirection | None,
    rng: Random,
) -> Parent | None:
    """The parent of an experiment; None if the branch that the volunteer has chosen has no candidate here, or all are
    closed."""
    pool = _leave_out_closed(candidates, branches)
    pool = [candidate for candidate in pool if not candidate.is_suspect] or pool
    branch, reason = chosen, f"{chosen.name} is the branch that its volunteer chose. " if chosen else ""
    if chosen is None:
        branch, reason = _reserve(pool, branches, rules, rng)
    pool = [c for c in pool if branch.holds(c)] if branch else _leave_out(pool, branches, rules)
    if not pool:
        return None
    drawn = _draw(pool, last_parent, rng)
    branch = branch or _find_branch(drawn, branches)
    return Parent(drawn, branch, reason + _explain(drawn, len(pool), branch, is_last=drawn.sha == last_parent))


def exceeds(share: float, held: int, total: int) -> bool:
    """Whether one more job would exceed a share of the `total` under way; a share is rounded up to whole jobs."""
    return held + 1 > ceil(share * (total + 1))


def _reserve(
    pool: Sequence[Candidate], branches: Sequence[ResearchDirection], rules: Diversity, rng: Random
) -> tuple[ResearchDirection | None, str]:
    """The branch whose minimum share this job belongs to, if any, and a sentence that says so."""
    total = sum(known.in_flight for known in branches)
    active = [b for b in branches if b.is_active and not exceeds(rules.max_branch, b.in_flight, total)]
    active = [known for known in active if any(map(known.holds, pool))] if active[1:] else active
    shares = _share_out(active, rules)
    if len(active) < 2 or rng.random() >= sum(shares):
        return None, ""
    branch = rng.choices(active, shares)[0]
    return branch, f"Each active branch gets a minimum share of the jobs, and this job is part of {branch.name}'s. "


def _share_out(active: Sequence[ResearchDirection], rules: Diversity) -> list[float]:
    """The minimum share of each branch: that which a maintainer gave it, else the contract's, which gives way."""
    given = sum(known.share or 0.0 for known in active)
    others = sum(known.share is None for known in active)
    each = min(rules.min_branch, max(0.0, MAX_RESERVED - given) / others) if others else 0.0
    return [each if known.share is None else known.share for known in active]


def _leave_out_closed(candidates: Sequence[Candidate], branches: Sequence[ResearchDirection]) -> Sequence[Candidate]:
    """The candidates without those that belong to closed branches alone."""
    closed = {known.id for known in branches if known.closed}
    if not closed:
        return candidates
    heads = {known.head_sha for known in branches if not known.closed}
    return [candidate for candidate in candidates if candidate.branch_id not in closed or candidate.sha in heads]


def _find_branch(drawn: Candidate, branches: Sequence[ResearchDirection]) -> ResearchDirection | None:
    """The branch that an experiment on a commit belongs to: the commit's own, or one that begins there if its own is
    closed."""
    own = next((known for known in branches if known.id == drawn.branch_id), None)
    if own is None or not own.closed:
        return own
    return next((known for known in branches if not known.closed and known.holds(drawn)), own)


def _leave_out(
    pool: Sequence[Candidate], branches: Sequence[ResearchDirection], rules: Diversity
) -> Sequence[Candidate]:
    """The candidates without those of branches that are paused or have their maximum of jobs."""
    total = sum(known.in_flight for known in branches)
    active = [known for known in branches if known.is_active]
    free = [known for known in active if not exceeds(rules.max_branch, known.in_flight, total)]
    for allowed in (free, active):
        if len(allowed) == len(branches):
            return pool
        if left := [candidate for candidate in pool if any(known.holds(candidate) for known in allowed)]:
            return left
    return pool


def _draw(pool: Sequence[Candidate], last_parent: str | None, rng: Random) -> Candidate:
    means, sds = np.array([candidate.mean for candidate in pool]), np.array([candidate.sd for candidate in pool])
    at = next((at for at, candidate in enumerate(pool) if candidate.sha == last_parent), None)
    if at is not None:
        means[at] -= sds[at]
    draw = Generator(SFC64(rng.getrandbits(64))).standard_normal
    for _ in range(MAX_DRAWS):
        winner = pool[int((means + sds * draw(len(pool))).argmin())]
        if rng.random() * (1 + winner.children_in_flight) < 1:
            break
    return winner


def _explain(drawn: Candidate, pool: int, branch: ResearchDirection | None, *, is_last: bool) -> str:
    on_branch = f" of {branch.name}" if branch else ""
    stays = ", the same as in this worker's last experiment" if is_last else ""
    return (
        f"Thompson sampling over {count_noun(pool, 'measured commit')} chose this parent{on_branch}{stays}. It has "
        f"{count_noun(drawn.runs, 'run')}, and {count_noun(drawn.children_in_flight, 'experiment')} on it under way."
    )
