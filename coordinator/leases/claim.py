"""Claims: look around and decide first, without a transaction that writes, then take the job with one short write."""

import secrets
from random import Random
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from coordinator.accounts.permissions import AccountStoppedError
from coordinator.accounts.service import authenticate, get_name, get_standing, hash_token
from coordinator.db.cache import Cache
from coordinator.db.database import Database
from coordinator.db.engine import Conn, objects_of
from coordinator.events import service as events
from coordinator.evidence import confirmations, epochs, promotions
from coordinator.evidence import service as evidence
from coordinator.evidence.posteriors import find_posterior
from coordinator.evidence.run_stats import find_curve
from coordinator.evidence.service import ClassEstimates
from coordinator.http.addresses import hash_address
from coordinator.leases import queries, service, state
from coordinator.leases.errors import ProtocolUnsupportedError
from coordinator.leases.queries import LeaseCounts, OpenLeases
from coordinator.lineage import branches
from coordinator.lineage import service as lineage
from coordinator.lineage.branches import BranchName, get_branch, get_branch_of_commit
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.projects.lookup import list_projects
from coordinator.projects.service import derive_key
from coordinator.projects.settings import settings_of, why_closed
from coordinator.selection import service as selection
from coordinator.selection.context_pack import Pack, PackRequest, compose_pack
from coordinator.selection.policy import Decision, NoJob
from coordinator.selection.running_jobs import list_running_jobs
from coordinator.selection.service import ChosenJob
from coordinator.selection.under_way import add_job
from coordinator.workers import service as workers
from coordinator.workers.lookup import WorkerRow, find_asker
from shared.contract import Budget, Contract
from shared.events import EventKind
from shared.experiments import JobKind, Trial
from shared.leases import BaseCommit, ClaimReply, ClaimRequest, SeedProbe
from shared.leases import GrantedLease as LeaseGrant
from shared.projects import BranchState, ProjectJoining
from shared.protocol import Versions, now, version_key
from shared.runs import MAX_SEED, DeviceKind, Hardware

MAX_LEASES_PER_WORKER = 3
"""One that trains, one that is drafted meanwhile, and one that is ready in case that draft takes longer."""

FIRST_LEASES = 16
LEASES_PER_AGREEMENT = 2
MOST_LEASES = 256
"""Live leases of an account, however many workers it names: those of eight devices, or of five whose models are slow,
and of one more for each of its measurements that agreed with others' since it was contradicted, up to those of 128:
strangers can agree with each other at will. An account with an anchor has no limit."""

ACCOUNTS_PER_ADDRESS = 2
"""An address holds at most so many times the leases that the account may hold which asks."""

ASK_AGAIN_SECONDS = 30.0
PAUSED_SECONDS = 60.0
STOPPED_SECONDS = 600.0
SAMPLED_ONE_IN = 5
"""Of the hopeless runs, so many go on to the end, at random: what stopping costs is known from them."""

_FILES = Cache[tuple[str, tuple[str, ...]], dict[str, str]](128)
"""Files of the commits that jobs started from lately. A commit's name stands for its files."""

NO_PACK = Pack("", [])
"""The pack of a job that measures: there is nothing to read."""


class Offer(NamedTuple):
    """A job that was found for a worker, with what it needs to know. Nobody holds it yet."""

    project: Project
    chosen: ChosenJob
    branch: BranchName
    base: BaseCommit
    pack: Pack
    trials: list[Trial]
    pace: float
    seed_throughput: float | None


def claim(
    database: Database, token: str | None, request: ClaimRequest, versions: Versions, address: str | None = None,
    version: str = "",
) -> ClaimReply:  # fmt: skip
    """Give a worker, whose program is of `version`, its next job. Raises ProtocolUnsupportedError, NotFoundError for
    an unknown project."""
    address_sha256 = hash_address(address)
    with database.connect() as session:
        asker = find_asker(session, hash_token(token), request.worker) if token else None
        try:
            volunteer_id, known = asker or (authenticate(session, token), None)
        except AccountStoppedError as error:  # the worker waits, and says why
            return _nothing(error.detail, STOPPED_SECONDS)
        check_versions(request.protocol, None, versions)
        if known is not None and known.pause is not None:
            return _paused(known.pause)
        offer = _find_offer(session, volunteer_id, known, request)
    if isinstance(offer, ClaimReply):
        return offer
    with database.begin() as session:
        of_request = request.worker, request.agent, request.hardware, version, request.trouble
        worker = workers.register_worker(session, volunteer_id, *of_request)
        if worker.pause is not None:
            return _paused(worker.pause)
        counts, held = queries.count_leases(session, worker, address_sha256)
        if _give_up_forgotten(session, held, set(request.holding)):
            counts, held = queries.count_leases(session, worker, address_sha256)
        if len(held) >= MAX_LEASES_PER_WORKER:
            return _nothing(f"This worker holds {len(held)} jobs already.", ASK_AGAIN_SECONDS)
        if refusal := _check_limits(counts):
            return _nothing(refusal, ASK_AGAIN_SECONDS)
        if not _is_still_open(session, worker, offer):
            return _nothing("Others measure this already.", ASK_AGAIN_SECONDS)
        if request.branch == offer.branch.name and offer.branch.state == BranchState.PAUSED:
            with objects_of(session) as objects:
                who = get_name(objects, volunteer_id)
                branches.resume(objects, get_branch(objects, offer.branch.id), who, f"{who} chose it.")
        return ClaimReply.model_construct(lease=_take(session, worker, offer, address_sha256))


def _find_offer(session: Conn, volunteer_id: int, known: WorkerRow | None, request: ClaimRequest) -> Offer | ClaimReply:
    """A job for the worker; without one, the reply that says why."""
    project = _choose_project(session, request, volunteer_id)
    if isinstance(project, str):
        return _nothing(project, ASK_AGAIN_SECONDS)
    chosen = selection.choose_job(session, project, volunteer_id, known, request)
    if isinstance(chosen, NoJob):
        return _nothing(chosen.reason, chosen.retry_after_seconds)
    contract, of_class = projects.contract_of(project), request.hardware.hardware_class
    estimates = evidence.read_estimates(session, contract, project.id, of_class)
    if estimates.reference is not None and _needs_probe(project, chosen, request):
        return ClaimReply(
            lease=None,
            probe=SeedProbe(project=project.name, root_sha=project.root_sha),
            reason="First it is measured how fast the project's seed runs on this worker.",
            retry_after_seconds=ASK_AGAIN_SECONDS,
        )
    return _look_up(session, project, chosen, request, estimates)


def _needs_probe(project: Project, chosen: ChosenJob, request: ClaimRequest) -> bool:
    """Whether nothing is known of the worker by which a budget is normalised. A run of the seed tells it, too."""
    if request.probed_seed == project.root_sha:
        return False
    return chosen.decision.base_sha != project.root_sha or chosen.decision.kind.makes_experiment


def _look_up(
    session: Conn, project: Project, chosen: ChosenJob, request: ClaimRequest, estimates: ClassEstimates
) -> Offer:
    """All that the worker needs to know of a job."""
    decision, hardware_class = chosen.decision, request.hardware.hardware_class
    running = list_running_jobs(session, project.id)
    branch = _find_branch(session, project, chosen)
    pack = NO_PACK
    if decision.kind.makes_experiment:
        about = f"{chosen.assignment.axis or ''} {branch.name} {branch.theme}"
        contract = projects.contract_of(project)
        asked = PackRequest(
            project, decision.base_sha, hardware_class, about, running, decision.kind,
            with_findings=Random().random() >= contract.packs.without_findings,
            promoted=promotions.describe_of_class(session, project, hardware_class), model=estimates.model,
        )  # fmt: skip
        pack = compose_pack(session, asked)
    trials = []
    if decision.kind in (JobKind.TUNE, JobKind.COMBINE) or (request.wants_trials and decision.kind.makes_experiment):
        trials = selection.list_trials(session, project.id, hardware_class, running)
    base = _read_base(session, project, decision, hardware_class)
    throughput = request.seed_throughput if request.probed_seed == project.root_sha else None
    pace = estimates.choose_pace(throughput)
    if decision.promotion is not None and decision.promotion.pace is not None:
        pace = decision.promotion.pace
    return Offer(project, chosen, branch, base, pack, trials, pace, throughput)


def _check_limits(counts: LeaseCounts) -> str | None:
    """Why a volunteer may hold no more leases, as a sentence."""
    if counts.is_stopped:
        return "A maintainer stopped this account just now."
    allowed = min(MOST_LEASES, FIRST_LEASES + LEASES_PER_AGREEMENT * counts.agreements)
    if counts.anchors or (counts.of_volunteer < allowed and counts.of_address < ACCOUNTS_PER_ADDRESS * allowed):
        return None
    of, held = ("account", counts.of_volunteer) if counts.of_volunteer >= allowed else ("address", counts.of_address)
    grows = "It may hold more once more of its measurements agree with those of others. " * (allowed < MOST_LEASES)
    lifts = "A maintainer may make one of its workers an anchor, which lifts the limit."
    return f"This {of} holds {held} jobs. {grows}{lifts}"


def _is_still_open(session: Conn, worker: WorkerRow, offer: Offer) -> bool:
    """Whether nobody was faster. Jobs that confirm or promote are given one after the other, so that no account takes
    them all."""
    decision = offer.chosen.decision
    if decision.kind not in (JobKind.CONFIRM, JobKind.PROMOTE):
        return True
    project, of_class = offer.project, worker.hardware_class
    epochs.begin_run(session, projects.contract_of(project), project.id, of_class)
    if decision.promotion is None:
        sha = confirmations.find_job(session, project, of_class, worker.volunteer_id, worker.id)
        return sha == decision.base_sha
    if decision.promotion.seed is not None:
        return promotions.find_half(session, project, of_class, worker.id) == decision.promotion
    job = promotions.find_job(session, project, of_class, worker.volunteer_id, worker.id)
    return job == decision.promotion


def _take(session: Conn, worker: WorkerRow, offer: Offer, address_sha256: str | None) -> LeaseGrant:
    """Make the offer the worker's lease."""
    project, decision = offer.project, offer.chosen.decision
    columns = _make_lease(worker, offer)
    selection.record_parent(session, project, worker, offer.chosen)
    token = secrets.token_urlsafe(24)
    queries.add_lease(session, columns | {"token_sha256": hash_token(token), "address_sha256": address_sha256})
    add_job(session, project.id, decision.base_sha, decision.kind, offer.branch.id)
    if offer.pack is not NO_PACK:  # an empty one counts in its arm
        queries.add_pack(session, columns["id"], offer.pack)
    if decision.promotion is not None:
        with objects_of(session) as objects:
            promotions.give(objects, project, worker.hardware_class, decision.promotion, columns["id"])
    events.record(session, EventKind.LEASE_CLAIMED, project.id, lease=str(columns["id"]))
    holdout_key = None
    if decision.kind == JobKind.CONFIRM and projects.contract_of(project).has_holdout:
        with objects_of(session) as objects:
            holdout_key = derive_key(objects, project, decision.base_sha, columns["id"])
    # Nothing of this comes from elsewhere, so it is not checked again.
    training_seconds = _budget_of(offer).training_seconds
    return LeaseGrant.model_construct(
        **{name: columns[name] for name in ("id", "seed", "rung", "issued_at", "expires_at", "deadline_at")},
        token=token, project=project.name, root_sha=project.root_sha, kind=decision.kind, base=offer.base,
        assignment=offer.chosen.assignment, branch=offer.branch.name, pace=offer.pace, why=decision.why,
        run_to_end=secrets.randbelow(SAMPLED_ONE_IN) == 0, holdout_key=holdout_key, context=offer.pack.text,
        trials=offer.trials, heartbeat_seconds=min(state.HEARTBEAT_SECONDS, max(2.0, training_seconds / 5)),
    )  # fmt: skip


def _choose_project(session: Conn, request: ClaimRequest, volunteer_id: int) -> Project | str:
    """The project asked for, or of those that fit the one that is farthest below its share of the fleet; else why there
    is none."""
    if request.project is not None:
        every = [projects.get_project(session, request.project)]
    else:
        every = [one for one in list_projects(session) if settings_of(one).weight]
    name, is_approved = "", True
    if any(settings_of(one).joining != ProjectJoining.EVERYBODY for one in every):
        with objects_of(session) as objects:
            name, is_approved = get_standing(objects, volunteer_id)
    reasons = {
        project.name: why_closed(project, name, is_approved=is_approved)
        or why_unfit(projects.contract_of(project), request.hardware)
        for project in every
    }
    fitting = [project for project in every if not reasons[project.name]]
    live = queries.count_live_leases_by_project(session) if len(fitting) > 1 else {}
    chosen = min(fitting, key=lambda one: live.get(one.id, 0) / (settings_of(one).weight or 1), default=None)
    return chosen or next(iter(reasons.values()), "This coordinator has no project yet.")


def _nothing(reason: str, retry_after_seconds: float) -> ClaimReply:
    return ClaimReply(lease=None, reason=reason, retry_after_seconds=retry_after_seconds)


def _paused(reason: str) -> ClaimReply:
    return _nothing(f"A moderator paused this worker: {reason}", PAUSED_SECONDS)


def _give_up_forgotten(session: Conn, held: OpenLeases, holding: set[UUID]) -> bool:
    """End a worker's leases that have expired or that it no longer works on; returns whether there were any."""
    moment = now()
    gone = [(lease_id, ends_at) for lease_id, ends_at in held if ends_at <= moment or lease_id not in holding]
    for lease_id, ends_at in gone:
        if ends_at <= moment:
            service.expire(session, lease_id, "Its time ran out, and its worker asked for another job.")
        else:
            lease = queries.lock_lease(session, lease_id)
            service.give_back(session, lease, "The worker started anew and no longer works on this.")
    return bool(gone)


def _find_branch(session: Conn, project: Project, chosen: ChosenJob) -> BranchName:
    if chosen.branch is None:
        return get_branch_of_commit(session, project.id, chosen.decision.base_sha)
    return BranchName(chosen.branch.id, chosen.branch.name, chosen.branch.state, chosen.branch.theme)


def _make_lease(worker: WorkerRow, offer: Offer) -> dict[str, Any]:
    """The columns of a new lease, less its token."""
    project, decision = offer.project, offer.chosen.decision
    promotion, budget = decision.promotion, _budget_of(offer)
    before = projects.contract_of(project).longest_budget.at_pace(offer.pace)
    asked_for = offer.chosen.assignment.model_dump(mode="json", exclude_defaults=True)
    moment = now()
    return {
        "id": uuid4(), "project_id": project.id, "worker_id": worker.id, "branch_id": offer.branch.id,
        "hardware_class": worker.hardware_class, "kind": decision.kind, "base_sha": decision.base_sha,
        "is_check": decision.is_check and not decision.kind.makes_experiment,
        "seed": secrets.randbelow(MAX_SEED) if promotion is None or promotion.seed is None else promotion.seed,
        "pace": offer.pace, "rung": None if promotion is None else promotion.rung,
        "seed_throughput": offer.seed_throughput, "why": decision.why, "end_reason": "",
        "assignment": asked_for or None, "issued_at": moment,
        **service.columns_of(state.begin(decision.kind.makes_experiment, budget, moment, before), budget),
    }  # fmt: skip


def _budget_of(offer: Offer) -> Budget:
    promotion = offer.chosen.decision.promotion
    contract = projects.contract_of(offer.project).on_rung(None if promotion is None else promotion.rung)
    return contract.budget.at_pace(offer.pace)


def _read_base(session: Conn, project: Project, decision: Decision, hardware_class: str) -> BaseCommit:
    editable, sha = projects.contract_of(project).files.editable, decision.base_sha
    key = (sha, tuple(editable))
    return BaseCommit.model_construct(
        sha=sha,
        files=_FILES.find(key) or _FILES.store(key, lineage.read_files(session, project.id, sha, editable)),
        posterior=evidence.view_posterior(find_posterior(session, sha, hardware_class)),
        curve=find_curve(session, sha, hardware_class) if decision.kind.makes_experiment else [],
    )


def check_versions(protocol: int, version: str | None, ours: Versions) -> None:
    """Whether a worker that speaks `protocol` may have a job; `version` is its program's, None: it did not say.

    Raises ProtocolUnsupportedError.
    """
    if protocol > ours.protocol:
        raise ProtocolUnsupportedError(
            f"The worker speaks version {protocol} of the protocol, this coordinator {ours.protocol}: update the "
            "coordinator, or use an older worker.",
            ours,
        )
    if protocol < ours.oldest_protocol:
        raise ProtocolUnsupportedError(
            f"The worker speaks version {protocol} of the protocol, this coordinator {ours.oldest_protocol} or newer: "
            "update the worker.",
            ours,
        )
    if version is not None and version_key(version) < version_key(ours.oldest_worker):
        raise ProtocolUnsupportedError(
            f"The worker is of version {version}; this coordinator gives jobs to {ours.oldest_worker} or newer: "
            "update the worker.",
            ours,
        )


def why_unfit(contract: Contract, hardware: Hardware) -> str:
    """Why a project cannot run on this hardware, as a sentence; empty if it can."""
    needed, name = contract.limits.device_memory_mib, contract.project.name
    if needed is None:
        return ""
    if hardware.kind != DeviceKind.CUDA:
        return f"The project {name} needs a GPU with {needed:,} MiB of memory, and this worker has none."
    if hardware.memory_mib < needed:
        return (
            f"The project {name} needs a GPU with {needed:,} MiB of memory; this one has {hardware.memory_mib:,} MiB."
        )
    return ""
