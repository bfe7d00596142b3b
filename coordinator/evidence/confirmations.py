"""Confirms records: who measures which, the number that is published, and what sealed windows say of it."""

from collections import Counter
from collections.abc import Sequence

from sqlalchemy.orm import Session

from coordinator.db.engine import Conn
from coordinator.events import service as events
from coordinator.evidence import calibration_queries, confirmation
from coordinator.evidence import confirmation_queries as queries
from coordinator.evidence.agreement import ROOTS_OF_TRUST
from coordinator.evidence.confirmation import CONFIRMATIONS, ConfirmationRun, Published
from coordinator.evidence.posteriors import find_model
from coordinator.evidence.queries import map_confirmations
from coordinator.evidence.statistics import Normal, columns_of
from coordinator.models import HoldoutCheck, Project, view_of
from coordinator.projects import service as projects
from shared.contract import Contract
from shared.events import EventKind
from shared.experiments import Posterior
from shared.protocol import now
from shared.records import Confirmation, HoldoutComparison


def find_job(session: Conn, project: Project, hardware_class: str, volunteer_id: int, worker_id: int) -> str | None:
    """The commit that a worker may confirm now: the record, or the seed, with which it is compared on sealed windows.

    Only anchors and vouched volunteers may, and not the commit's author: strangers would be the author's friends.
    """
    contract = projects.contract_of(project)
    record = queries.find_record(session, project.id, hardware_class)
    if record is None:
        return None
    worker = calibration_queries.find_worker(session, project.id, hardware_class, worker_id)
    trust = worker.record.trust(is_anchor=worker.is_anchor, is_vouched=worker.vouching.is_enough)
    if trust not in ROOTS_OF_TRUST or worker.response is None or worker.is_quarantined:
        return None
    wanted = [record, project.root_sha] if contract.has_holdout else [record]
    runs = map_confirmations(session, wanted, hardware_class, contract)
    tries, authors = queries.map_tries(session, wanted, hardware_class), queries.map_authors(session, wanted)
    trusted = queries.list_trusted(session, project.id, hardware_class, volunteer_id)
    noise_sd = find_model(session, contract, project.id, hardware_class).noise_sd
    for sha in wanted:
        if authors.get(sha) == volunteer_id:
            continue
        runs_of = Counter(run.measured.volunteer_id for run in runs[sha])
        of_commit = {by: one._replace(runs=runs_of[by]) for (of, by), one in tries.items() if of == sha}
        published = _summarize(contract, runs[sha], noise_sd)
        able = trusted - {authors.get(sha, 0)}
        if confirmation.may_confirm(published, of_commit, able, volunteer_id, is_anchor=worker.is_anchor):
            return sha
    return None


def publish(session: Conn, project: Project, hardware_class: str, sha: str) -> Published:
    """The summary of a commit's confirmation runs."""
    contract = projects.contract_of(project)
    runs = map_confirmations(session, [sha], hardware_class, contract)[sha]
    noise_sd = find_model(session, contract, project.id, hardware_class).noise_sd
    return _summarize(contract, runs, noise_sd)


def _summarize(contract: Contract, runs: Sequence[ConfirmationRun], noise_sd: float) -> Published:
    return confirmation.summarize(runs, noise_sd, vouched_verify=contract.evidence.vouched_verify)


def check_holdout(session: Session, project: Project, hardware_class: str, sha: str) -> None:
    """Ask the ladder about commits whose confirmation is complete, once each: the seed first, then the record and
    whatever was just measured."""
    contract = projects.contract_of(project)
    if not contract.has_holdout:
        return
    record = queries.find_record(session, project.id, hardware_class)
    checks = {row.commit_sha: row for row in queries.list_checks(session, project.id, hardware_class)}
    wanted = list(dict.fromkeys([project.root_sha, sha] if record is None else [project.root_sha, record, sha]))
    runs = map_confirmations(session, wanted, hardware_class, contract)
    noise_sd = find_model(session, contract, project.id, hardware_class).noise_sd
    sign, min_effect = contract.objective.sign, contract.objective.min_effect
    released = [row.released for row in checks.values() if row.released is not None]
    for one in wanted:
        is_complete = _summarize(contract, runs[one], noise_sd).metric is not None
        is_seed = one == project.root_sha
        if one in checks or not is_complete or not (is_seed or released):
            continue
        last = None if is_seed else min(released, key=lambda value: sign * value)
        holdout = confirmation.pool_holdout(runs[one], noise_sd)
        answer = confirmation.climb(holdout, last, sign, min_effect, len(checks))
        gap = None if is_seed else confirmation.find_gap(runs[one], runs[project.root_sha], sign, noise_sd)
        is_alarm = gap is not None and confirmation.is_alarming(gap)
        shown = confirmation.coarsen(gap, answer.step) if gap and answer.released is not None else None
        key = {"commit_sha": one, "hardware_class": hardware_class, "project_id": project.id}
        said = {"step": answer.step, "released": answer.released, "is_alarm": is_alarm, "created_at": now()}
        queries.add_check(session, key | said | columns_of(gap=shown))
        if answer.released is not None:
            released.append(answer.released)
        if is_alarm:
            events.record(session, EventKind.HOLDOUT_ALARM, project.id, commit=one, hardware_class=hardware_class)


def view(session: Session, project: Project, hardware_class: str, sha: str, baseline: Posterior | None) -> Confirmation:
    """The published number of a record, with its gain over the seed's posterior."""
    contract, said = projects.contract_of(project), publish(session, project, hardware_class, sha)
    gain = None
    if said.metric is not None and baseline is not None:
        gain = Normal(said.metric.mean - baseline.metric_mean, (said.metric.sd**2 + baseline.metric_sd**2) ** 0.5)
    check = session.get(HoldoutCheck, (sha, hardware_class))
    return view_of(
        Confirmation,
        said,
        wanted=CONFIRMATIONS,
        **columns_of(metric=said.metric, gain=gain),
        has_holdout=contract.has_holdout,
        holdout=None if check is None else _view_check(check, contract, gain),
    )


def _view_check(check: HoldoutCheck, contract: Contract, gain: Normal | None) -> HoldoutComparison:
    gain_mean = None
    if gain is not None and check.gap_mean is not None:
        gain_mean = gain.mean + contract.objective.sign * check.gap_mean
    return view_of(HoldoutComparison, check, metric=check.released, gain_mean=gain_mean)
