"""What runs say of commits: posteriors derived from them, and brought up to date by a new run.

A run changes its commit's posterior, and with it the priors of the commits below. They are derived a generation at a
time, with a few statements each, and no further down than numbers change: the weight of a prior falls with each
generation, so a new run of the seed does not touch the whole tree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from coordinator.evidence import queries, statistics
from coordinator.evidence.statistics import Noise, Normal
from coordinator.lineage import service as lineage
from coordinator.models import Commit, CommitPosterior
from shared.contract import Contract
from shared.experiments import Posterior, Standing, Verdict
from shared.protocol import now

SAME_NUMBER = 1e-9
"""How far a stored number may be, absolutely or relatively, from the one that its runs give."""

UNCHANGED = 1e-3 * SAME_NUMBER
"""A posterior that moved by less leaves its descendants as they are: far enough below SAME_NUMBER to add up safely."""


@dataclass(frozen=True)
class DerivedPosterior:
    """What the runs say of a commit in a hardware class, by the stored posterior of its nearest measured ancestor."""

    metric: Normal
    effect: Normal | None
    runs: int
    verdict: Verdict | None
    standing: Standing
    rank_score: float

    def columns(self) -> dict[str, Any]:
        """As `CommitPosterior` stores it."""
        return {
            "metric_mean": self.metric.mean,
            "metric_sd": self.metric.sd,
            "effect_mean": self.effect.mean if self.effect else None,
            "effect_sd": self.effect.sd if self.effect else None,
            "runs": self.runs,
            "verdict": self.verdict,
            "standing": self.standing,
            "rank_score": self.rank_score,
        }

    def view(self) -> Posterior:
        stored = self.columns()
        return Posterior(**{name: stored[name] for name in Posterior.model_fields})


def refresh_posteriors(session: Session, contract: Contract, sha: str, hardware_class: str) -> DerivedPosterior | None:
    """Bring up to date what the runs say of a commit and of its measured descendants; returns the commit's own."""
    first: DerivedPosterior | None = None
    generation: Sequence[Commit] = [lineage.get_commit(session, sha)]
    while generation:
        derived = _derive(session, contract, generation, hardware_class)
        first = first or derived.get(sha)
        settled = _store(session, generation, derived, hardware_class)
        above = [commit.sha for commit in generation if commit.sha not in settled]
        generation = lineage.list_children(session, above) if above else []
    return first


def _store(
    session: Session, commits: Sequence[Commit], derived: Mapping[str, DerivedPosterior], hardware_class: str
) -> set[str]:
    """Write what is new or has changed; returns the commits whose numbers stayed the same."""
    stored = queries.map_posteriors(session, list(derived), hardware_class)
    settled, new, changed = set(), [], []
    for commit in commits:
        if commit.sha not in derived:
            continue
        columns = derived[commit.sha].columns()
        key = {"commit_sha": commit.sha, "hardware_class": hardware_class}
        row = stored.get(commit.sha)
        if row is None:
            new.append(key | columns | {"project_id": commit.project_id, "updated_at": now()})
        elif all(_is_same(getattr(row, name), value, UNCHANGED) for name, value in columns.items()):
            settled.add(commit.sha)
        else:
            changed.append({f"of_{name}": value for name, value in key.items()} | columns | {"updated_at": now()})
    queries.add_posteriors(session, new)
    queries.change_posteriors(session, changed)
    return settled


def _derive(
    session: Session, contract: Contract, commits: Sequence[Commit], hardware_class: str
) -> dict[str, DerivedPosterior]:
    """The posteriors that the commits' runs give, of those where a run counts. Nothing is stored."""
    values = queries.map_measured_values(session, [commit.sha for commit in commits], hardware_class)
    measured = [commit for commit in commits if commit.sha in values]
    parents = list({commit.parent_sha for commit in measured if commit.parent_sha is not None})
    above = queries.map_posteriors(session, parents, hardware_class)
    derived = {}
    for commit in measured:
        ancestor, steps = _find_measured_ancestor(session, commit, above, hardware_class)
        derived[commit.sha] = _conclude(contract, ancestor, steps, values[commit.sha])
    return derived


def _conclude(contract: Contract, ancestor: Normal | None, steps: int, values: list[float]) -> DerivedPosterior:
    noise = Noise(contract.evidence.noise_sd, contract.evidence.effect_sd)
    metric = statistics.commit_posterior(ancestor, steps, values, noise)
    effect, verdict = None, None
    if ancestor is not None:
        effect = statistics.effect_posterior(ancestor, steps, values, noise)
        verdict = statistics.judge(effect, contract.objective.sign, contract.objective.min_effect)
    standing = Standing.HELD if _is_implausible(contract, values) else Standing.PROVISIONAL
    return DerivedPosterior(metric, effect, len(values), verdict, standing, contract.objective.sign * metric.mean)


def _find_measured_ancestor(
    session: Session, commit: Commit, known: Mapping[str, Row[Any]], hardware_class: str
) -> tuple[Normal | None, int]:
    """The nearest ancestor with a posterior in the class (those of parents are `known`), and how far above it is."""
    above, steps = commit.parent_sha, 1
    while above is not None:
        row = known.get(above) if steps == 1 else queries.find_posterior(session, above, hardware_class)
        if row is not None:
            return Normal(row.metric_mean, row.metric_sd), steps
        above = lineage.get_commit(session, above).parent_sha
        steps += 1
    return None, 0


def _is_implausible(contract: Contract, values: list[float]) -> bool:
    """Too good to be believed without a maintainer: beyond the contract's plausible floor."""
    sign = contract.objective.sign
    return min(sign * value for value in values) < sign * contract.objective.plausible_floor


def find_wrong_numbers(session: Session, contract: Contract, stored: CommitPosterior) -> str:
    """How a stored posterior differs from what its runs give, in words; empty where it does not."""
    commit = lineage.get_commit(session, stored.commit_sha)
    derived = _derive(session, contract, [commit], stored.hardware_class).get(commit.sha)
    if derived is None:
        return "it has no runs that count"
    pairs = {name: (getattr(stored, name), value) for name, value in derived.columns().items()}
    return ", ".join(
        f"{name} is {was}, the runs give {is_}"
        for name, (was, is_) in pairs.items()
        if not _is_same(was, is_, SAME_NUMBER)
    )


def _is_same(stored: float | str | None, derived: float | str | None, tolerance: float) -> bool:
    if isinstance(stored, int | float) and isinstance(derived, int | float):
        return isclose(stored, derived, rel_tol=tolerance, abs_tol=tolerance)
    return stored == derived
