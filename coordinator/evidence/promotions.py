"""Promotes records: who runs which commit on a rung, what the pairs of runs say, and how pages show it."""

from collections.abc import Iterable, Mapping, Sequence
from math import hypot
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.db.engine import Conn, objects_of
from coordinator.events import service as events
from coordinator.evidence import calibration_queries, confirmation_queries, confirmations, promotion
from coordinator.evidence import promotion_queries as queries
from coordinator.evidence.agreement import ROOTS_OF_TRUST
from coordinator.evidence.confirmation import Tries
from coordinator.evidence.posteriors import find_model, find_posterior
from coordinator.evidence.promotion import PAIRS, Attempts, PromotionJob, RungEffect
from coordinator.evidence.statistics import SURE, Normal, columns_of, probability_of_gain
from coordinator.models import Project, Promotion, view_of
from coordinator.projects import service as projects
from shared.contract import Contract, Rung
from shared.events import EventKind
from shared.experiments import Standing
from shared.formatting import format_ratio
from shared.protocol import now
from shared.records import PromotionView


def find_half(session: Conn, project: Project, hardware_class: str, worker_id: int) -> PromotionJob | None:
    """The second run of a pair that a worker has begun: it is its next job."""
    if not projects.contract_of(project).rungs:
        return None
    ids = queries.list_open(session, project.id, hardware_class)
    for id_, runs in queries.map_runs(session, ids).items() if ids else ():
        with objects_of(session) as objects:
            row = objects.get_one(Promotion, id_)
        halves = promotion.list_attempts(runs, row.commit_sha, now()).halves
        first = next((run for run in halves if run.worker_id == worker_id), None)
        if first is not None:
            other = row.base_sha if first.measured == row.commit_sha else row.commit_sha
            return PromotionJob(row.rung, row.commit_sha, row.base_sha, other, id_, first.seed, first.pace)
    return None


def find_job(
    session: Conn, project: Project, hardware_class: str, volunteer_id: int, worker_id: int
) -> PromotionJob | None:
    """The first run of a pair that a worker may begin now.

    As for confirmations only anchors and vouched volunteers may, and not the record's author.
    """
    contract = projects.contract_of(project)
    if not contract.rungs or not contract.jobs.promote:
        return None
    worker = calibration_queries.find_worker(session, project.id, hardware_class, worker_id)
    trust = worker.record.trust(is_anchor=worker.is_anchor, is_vouched=worker.vouching.is_enough)
    if trust not in ROOTS_OF_TRUST or worker.is_quarantined:
        return None
    candidate = confirmation_queries.find_record(session, project.id, hardware_class)
    trusted: set[int] | None = None
    for case in _list_cases(session, project, hardware_class, contract, candidate):
        author = confirmation_queries.map_authors(session, [case.sha]).get(case.sha)
        if author == volunteer_id:
            continue
        if trusted is None:
            trusted = confirmation_queries.list_trusted(session, project.id, hardware_class, volunteer_id)
        jobs, given = queries.count_time(session, project.id, hardware_class)
        if not promotion.is_within_share(contract, case.rung, jobs, given):
            continue
        able = trusted - {author or 0}
        if promotion.may_begin(case.said, case.attempts, able, volunteer_id, is_anchor=worker.is_anchor):
            begins_with = case.base_sha if case.attempts.of_all.given % 2 == 0 else case.sha
            return PromotionJob(case.rung.name, case.sha, case.base_sha, begins_with, case.promotion_id)
    return None


class _Case(NamedTuple):
    """A commit that is or may be promoted on a rung, with what its pairs say so far."""

    rung: Rung
    sha: str
    base_sha: str
    promotion_id: int | None
    attempts: Attempts
    said: RungEffect


_NOTHING = Attempts([], [], Tries(), {}, None)


def _list_cases(
    session: Conn, project: Project, hardware_class: str, contract: Contract, candidate: str | None
) -> Iterable[_Case]:
    """On each rung the promotion that is open, or the one that is due: of the record on the lowest, above it of the
    commit that was promoted last on the rung below."""
    rows = queries.list_promotions(session, project.id, hardware_class)
    runs = queries.map_runs(session, [row.id for row in rows if row.closed_at is None])
    noise_sd = find_model(session, contract, project.id, hardware_class).noise_sd
    for rung in contract.rungs:
        on_rung = [row for row in rows if row.rung == rung.name]
        last = on_rung[-1] if on_rung else None
        promoted = next((row.commit_sha for row in reversed(on_rung) if row.holds), project.root_sha)
        open_case = None
        if last is not None and last.closed_at is None and _is_verified(session, last.commit_sha, hardware_class):
            attempts = promotion.list_attempts(runs[last.id], last.commit_sha, now())
            said = _estimate(contract, attempts, noise_sd)
            open_case = _Case(rung, last.commit_sha, last.base_sha, last.id, attempts, said)
        tried = last.commit_sha if last is not None else project.root_sha
        is_new = candidate is not None and all(row.commit_sha != candidate for row in on_rung)
        is_due = is_new and _is_better(session, hardware_class, contract, str(candidate), tried)
        if open_case is not None and not (is_due and open_case.attempts.is_given_up(open_case.said, now())):
            yield open_case
        elif is_due and candidate is not None:
            yield _Case(rung, candidate, promoted, None, _NOTHING, _estimate(contract, _NOTHING, noise_sd))
        candidate = promoted if promoted != project.root_sha else None


def _is_verified(session: Conn, sha: str, hardware_class: str) -> bool:
    posterior = find_posterior(session, sha, hardware_class)
    return posterior is not None and posterior.standing == Standing.VERIFIED


def _is_better(session: Conn, hardware_class: str, contract: Contract, sha: str, tried: str) -> bool:
    """Whether a commit is better than another by as much as a promotion asks for."""
    one, other = (find_posterior(session, commit, hardware_class) for commit in (sha, tried))
    if one is None or other is None:
        return False
    gain = contract.objective.sign * (other.metric_mean - one.metric_mean)
    return promotion.is_due(gain, contract.objective.min_effect)


def _estimate(contract: Contract, attempts: Attempts, noise_sd: float) -> RungEffect:
    return promotion.estimate(attempts.pairs, noise_sd, vouched_verify=contract.evidence.vouched_verify)


def give(session: Session, project: Project, hardware_class: str, job: PromotionJob, lease_id: UUID) -> None:
    """Note that a lease was given for a promotion. Its first one begins it, and ends an earlier one on the rung."""
    promotion_id = job.promotion_id
    if promotion_id is None:
        for row in queries.list_promotions(session, project.id, hardware_class):
            if row.rung == job.rung and row.closed_at is None:
                row.closed_at = now()
        begun = Promotion(
            project_id=project.id, hardware_class=hardware_class, rung=job.rung, commit_sha=job.sha,
            base_sha=job.base_sha, opened_at=now(),
        )  # fmt: skip
        session.add(begun)
        session.flush()
        promotion_id = begun.id
    queries.add_lease(session, promotion_id, lease_id)


def refresh(session: Session, project: Project, hardware_class: str, sha: str | None = None) -> None:
    """Derive again what pairs say of a class's promotions, or of those of one commit and beside it. One that is settled
    so for the first time is closed, and an event says so."""
    contract = projects.contract_of(project)
    if not contract.rungs:
        return
    rows = queries.list_promotions(session, project.id, hardware_class, sha)
    if not rows:
        return
    runs = queries.map_runs(session, [row.id for row in rows])
    noise_sd = find_model(session, contract, project.id, hardware_class).noise_sd
    for row in rows:
        said = _estimate(contract, promotion.list_attempts(runs[row.id], row.commit_sha, now()), noise_sd)
        budget_effect = _find_budget_effect(session, project, row)
        ratio = promotion.find_ratio(said.effect, budget_effect) if said.effect and budget_effect else None
        row.pairs, row.volunteers, row.left_out = said.pairs, said.volunteers, said.left_out
        for name, value in columns_of(effect=said.effect, budget_effect=budget_effect).items():
            setattr(row, name, value)
        row.ratio, row.ratio_low, row.ratio_high = ratio or (None, None, None)
        row.holds = said.holds(contract.objective.sign)
        if said.is_settled and row.closed_at is None:
            row.closed_at = now()
            events.record(
                session, EventKind.PROMOTED, project.id, commit=row.commit_sha, hardware_class=hardware_class,
                rung=row.rung, holds=row.holds, ratio=row.ratio,
            )  # fmt: skip
    session.flush()


def _find_budget_effect(session: Conn, project: Project, row: Promotion) -> Normal | None:
    """The effect with the contract's budget: of the published numbers, where a commit has one, since its posterior is
    too good; as independent, so its sd is at most that."""
    own, base = (_find_number(session, project, row.hardware_class, sha) for sha in (row.commit_sha, row.base_sha))
    return Normal(own.mean - base.mean, hypot(own.sd, base.sd)) if own and base else None


def _find_number(session: Conn, project: Project, hardware_class: str, sha: str) -> Normal | None:
    published = confirmations.publish(session, project, hardware_class, sha).metric
    if published is not None:
        return published
    posterior = find_posterior(session, sha, hardware_class)
    return Normal(posterior.metric_mean, posterior.metric_sd) if posterior is not None else None


def view_of_class(session: Session, project: Project, hardware_class: str) -> list[PromotionView]:
    """The newest promotion on each rung of a class that has a pair, else the one that is open, lowest rung first."""
    contract = projects.contract_of(project)
    if not contract.rungs:
        return []
    rows = queries.list_promotions(session, project.id, hardware_class)
    chosen = []
    for rung in contract.rungs:
        of_rung = [row for row in rows if row.rung == rung.name]
        chosen += [row for row in reversed(of_rung) if row.pairs][:1] or of_rung[-1:]
    return _view(session, project, chosen)


def view_of_commit(session: Session, project: Project, sha: str) -> list[PromotionView]:
    """The promotions of a commit, in all classes, the newest first."""
    if not projects.contract_of(project).rungs:
        return []
    return _view(session, project, queries.list_of_commits(session, [sha]))


def describe_of_class(session: Conn, project: Project, hardware_class: str) -> list[str]:
    """The newest promotion on each rung that is settled, in a line each, for agents to read."""
    contract = projects.contract_of(project)
    rows = queries.list_promotions(session, project.id, hardware_class) if contract.rungs else []
    newest = {row.rung: row for row in rows if row.holds is not None}
    experiments = queries.map_experiments(session, [row.commit_sha for row in newest.values()]) if newest else {}
    return [
        f"#{experiments.get(row.commit_sha, 0)} {'holds' if row.holds else 'does not hold'} on the rung {row.rung} "
        f"({contract.on_rung(row.rung).budget.training_seconds:g} s of training): transfer ratio "
        f"{format_ratio(row.ratio, row.ratio_low, row.ratio_high)}, n = {row.pairs} pairs"
        for row in newest.values()
    ]


def _view(session: Session, project: Project, rows: Sequence[Promotion]) -> list[PromotionView]:
    contract = projects.contract_of(project)
    every = queries.list_of_commits(session, sorted({row.commit_sha for row in rows})) if rows else []
    experiments = queries.map_experiments(session, [sha for row in rows for sha in (row.commit_sha, row.base_sha)])
    return [_view_row(session, project, contract, row, every, experiments) for row in rows]


def _view_row(
    session: Session, project: Project, contract: Contract, row: Promotion, every: Sequence[Promotion],
    experiments: Mapping[str, int],
) -> PromotionView:  # fmt: skip
    budget_effects = {
        own.hardware_class: Normal(own.metric_mean - base.metric_mean, hypot(own.metric_sd, base.metric_sd))
        for own, base in queries.list_measured_together(session, row.commit_sha, row.base_sha)
    }
    on_rung = {
        one.hardware_class: Normal(one.effect_mean, one.effect_sd)
        for one in every
        if (one.commit_sha, one.rung) == (row.commit_sha, row.rung)
        and one.effect_mean is not None
        and one.effect_sd is not None
    }
    effects = budget_effects | on_rung
    held = sum(probability_of_gain(effect, contract.objective.sign, 0.0) >= SURE for effect in effects.values())
    rung = contract.find_rung(row.rung)
    return view_of(
        PromotionView,
        row,
        project=project.name,
        training_seconds=rung.training_seconds if rung else 0.0,
        sha=row.commit_sha,
        experiment_id=experiments.get(row.commit_sha),
        base_experiment_id=experiments.get(row.base_sha),
        wanted=PAIRS,
        is_provisional=row.holds is None,
        transfer_ratio=row.ratio,
        transfer_low=row.ratio_low,
        transfer_high=row.ratio_high,
        classes_held=held,
        classes_measured=len(effects),
        classes_on_rung=len(on_rung),
    )
