"""The queue: all that waits for moderators and maintainers, what waits for it in turn, and what is done about it; and
how readers report findings to it.

A thing has a name, of its kind and a key, and a state. It leaves the queue when what it is about is settled, or when it
is dismissed in that state. Each action is one of `service` and `branches`; the queue adds assigning and dismissing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.background import TaskHealth
from coordinator.db.locks import lock_hashes
from coordinator.events.audit import Actor
from coordinator.evidence import held
from coordinator.findings.papers import get_shown, view_words
from coordinator.http.addresses import hash_address
from coordinator.http.errors import SwarmError
from coordinator.models import AuditEntry, FindingReport
from coordinator.moderation import branches, queue_queries, service
from coordinator.projects import service as projects
from shared.experiments import Dispute, HeldDecisionKind
from shared.formatting import count_noun, format_effect
from shared.moderation import AuditAction, QueueAction, QueueItem, QueueKind, QueuePage, QueueRequest, SubjectKind
from shared.protocol import now

EVERYTHING = 1_000_000
"""The number of things that wait for a background task that does not run."""

FAILURES_OF_A_TASK = 3
"""Failures in a row from which on a background task is in the queue: the first ones pass by themselves."""

_Q = QueueAction
ACTIONS: Mapping[QueueKind, Sequence[QueueAction]] = {
    QueueKind.HELD: (_Q.ACCEPT, _Q.CHECK, _Q.REJECT, _Q.QUARANTINE, _Q.ASSIGN),
    QueueKind.CONTRADICTION: (_Q.DISMISS, _Q.QUARANTINE, _Q.ASSIGN),
    QueueKind.NOISE: (_Q.DISMISS, _Q.ASSIGN),
    QueueKind.ACCOUNT: (_Q.APPROVE, _Q.SUSPEND, _Q.ASSIGN),
    QueueKind.BRANCH: (_Q.APPROVE, _Q.DELETE, _Q.QUARANTINE, _Q.ASSIGN),
    QueueKind.REPORT: (_Q.DISMISS, _Q.RETRACT, _Q.QUARANTINE, _Q.ASSIGN),
    QueueKind.WORKER: (_Q.DISMISS, _Q.QUARANTINE, _Q.ASSIGN),
    QueueKind.TASK: (_Q.DISMISS, _Q.ASSIGN),
}


_DISPUTES = {
    Dispute.REFUTED: "Those who checked it agree, against its author",
    Dispute.CONTESTED: "Those who checked it contradict each other",
}


class ActionUnfitError(SwarmError, status=409, title="That cannot be done about this thing"):
    pass


class ItemSettledError(SwarmError, status=404, title="This does not wait any more"):
    pass


def list_items(session: Session, tasks: Sequence[TaskHealth] = ()) -> list[QueueItem]:
    """The things that wait: first that for which most waits, then the oldest."""
    found = [*_list_found(session), *_list_tasks(tasks)]
    marks = queue_queries.map_marks(session, [item.name for item in found])
    items = []
    for item in found:
        mark = marks.get(item.name)
        if mark is None or mark.dismissed_state != item.state:
            items.append(item.model_copy(update={"assigned_to": mark.assigned_to if mark else None}))
    return sorted(items, key=lambda item: (-item.waiting, item.opened_at, item.name))


def view_queue(session: Session, kind: QueueKind | None, tasks: Sequence[TaskHealth] = ()) -> QueuePage:
    """The queue, or what of one kind is in it, with counts of all kinds."""
    items = list_items(session, tasks)
    counts = {known: sum(item.kind is known for item in items) for known in QueueKind}
    return QueuePage(items=[item for item in items if kind in (None, item.kind)], counts=counts)


def act(session: Session, actor: Actor, asked: QueueRequest, tasks: Sequence[TaskHealth] = ()) -> list[AuditEntry]:
    """Do the same about some things. Raises ItemSettledError, AlreadyDecidedError, ActionUnfitError, and what the
    actions raise."""
    service.take_turn(session, actor)
    items = {item.name: item for item in list_items(session, tasks)}
    done: dict[tuple[str, ...], AuditEntry] = {}
    for name in dict.fromkeys(asked.items):
        if name not in items:
            kind, _, key = name.partition(":")
            if kind == QueueKind.HELD and key.count("/") > 1:
                held.check_undecided(session, *key.split("/", 2)[1:])
            raise ItemSettledError(f"{name} does not wait any more: somebody settled or dismissed it.")
        item = items[name]
        if asked.action not in item.actions:
            raise ActionUnfitError(f"Nobody can {asked.action} {item.title}.")
        target = ("account", item.author or "") if asked.action is _Q.QUARANTINE else ("item", name)
        if target not in done:  # several things of one author lead to one quarantine
            done[target] = _ACTIONS[asked.action](session, actor, item, asked)
    return list(done.values())


def _decide(session: Session, actor: Actor, item: QueueItem, asked: QueueRequest) -> AuditEntry:
    project, sha, hardware_class = _key(item).split("/", 2)
    decision = HeldDecisionKind(asked.action.value)
    return service.decide_held(session, actor, project, sha, hardware_class, decision, asked.reason)


def _approve(session: Session, actor: Actor, item: QueueItem, asked: QueueRequest) -> AuditEntry:
    if item.kind == QueueKind.ACCOUNT:
        return service.approve_account(session, actor, _key(item), asked.reason)
    project, _, name = _key(item).partition("/")
    return branches.approve(session, actor, project, name, asked.reason)


def _delete(session: Session, actor: Actor, item: QueueItem, asked: QueueRequest) -> AuditEntry:
    project, _, name = _key(item).partition("/")
    return branches.delete(session, actor, project, name, asked.reason)


def _retract(session: Session, actor: Actor, item: QueueItem, asked: QueueRequest) -> AuditEntry:
    return service.set_retraction(session, actor, int(_key(item)), asked.reason, is_on=True)


def _quarantine(session: Session, actor: Actor, item: QueueItem, asked: QueueRequest) -> AuditEntry:
    if item.author is None:
        raise ActionUnfitError(f"{item.title} has no author.")
    name, _, worker = item.author.partition("/")
    return service.set_quarantine(session, actor, name, worker or None, asked.reason, is_on=True)


def _suspend(session: Session, actor: Actor, item: QueueItem, asked: QueueRequest) -> AuditEntry:
    return service.set_suspension(session, actor, _key(item), asked.reason, is_on=True)


def _dismiss(session: Session, actor: Actor, item: QueueItem, asked: QueueRequest) -> AuditEntry:
    changes = {"dismissed_state": item.state}
    return service.change(session, actor, AuditAction.DISMISS, SubjectKind.ITEM, item.name, changes, asked.reason)


def _assign(session: Session, actor: Actor, item: QueueItem, asked: QueueRequest) -> AuditEntry:
    changes = {"assigned_to": asked.assignee}
    return service.change(session, actor, AuditAction.ASSIGN, SubjectKind.ITEM, item.name, changes, asked.reason)


_ACTIONS: Mapping[QueueAction, Callable[[Session, Actor, QueueItem, QueueRequest], AuditEntry]] = {
    _Q.ACCEPT: _decide, _Q.CHECK: _decide, _Q.REJECT: _decide, _Q.APPROVE: _approve, _Q.DELETE: _delete,
    _Q.RETRACT: _retract, _Q.QUARANTINE: _quarantine, _Q.SUSPEND: _suspend, _Q.DISMISS: _dismiss, _Q.ASSIGN: _assign,
}  # fmt: skip


def _key(item: QueueItem) -> str:
    return item.name.partition(":")[2]


def _item(
    kind: QueueKind, key: str, title: str, detail: str, address: str, *, state: str, opened_at: datetime,
    waiting_for: str, waiting: int = 1, project: str | None = None, author: str | None = None,
) -> QueueItem:  # fmt: skip
    """A thing of which no mark is known."""
    return QueueItem(
        name=f"{kind}:{key}", kind=kind, title=title, detail=detail, address=address, project=project, author=author,
        waiting=waiting, waiting_for=waiting_for, opened_at=opened_at, state=state, assigned_to=None,
        actions=list(ACTIONS[kind]),
    )  # fmt: skip


def _say_waiting(count: int, one: str, many: str) -> str:
    """The words that follow the count of what waits for a thing; nothing does but the thing itself where it is 0."""
    return "waits" if not count else one if count == 1 else many


def _list_found(session: Session) -> Iterator[QueueItem]:
    yield from _list_commits(session)
    for epoch, project, under_way in queue_queries.list_noisy(session):
        expected = projects.contract_of(project).evidence.noise_sd
        noise = epoch.disputed_noise_sd or 0.0
        times = noise / expected if expected else 0.0
        yield _item(
            QueueKind.NOISE, f"{project.name}/{epoch.hardware_class}", f"Noise on {epoch.hardware_class}",
            f"Runs differ by {noise:.2g}, {times:.1f} times what the contract expects.", f"/projects/{project.name}",
            project=project.name, state=f"{int(times)} times", opened_at=epoch.started_at, waiting=max(1, under_way),
            waiting_for=_say_waiting(under_way, "job under way in it", "jobs under way in it"),
        )  # fmt: skip
    for account in queue_queries.list_pending(session):
        yield _item(
            QueueKind.ACCOUNT, account.name, account.name, "Asks to join.", f"/admin/accounts/{account.name}",
            author=account.name, state="pending", opened_at=account.created_at, waiting_for="person waits",
        )  # fmt: skip
    for branch, project_name, author in queue_queries.list_proposed(session):
        yield _item(
            QueueKind.BRANCH, f"{project_name}/{branch.name}", f"Branch {branch.name}", branch.theme,
            f"/projects/{project_name}/branches", project=project_name, author=author, state="proposed",
            opened_at=branch.created_at, waiting_for="branch waits",
        )  # fmt: skip
    for reported in queue_queries.list_reported(session):
        number, citations = reported.finding_id, reported.citations
        yield _item(
            QueueKind.REPORT, str(number), view_words(session, number, with_hidden=True).claim,
            f"{count_noun(reported.reports, 'report')} of finding {number}.", f"/findings/{number}",
            project=reported.project, author=reported.author, state=str(reported.newest_id),
            opened_at=reported.first_at, waiting=max(1, citations),
            waiting_for=_say_waiting(citations, "experiment read it", "experiments read it"),
        )  # fmt: skip
    for calibration, worker, volunteer, project_name in queue_queries.list_failing(session):
        name, failures = f"{volunteer}/{worker.name}", calibration.failures_in_row
        yield _item(
            QueueKind.WORKER, f"{project_name}/{worker.id}", name,
            f"Its last {count_noun(failures, 'run')} failed, on {calibration.hardware_class}.",
            f"/audit?subject=worker&key={name}", project=project_name, author=name,
            state=f"after {calibration.jobs_done - failures}", opened_at=calibration.updated_at,
            waiting_for="worker waits",
        )  # fmt: skip


def _list_commits(session: Session) -> Iterator[QueueItem]:
    rows = [(QueueKind.HELD, row) for row in queue_queries.list_held(session)]
    rows += [(QueueKind.CONTRADICTION, row) for row in queue_queries.list_disputed(session)]
    for kind, row in rows:
        effect = "no effect yet"
        if row.effect_mean is not None and row.effect_sd is not None:
            effect = f"effect {format_effect(row.effect_mean, row.effect_sd)}"
        says = "Too good to be believed" if kind == QueueKind.HELD else _DISPUTES[row.dispute]
        yield _item(
            kind, f"{row.project}/{row.commit_sha}/{row.hardware_class}",
            f"#{row.id} {row.title}",
            f"{says}: {effect}, {count_noun(row.runs, 'run')}, on {row.hardware_class}.",
            f"/experiments/{row.id}", project=row.project, author=row.author,
            state=row.dispute if kind == QueueKind.CONTRADICTION else "held", opened_at=row.created_at,
            waiting=max(1, row.children),
            waiting_for=_say_waiting(row.children, "experiment builds on it", "experiments build on it"),
        )  # fmt: skip


def _list_tasks(tasks: Sequence[TaskHealth]) -> Iterator[QueueItem]:
    for task in tasks:
        if task.is_alive and task.failures < FAILURES_OF_A_TASK:
            continue
        ended = "" if task.is_alive else "It has ended. "
        yield _item(
            QueueKind.TASK, task.name, task.name,
            f"{ended}{count_noun(task.failures, 'failure')} in a row: {task.last_error or 'no error known'}",
            "/admin/queue?kind=task", state="ended" if not task.is_alive else (task.last_error or "")[:80],
            opened_at=task.last_success_at or task.last_error_at or now(), waiting=EVERYTHING, waiting_for="everything",
        )  # fmt: skip


REPORTS_PER_HOUR = 10
"""Reports from one address, and by one account, within an hour."""

MAX_OPEN_REPORTS = 50
"""Reports of one finding that are kept within an hour; more say nothing new."""

LOCAL_ADDRESS = "0" * 64


class ReportsBusyError(
    SwarmError, status=429, title="Too many reports were sent lately", headers={"Retry-After": "600"}
):
    pass


def report_finding(session: Session, finding_id: int, text: str, volunteer_id: int | None, address: str | None) -> None:
    """Store a reader's report of a finding. Raises NotFoundError, FindingHiddenError, ReportsBusyError."""
    get_shown(session, finding_id)
    address_sha256 = hash_address(address) or LOCAL_ADDRESS
    lock_hashes(session, [address_sha256])  # reports from one address are counted one after the other
    moment, hour = now(), timedelta(hours=1)
    is_recent = FindingReport.created_at.between(moment - hour, moment + hour)
    limits = [(FindingReport.finding_id == finding_id, MAX_OPEN_REPORTS)]
    limits += [(FindingReport.address_sha256 == address_sha256, REPORTS_PER_HOUR)]
    limits += [(FindingReport.volunteer_id == volunteer_id, REPORTS_PER_HOUR)] if volunteer_id is not None else []
    for condition, allowed in limits:
        if (
            session.scalar(select(func.count()).select_from(FindingReport).where(condition, is_recent)) or 0
        ) >= allowed:
            raise ReportsBusyError("The moderators have those before. Try again later.")
    session.add(
        FindingReport(
            finding_id=finding_id, volunteer_id=volunteer_id, address_sha256=address_sha256, text=text, created_at=now()
        )
    )
    session.flush()
