"""The coordinator's draws, the same each time: no test depends on the parent or kind of job that chance gives it."""

from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from coordinator.leases import claim
from coordinator.selection import service


def repeat_draws(replace: Callable[[object, str, Any], None] = setattr) -> None:
    """From here on the coordinator draws each job from the next seed, beginning with the first."""
    seeds = count()
    for module in (claim, service):
        replace(module, "Random", lambda: Random(next(seeds)))
