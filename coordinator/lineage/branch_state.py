"""The life of a branch as pure transitions. Nobody else decides whether a branch lives or rests.

(nothing) ──somebody names it, or a draft holds its ground──► LIVING ──stalled, and another one leads──► RESTING
                                                                 ▲                                          │
                                                                 └──somebody chooses it, or it gains again──┘
"""

from typing import NamedTuple

from shared.contract import Diversity
from shared.projects import BranchState

REST_AFTER = 3
"""A branch rests after so many times the experiments without a gain after which it counts as stalled."""


class BranchLife(NamedTuple):
    """`fruitless` counts experiments on the branch since its last gain."""

    state: BranchState
    fruitless: int


BORN = BranchLife(BranchState.LIVING, 0)
"""Of a new branch, of one that was woken, and after a gain: its count begins anew."""


def is_stalled(fruitless: int, in_flight: int, rules: Diversity) -> bool:
    """Whether a branch should change its axis. What is under way (`in_flight`) began before that could be known."""
    return fruitless >= rules.stall_after + in_flight


def may_rest(life: BranchLife, in_flight: int, rules: Diversity) -> bool:
    """Whether the branch has stalled for so long that it rests, unless it leads."""
    return life.state is BranchState.LIVING and is_stalled(life.fruitless // REST_AFTER, in_flight, rules)


def rest(life: BranchLife) -> BranchLife:
    """Let it rest."""
    return life._replace(state=BranchState.RESTING)
