"""Which commit an experiment starts from, for fleets and frontiers of any kind."""

from collections import Counter
from math import ceil
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.selection.parents import Candidate, Parent, ResearchDirection, choose_parent
from shared.contract import Diversity
from tests.support.examples import choose_examples

RULES = Diversity()
SEEDS = st.integers(0, 2**32)


@st.composite
def frontiers(draw: st.DrawFn) -> tuple[list[Candidate], list[ResearchDirection]]:
    """Branches, each with some commits on it; the first one lives."""
    branches, candidates = [], []
    for number in range(1, draw(st.integers(1, 5)) + 1):
        in_flight = draw(st.integers(0, 40))
        branch = ResearchDirection(
            number, f"b{number}", f"c{number}.0", number == 1 or draw(st.booleans()), False, in_flight
        )
        branches.append(branch)
        for commit in range(draw(st.integers(1, 4))):
            mean, sd = draw(st.floats(2.0, 4.0)), draw(st.floats(0.001, 0.1))
            children, suspect = draw(st.integers(0, 5)), draw(st.booleans())
            name = f"c{number}.{commit}"
            candidates.append(Candidate(name, mean, sd, 1, children, is_suspect=suspect, branch_id=number))
    return candidates, branches


def choose(
    candidates: list[Candidate], branches: list[ResearchDirection], rng: Random, last: str | None = None,
    chosen: ResearchDirection | None = None, rules: Diversity = RULES,
) -> Parent | None:  # fmt: skip
    return choose_parent(candidates, branches, rules, last, chosen, rng)


@given(frontiers(), SEEDS)
def test_a_parent_is_a_candidate_that_may_be_one(
    frontier: tuple[list[Candidate], list[ResearchDirection]], seed: int
) -> None:
    candidates, branches = frontier
    parent = choose(candidates, branches, Random(seed))
    assert parent is not None and parent.candidate in candidates and parent.why.endswith("under way.")
    sound = [candidate for candidate in candidates if not candidate.is_suspect]
    assert not sound or not parent.candidate.is_suspect
    assert parent.branch is not None and parent.branch.holds(parent.candidate)


@given(frontiers(), SEEDS)
def test_a_paused_branch_gets_nothing_while_another_is_active(
    frontier: tuple[list[Candidate], list[ResearchDirection]], seed: int
) -> None:
    candidates, branches = frontier
    sound = [candidate for candidate in candidates if not candidate.is_suspect] or candidates
    active = {branch.id for branch in branches if branch.is_active}
    parent = choose(candidates, branches, Random(seed))
    assert parent is not None
    if any(candidate.branch_id in active for candidate in sound):
        assert parent.candidate.branch_id in active


@given(frontiers(), SEEDS)
def test_no_branch_goes_beyond_its_maximum_while_another_can_take_the_job(
    frontier: tuple[list[Candidate], list[ResearchDirection]], seed: int
) -> None:
    candidates, branches = frontier
    sound = [candidate for candidate in candidates if not candidate.is_suspect] or candidates
    total = sum(branch.in_flight for branch in branches)
    free = [b.id for b in branches if b.is_active and b.in_flight + 1 <= ceil(RULES.max_branch * (total + 1))]
    parent = choose(candidates, branches, Random(seed))
    assert parent is not None and parent.branch is not None
    if any(candidate.branch_id in free for candidate in sound):
        assert parent.branch.id in free


@settings(max_examples=choose_examples(10, 200))
@given(st.integers(2, 6), SEEDS)
def test_each_active_branch_keeps_its_minimum(count: int, seed: int) -> None:
    """However far it is behind: of 2,000 jobs at least 3 % where 5 % are expected, which is four sd."""
    branches = [ResearchDirection(number, f"b{number}", f"c{number}") for number in range(count)]
    candidates = [Candidate(f"c{number}", 3.0 + number, 0.001, 1, 0, branch_id=number) for number in range(count)]
    rng, drawn = Random(seed), Counter[int]()
    for _ in range(2000):
        parent = choose(candidates, branches, rng)
        assert parent is not None and parent.branch is not None
        drawn[parent.branch.id] += 1
    assert min(drawn[branch.id] for branch in branches) >= 60
    assert drawn[0] > 2000 * (1 - RULES.min_branch * count) - 100


def test_shares_that_a_maintainer_gave_are_kept_and_the_others_give_way() -> None:
    """Of 4,000 jobs 40 % and 5 % are kept: the bounds are at least four sd away."""
    shares = [None, 0.4, None, None]
    branches = [ResearchDirection(n, f"b{n}", f"c{n}", share=share) for n, share in enumerate(shares)]
    candidates = [Candidate(f"c{n}", 3.0 + n, 0.001, 1, 0, branch_id=n) for n in range(4)]
    rng = Random(1)
    drawn = Counter(p.branch.id for _ in range(4000) if (p := choose(candidates, branches, rng)) and p.branch)
    assert 0.365 < drawn[1] / 4000 < 0.435
    assert all(0.015 < drawn[n] / 4000 < 0.065 for n in (2, 3)) and drawn[0] > 1700


@given(frontiers(), st.sets(st.integers(1, 5)), SEEDS)
def test_what_a_maintainer_closed_gets_nothing(
    frontier: tuple[list[Candidate], list[ResearchDirection]], closed: set[int], seed: int
) -> None:
    candidates, branches = frontier
    branches = [b._replace(closed="was paused", is_active=False) if b.id in closed else b for b in branches]
    parent = choose(candidates, branches, Random(seed))
    if closed >= {branch.id for branch in branches}:
        assert parent is None
    else:
        assert parent is not None and parent.branch is not None and not parent.branch.closed


def test_a_branch_that_begins_on_a_closed_ones_commit_goes_on_from_there() -> None:
    best = Candidate("best", 3.1, 0.01, 5, 0, branch_id=1)
    old = ResearchDirection(1, "old", "best", is_active=False, closed="was paused by a maintainer")
    new = ResearchDirection(2, "new", "best")
    parent = choose([best], [old, new], Random(1))
    assert parent is not None and parent.branch is new
    assert choose([best], [old], Random(1)) is None


@given(frontiers(), SEEDS)
def test_a_chosen_branch_is_kept_to(frontier: tuple[list[Candidate], list[ResearchDirection]], seed: int) -> None:
    candidates, branches = frontier
    chosen = branches[-1]
    parent = choose(candidates, branches, Random(seed), chosen=chosen)
    sound = [candidate for candidate in candidates if not candidate.is_suspect] or candidates
    if any(chosen.holds(candidate) for candidate in sound):
        assert parent is not None and parent.branch == chosen and "its volunteer chose" in parent.why
    else:
        assert parent is None


def test_a_branch_without_experiments_begins_at_its_head() -> None:
    root = Candidate("root", 3.3, 0.01, 5, 0, branch_id=1)
    best = Candidate("best", 3.1, 0.01, 5, 0, branch_id=1)
    branches = [ResearchDirection(1, "baseline", "best"), ResearchDirection(2, "norms", "root")]
    parent = choose([best, root], branches, Random(1), chosen=branches[1])
    assert parent is not None and parent.candidate is root and parent.branch is branches[1]


def test_workers_stay_with_their_last_parent_unless_another_one_is_better() -> None:
    """Of two equals the last one wins with probability Φ(1/√2) = 0.76; one that is four sd better is taken."""
    pair = [Candidate("a", 3.2, 0.01, 1, 0), Candidate("b", 3.2, 0.01, 1, 0)]
    rng = Random(1)
    stays = sum(p.candidate.sha == "b" for _ in range(2000) if (p := choose(pair, [], rng, last="b")))
    assert 0.73 < stays / 2000 < 0.79
    better = [Candidate("a", 3.16, 0.01, 1, 0), pair[1]]
    stays = sum(p.candidate.sha == "b" for _ in range(2000) if (p := choose(better, [], rng, last="b")))
    assert stays / 2000 < 0.05
