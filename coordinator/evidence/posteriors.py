"""Posteriors of commits: derived from runs, and updated by a new run.

A run changes its commit's posterior, and with it the priors of the commits below. They are derived a generation at a
time, with a few statements each, and no further down than numbers change: the weight of a prior falls with each
generation, so a new run of the seed does not touch the whole tree.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from math import hypot, isclose
from typing import Any, NamedTuple

from coordinator.db.engine import Conn
from coordinator.evidence import agreement, calibration_queries, queries, statistics
from coordinator.evidence.queries import PosteriorRow
from coordinator.evidence.statistics import SURE_OF_CLAIMS, Belief, EffectPrior, Measurement, Model, Normal
from coordinator.lineage.commits import MAX_CACHED_LINE, CommitRow, get_commit, list_children, list_nearest
from coordinator.models import CommitPosterior
from shared.contract import Contract
from shared.experiments import Dispute, HeldDecisionKind, JobKind, Posterior, Standing, Verdict
from shared.protocol import now
from shared.records import Trust

SAME_NUMBER = 1e-9
"""How far a stored number may be, absolutely or relatively, from the one that its runs give."""

UNCHANGED = 1e-3 * SAME_NUMBER
"""A posterior that moved by less leaves its descendants as they are: far enough below SAME_NUMBER to add up safely."""

MOST_AT_ONCE = 1_000
"""Number of posteriors that are derived in one transaction of a result or a decision: others wait for it."""

MANY = 50
"""Number of commits of one generation from which on is asked whether any below was measured in the class."""

ABOVE_AT_ONCE = 250
"""Number of ancestors that are looked at together where the nearest ones were not measured in the class."""

ALL_KINDS = "all"
"""Name of the prior of all kinds of job together, where an epoch stores them by kind."""

find_posterior = queries.find_posterior

ANCHORS = frozenset({Standing.VERIFIED, Standing.SINGLE_OWNER})

WITHOUT_ROOTS = frozenset({Standing.PROVISIONAL, Standing.SINGLE_OWNER, Standing.CORROBORATED})
"""Standings of a commit without a root of trust, which failures elsewhere make suspect."""

ANCHORS_ASKED = 2
"""Number of anchors that measure a held result which a maintainer sent to them."""


@dataclass(frozen=True)
class DerivedPosterior:
    """The posterior of a commit in a class; it `is_implausible` if a run is better than the contract's floor, and
    `awaits_anchors` while it is held until two of them have measured it. Of a verified one, `caches_emptied` says that
    anchors found it where no process of a run can tell the next what it saw."""

    metric: Normal
    measured: Normal
    effect: Normal | None
    milestone: Normal | None
    anchor_sd: float | None
    runs: int
    checkers: int
    verdict: Verdict | None
    standing: Standing
    dispute: Dispute
    rank_score: float
    is_implausible: bool
    awaits_anchors: bool = False
    caches_emptied: bool = False

    def columns(self) -> dict[str, Any]:
        """The columns of `CommitPosterior`."""
        of = {name: getattr(self, name) for name in ("metric", "measured", "effect", "milestone")}
        names = ("anchor_sd", "runs", "checkers", "verdict", "standing", "dispute", "caches_emptied", "rank_score")
        return statistics.columns_of(**of) | {name: getattr(self, name) for name in names}

    def view(self) -> Posterior:
        stored = self.columns()
        return Posterior(**{name: stored[name] for name in Posterior.model_fields})


class Ancestor(NamedTuple):
    """The nearest measured ancestor, `steps` steps above: one for a commit, more for one that adopts several at once.

    It `is_doubtful` if it is suspect or refuted, or if a commit on the way to it lost its runs to a quarantine.
    """

    sha: str
    belief: Belief
    steps: int
    is_parent: bool
    is_doubtful: bool

    def expect(self, prior: EffectPrior) -> Normal:
        """The commit's expected metric before its own runs."""
        variance = self.belief.variance + self.steps * prior.variance
        return Normal(self.belief.mean + self.steps * prior.mean, variance**0.5)


def refresh_posteriors(session: Conn, contract: Contract, sha: str, hardware_class: str) -> DerivedPosterior | None:
    """Bring up to date what the runs say of a commit and of its measured descendants; returns the commit's own.

    Beyond MOST_AT_ONCE of them, others follow in the background (`renewal.py`).
    """
    first: DerivedPosterior | None = None
    generation: Sequence[CommitRow] = [get_commit(session, sha)]
    model, left = find_model(session, contract, generation[0].project_id, hardware_class), MOST_AT_ONCE
    while generation:
        if (left := left - len(generation)) < 0:
            calibration_queries.derive_later(session, generation[0], hardware_class)
            break
        derived, settled = derive_and_store(session, contract, model, generation, hardware_class)
        first = first or derived.get(sha)
        above = [commit.sha for commit in generation if commit.sha not in settled]
        place = generation[0]
        if len(above) > MANY and not queries.is_any_deeper(session, hardware_class, place.project_id, place.depth):
            break
        generation = list_children(session, above, left + 1) if above else []
    return first


def store_first(
    session: Conn, contract: Contract, model: Model, commit: CommitRow, hardware_class: str, run: Measurement
) -> DerivedPosterior:
    """Store what the first run says of a commit that was just made: nothing is known of it, and nothing is below it."""
    derived = conclude_on(commit, contract, model, find_ancestor(session, commit, hardware_class), [run])
    queries.add_posteriors(session, [_row_of(commit, hardware_class, derived)])
    return derived


def derive_and_store(
    session: Conn, contract: Contract, model: Model, commits: Sequence[CommitRow], hardware_class: str,
    nearest: "NearestMeasured | None" = None,
) -> tuple[dict[str, DerivedPosterior], set[str]]:  # fmt: skip
    """Write the posteriors of commits whose ancestors' stand as they should; returns them, and the commits whose
    numbers stayed the same. Generations that one transaction derives from the root downwards share `nearest`."""
    derived = derive(session, contract, model, commits, hardware_class, nearest)
    return derived, _store(session, commits, derived, hardware_class)


def find_model(session: Conn, contract: Contract, project_id: int, hardware_class: str) -> Model:
    """The frozen estimates of a class; the contract's where nothing was measured yet."""
    noise_sd, effects = queries.find_estimates(session, project_id, hardware_class)
    return make_model(contract, noise_sd, effects)


def make_model(contract: Contract, noise_sd: float | None, effects: Mapping[str, Sequence[Any]] | None) -> Model:
    """A model from an epoch's columns."""
    known = {None if name == ALL_KINDS else JobKind(name): EffectPrior(*row) for name, row in (effects or {}).items()}
    given = contract.evidence
    is_assumed = given.noise_is_assumed and (noise_sd is None or isclose(noise_sd, given.noise_sd))
    return Model(noise_sd or given.noise_sd, given.effect_sd, known, is_assumed)


def _store(
    session: Conn, commits: Sequence[CommitRow], derived: Mapping[str, DerivedPosterior], hardware_class: str
) -> set[str]:
    """Write what is new or has changed; returns the commits whose numbers stayed the same."""
    stored = queries.map_posteriors(session, [commit.sha for commit in commits], hardware_class)
    settled, new, changed, gone = set(), [], [], []
    for commit in commits:
        row = stored.get(commit.sha)
        key = {"commit_sha": commit.sha, "hardware_class": hardware_class}
        if commit.sha not in derived:
            if row is not None:
                gone.append(commit.sha)
            continue
        columns = derived[commit.sha].columns()
        if row is None:
            new.append(_row_of(commit, hardware_class, derived[commit.sha]))
        elif all(_is_same(getattr(row, name), value, UNCHANGED) for name, value in columns.items()):
            settled.add(commit.sha)
        else:
            changed.append({f"of_{name}": value for name, value in key.items()} | columns | {"updated_at": now()})
    queries.add_posteriors(session, new)
    queries.change_posteriors(session, changed)
    queries.remove_posteriors(session, gone, hardware_class)
    return settled


def _row_of(commit: CommitRow, hardware_class: str, derived: DerivedPosterior) -> dict[str, Any]:
    key = {"commit_sha": commit.sha, "hardware_class": hardware_class, "project_id": commit.project_id}
    return key | derived.columns() | {"updated_at": now()}


NearestMeasured = dict[str | None, Ancestor | None]
"""By commit, the nearest one with a posterior in a class: itself or an ancestor, its steps counted from the commit."""


def derive(
    session: Conn, contract: Contract, model: Model, commits: Sequence[CommitRow], hardware_class: str,
    nearest: NearestMeasured | None = None,
) -> dict[str, DerivedPosterior]:  # fmt: skip
    """The posteriors that the commits' runs give, of those where a run counts. Nothing is stored but in `nearest`."""
    runs = queries.map_measurements(session, [commit.sha for commit in commits], hardware_class, contract)
    measured = [commit for commit in commits if commit.sha in runs]
    parents = list({commit.parent_sha for commit in measured if commit.parent_sha is not None})
    above = queries.map_posteriors(session, parents, hardware_class)
    derived, nearest = {}, {} if nearest is None else nearest
    for commit in measured:
        if commit.parent_sha not in nearest:
            of_parent = commit._replace(steps=0)
            nearest[commit.parent_sha] = find_ancestor(session, of_parent, hardware_class, above, nearest)
        ancestor = nearest[commit.parent_sha]
        ancestor = ancestor and ancestor._replace(steps=ancestor.steps + commit.steps)
        one = conclude_on(commit, contract, model, ancestor, runs[commit.sha])
        if one.standing == Standing.VERIFIED:
            sha = find_base(session, commit, hardware_class)
            counted_from = queries.map_measurements(session, [sha], hardware_class, contract).get(sha, [])
            if not is_found_on_machines(contract, model, runs[commit.sha], counted_from):
                one = replace(one, standing=Standing.CORROBORATED)
        derived[commit.sha] = one
    open_ones = [sha for sha, one in derived.items() if one.standing in WITHOUT_ROOTS]
    for sha, on_anchors in queries.map_failing(session, open_ones, hardware_class).items():
        is_failing = not agreement.is_run_by_roots(runs[sha], on_anchors)
        if is_failing and (on_anchors or derived[sha].checkers == 0):
            derived[sha] = replace(derived[sha], standing=Standing.SUSPECT)  # nobody should build upon it
    return derived


def is_found_on_machines(
    contract: Contract, model: Model, runs: Sequence[Measurement], counted_from: Sequence[Measurement]
) -> bool:
    """Whether anchors find a gain by the difference of their own runs alone (decision 0031): others' numbers, by which
    offsets and noise are estimated, have no part in it. Noise is at least the contract's."""
    objective, noise_sd = contract.objective, max(model.noise_sd, contract.evidence.noise_sd)
    checks = [run for run in statistics.list_checks(runs) if run.trust == Trust.ANCHOR]
    difference = statistics.subtract(checks, counted_from, noise_sd)
    return contract.evidence.vouched_verify or statistics.is_proven(difference, objective.sign, objective.min_effect)


def find_missing_base(session: Conn, contract: Contract, commit: CommitRow, name: str, worker_id: int) -> str | None:
    """The base of a commit's milestone, if an anchor measured that less often with the budget of its last run."""
    sha = find_base(session, commit, name)
    runs = queries.map_measurements(session, [commit.sha, sha], name, contract)
    own, base = ([run.setup for run in runs.get(one, ()) if run.worker_id == worker_id] for one in (commit.sha, sha))
    return sha if own and base.count(own[-1]) < own.count(own[-1]) else None


def find_base(session: Conn, commit: CommitRow, hardware_class: str) -> str:
    """The commit from which a milestone is counted: the nearest verified ancestor, else the root."""
    at = commit
    while at.parent_sha is not None:
        at = get_commit(session, at.parent_sha)
        row = find_posterior(session, at.sha, hardware_class)
        if row is not None and row.standing in ANCHORS:
            break
    return at.sha


def conclude_on(
    commit: CommitRow, contract: Contract, model: Model, ancestor: Ancestor | None, runs: Sequence[Measurement]
) -> DerivedPosterior:
    """As `conclude`, but the results of a commit whose code is lost stand as reported."""
    derived = conclude(contract, model, ancestor, runs)
    return derived if commit.has_code else replace(derived, standing=Standing.REPORTED)


def conclude(
    contract: Contract, model: Model, ancestor: Ancestor | None, runs: Sequence[Measurement]
) -> DerivedPosterior:
    """The posterior that a commit's runs give, below what is believed of its nearest measured ancestor."""
    objective = contract.objective
    measured = agreement.estimate(_list_deciding(runs) or runs, model.noise_sd)
    prior = model.expect_of(runs)
    expected = ancestor.expect(prior) if ancestor else None
    dispute = agreement.find_dispute(runs, model.noise_sd, expected)
    belief = statistics.begin(measured)
    effect, milestone, verdict = None, None, None
    if ancestor is not None:
        belief = statistics.extend(ancestor.belief, ancestor.steps, measured, prior)
        milestone = belief.difference
        beside = statistics.extend(ancestor.belief.as_anchor(), ancestor.steps, measured, prior)
        effect = beside.difference
        verdict = statistics.judge(effect, objective.sign, objective.min_effect, model.sure)
    standing = _rank(contract, model, ancestor, runs, measured, milestone, dispute)
    if standing == Standing.REJECTED:
        effect, milestone, verdict = None, None, Verdict.INVALID
    elif standing == Standing.HELD and verdict is not None:
        verdict = Verdict.UNRESOLVED  # until it is decided, nobody counts it as a gain
    return DerivedPosterior(
        metric=belief.metric,
        measured=measured,
        effect=effect,
        milestone=milestone,
        anchor_sd=belief.anchor_variance**0.5 if milestone else None,
        runs=len(runs),
        checkers=statistics.count_checkers(runs),
        verdict=verdict,
        standing=standing,
        dispute=dispute,
        rank_score=objective.sign * belief.mean,
        is_implausible=_is_implausible(contract, runs),
        awaits_anchors=_awaits_anchors(runs),
        caches_emptied=standing == Standing.VERIFIED
        and ancestor is not None
        and is_found_by_roots(
            contract, model, ancestor.belief.anchor, [run for run in runs if run.caches_emptied], SURE_OF_CLAIMS
        ),
    )


def _find_decision(runs: Sequence[Measurement]) -> HeldDecisionKind | None:
    """A maintainer's decision on a commit, which stands beside each of its runs."""
    return next((run.decision for run in runs if run.decision is not None), None)


def _list_deciding(runs: Sequence[Measurement]) -> list[Measurement]:
    """The runs of anchors that a maintainer asked: they alone make the number of a result that was too good."""
    is_checked = _find_decision(runs) == HeldDecisionKind.CHECK
    return [run for run in runs if is_checked and run.trust == Trust.ANCHOR and not run.is_authors]


def _awaits_anchors(runs: Sequence[Measurement]) -> bool:
    is_checked = _find_decision(runs) == HeldDecisionKind.CHECK
    return is_checked and len({run.worker_id for run in _list_deciding(runs)}) < ANCHORS_ASKED


def _rank(
    contract: Contract, model: Model, ancestor: Ancestor | None, runs: Sequence[Measurement], measured: Normal,
    milestone: Normal | None, dispute: Dispute,
) -> Standing:  # fmt: skip
    objective, checkers = contract.objective, statistics.count_checkers(runs)
    decision = _find_decision(runs)
    if decision == HeldDecisionKind.REJECT:
        return Standing.REJECTED
    if _awaits_anchors(runs) or (decision is None and _is_implausible(contract, runs)):
        return Standing.HELD
    if ancestor is None or milestone is None:
        return Standing.PROVISIONAL
    is_tested = decision is not None or checkers >= statistics.CHECKERS
    if not is_tested and statistics.is_too_good(
        measured, ancestor.belief.metric, objective.sign, model.effect_sd * ancestor.steps**0.5
    ):
        return Standing.HELD
    if checkers == 0 and (ancestor.is_doubtful or any(run.trust == Trust.DOUBTED for run in runs)):
        return Standing.SUSPECT
    if dispute == Dispute.NONE and statistics.is_proven(milestone, objective.sign, objective.min_effect):
        if agreement.is_agreed(runs, model.noise_sd):
            is_found = is_found_by_roots(contract, model, ancestor.belief.anchor, runs, SURE_OF_CLAIMS)
            return Standing.VERIFIED if is_found else Standing.CORROBORATED
        if len(runs) > statistics.CHECKERS and len({run.volunteer_id for run in runs}) == 1:
            return Standing.SINGLE_OWNER
    return Standing.PROVISIONAL


def is_found_by_roots(
    contract: Contract, model: Model, above: Normal, runs: Sequence[Measurement], sure: float
) -> bool:
    """Whether anchors alone make it so probable that a commit is better than one `above` it (decision 0031).

    Others may stand up to 2 sd to one side of an anchor and agree with it, and can see its number before they report
    theirs. So they add to what anchors find, and never make up for it.
    """
    said = agreement.pool_roots(runs, model.noise_sd, vouched_verify=contract.evidence.vouched_verify)
    difference = Normal(said.mean - above.mean, hypot(said.sd, above.sd))
    return statistics.probability_of_gain(difference, contract.objective.sign, contract.objective.min_effect) >= sure


def find_ancestor(
    session: Conn, commit: CommitRow, hardware_class: str, parents: Mapping[str, PosteriorRow] | None = None,
    nearest: NearestMeasured | None = None,
) -> Ancestor | None:  # fmt: skip
    """The nearest ancestor with a posterior in the class; those of `parents`, and `nearest`, are known already."""
    steps, is_doubtful = commit.steps, False
    line = [commit.parent_sha] if commit.parent_sha is not None else []
    known = queries.map_posteriors(session, line, hardware_class) if parents is None else parents
    while line:
        discounted: Set[str] | None = None
        for sha in line:
            if nearest and sha in nearest:
                above = nearest[sha]
                return above and above._replace(
                    steps=steps + above.steps, is_parent=False, is_doubtful=is_doubtful or above.is_doubtful
                )
            row = known.get(sha)
            if row is not None and row.standing == Standing.REJECTED:
                is_doubtful = True  # and what lies above it is the next that may be believed
            elif row is not None:
                is_doubtful |= row.standing == Standing.SUSPECT or row.dispute == Dispute.REFUTED
                return Ancestor(sha, _believe(row), steps, sha == commit.parent_sha, is_doubtful)
            if not is_doubtful and discounted is None:
                discounted = queries.list_discounted(session, line, hardware_class)
            is_doubtful = is_doubtful or sha in (discounted or ())
            steps += get_commit(session, sha).steps
        line = list_nearest(session, line[-1], MAX_CACHED_LINE if len(line) == 1 else ABOVE_AT_ONCE)[1:]
        known = queries.map_posteriors(session, line, hardware_class)
    return None


def _believe(row: PosteriorRow) -> Belief:
    """A stored posterior as the prior of those below it."""
    metric = Normal(row.metric_mean, row.metric_sd)
    if row.milestone_mean is None or row.milestone_sd is None or row.anchor_sd is None or row.standing in ANCHORS:
        return statistics.begin(metric)
    variance, anchor_variance = row.metric_sd**2, row.anchor_sd**2
    covariance = (variance + anchor_variance - row.milestone_sd**2) / 2
    return Belief(row.metric_mean, variance, row.metric_mean - row.milestone_mean, anchor_variance, covariance)


def _is_implausible(contract: Contract, runs: Sequence[Measurement]) -> bool:
    """Too good to be believed without a maintainer: beyond the contract's plausible floor."""
    sign = contract.objective.sign
    return min(sign * run.value for run in runs) < sign * contract.objective.plausible_floor


def find_wrong_numbers(session: Conn, contract: Contract, stored: CommitPosterior) -> str:
    """How a stored posterior differs from what its runs give, in words; empty where it does not."""
    commit = get_commit(session, stored.commit_sha)
    model = find_model(session, contract, stored.project_id, stored.hardware_class)
    derived = derive(session, contract, model, [commit], stored.hardware_class).get(commit.sha)
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
