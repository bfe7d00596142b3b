"""Commands for maintainers' duties: accounts, tokens, invitations, quarantine, the queue, and the audit log."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from getpass import getuser
from inspect import Parameter, Signature, signature
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from coordinator.accounts import service as accounts
from coordinator.admin.console import Number, clear_errors, read_values
from coordinator.db.migrate import open_database
from coordinator.events import audit as audit_log
from coordinator.events.audit import Actor, AuditFilters
from coordinator.evidence import held
from coordinator.models import AuditEntry
from coordinator.moderation import queue, service
from coordinator.moderation.service import NothingChangesError
from coordinator.settings import CoordinatorSettings
from shared.experiments import HeldDecisionKind
from shared.moderation import (
    AuditView,
    InvitationRequest,
    Profile,
    QueueAction,
    QueueKind,
    QueueRequest,
    SubjectKind,
    TokenRequest,
    WorkerMessageRequest,
)
from shared.protocol import Message
from shared.workers import Role

app = typer.Typer()

Name = Annotated[str, typer.Argument(help="The account's name, for example ada.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the audit log.")]
WorkerName = Annotated[str, typer.Argument(help="Its worker, for example gpu-0.")]
OptionalWorker = Annotated[str | None, typer.Option(help="One of its workers; without it, the whole account.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


@contextmanager
def act() -> Iterator[tuple[Session, Actor]]:
    """A transaction, and the user of this machine as the one who acts. That nothing changes is no error here."""
    with clear_errors():
        try:
            with open_database() as database, database.write() as session:
                yield session, Actor(getuser())
        except NothingChangesError as error:
            typer.echo(error.detail, err=True)
            raise typer.Exit from error


def say(entry: AuditEntry) -> None:
    """Print what was done."""
    typer.echo(describe(audit_log.view_entry(entry)))


def describe(entry: AuditView) -> str:
    """An entry of the audit log in one line."""
    names = sorted({*(entry.before or {}), *(entry.after or {})})
    changes = [f"{name}: {_show(entry.before, name)} -> {_show(entry.after, name)}" for name in names]
    undoes = f" (undoes {entry.undoes})" if entry.undoes else ""
    undone = f" (undone by {entry.undone_by})" if entry.undone_by else ""
    what = f"{entry.action} {entry.subject} {entry.key}"
    return (
        f"{entry.id}  {entry.at:%Y-%m-%d %H:%M}  {entry.by} ({entry.source.replace('_', ' ')})  {what}{undoes}{undone}"
        f"  {'; '.join(changes)}  because: {entry.reason}"
    )


def _show(state: Mapping[str, object] | None, name: str) -> object:
    value = (state or {}).get(name)
    return "none" if value is None else value


PARAMETERS: Mapping[str, object] = {
    "name": Name,
    "worker": WorkerName,
    "role": Annotated[Role, typer.Argument(help="The role.")],
    "finding_id": Number,
    "token_id": Number,
    "invitation_id": Number,
    "entry_id": Number,
    "project": Annotated[str, typer.Argument(help="The project.")],
    "sha": Annotated[str, typer.Argument(help="The commit, as `held --json` lists it.")],
    "decision": Annotated[HeldDecisionKind, typer.Argument(help="accept, check (by two anchors) or reject.")],
    "hardware_class": Annotated[str, typer.Option(help="The hardware class of the result.")],
    "reason": Reason,
}


def add_actions(
    commands: typer.Typer,
    parameters: Mapping[str, object],
    actions: Mapping[str, tuple[Callable[..., AuditEntry], str]],
) -> None:
    """Add a command for each action of a service, with its help; it takes those of the action's `parameters`."""
    for name, (action, words) in actions.items():
        commands.command(name, help=words)(_make_command(action, parameters))


def _make_command(action: Callable[..., AuditEntry], parameters: Mapping[str, object]) -> Callable[..., None]:
    def run(**given: object) -> None:
        with act() as (session, actor):
            say(action(session, actor, **given))

    wanted = [name for name in signature(action).parameters if name in parameters]
    run.__signature__ = Signature([  # type: ignore[attr-defined]  # what typer reads
        Parameter(
            name, Parameter.KEYWORD_ONLY, annotation=parameters[name],
            default=None if parameters[name] is OptionalWorker else Parameter.empty,
        )
        for name in wanted
    ])  # fmt: skip
    return run


add_actions(app, PARAMETERS, {
    "set-role": (service.set_role, "Give an account a role: volunteer, researcher, moderator or maintainer.\n\n"
                 'Example:  swarm-coordinator set-role ada moderator --reason "she looks after the weekend"'),
    "suspend": (partial(service.set_suspension, is_on=True),
                "Refuse all requests of an account. What it did stays. `unsuspend` takes it back."),
    "unsuspend": (partial(service.set_suspension, is_on=False), "End a suspension."),
    "approve-account": (service.approve_account, "Let an account in that waits for it (SWARM_JOINING=approval)."),
    "retract-papers": (service.retract_papers, "Retract the published papers of an account, at most the 1,000 newest. "
                       '`undo` restores the same ones.\n\n'
                       'Example:  swarm-coordinator retract-papers mallory --reason "none of them repeats"'),
    "retract-finding": (partial(service.set_retraction, is_on=True), "Retract a finding. It stays readable; searches "
                        "and context packs leave it out. `restore-finding` ends that."),
    "restore-finding": (partial(service.set_retraction, is_on=False), "End the retraction of a finding."),
    "pause-worker": (partial(service.set_pause, is_on=True), "Give a worker no jobs, and show it the reason. What it "
                     "holds it may finish. `resume-worker` takes it back."),
    "resume-worker": (partial(service.set_pause, is_on=False), "Give a paused worker jobs again."),
    "revoke-token": (service.revoke_token, "Make a token invalid at once."),
    "revoke-invitation": (service.revoke_invitation, "End an invitation."),
    "decide": (service.decide_held, "Decide on a result that is held because it is too good to be believed."),
    "undo": (service.undo, "Take an action back, with all that followed from it.\n\n"
             'Example:  swarm-coordinator undo 12 --reason "the wrong account"'),
})  # fmt: skip
add_actions(app, {**PARAMETERS, "worker": OptionalWorker}, {
    "quarantine": (partial(service.set_quarantine, is_on=True),
                   "Refuse all writes of an account, and leave its unverified runs and its papers out. `release` takes "
                   'it back.\n\nExample:  swarm-coordinator quarantine mallory --reason "its numbers do not repeat"'),
    "release": (partial(service.set_quarantine, is_on=False),
                "End a quarantine: runs count and papers show again, and what was derived without them is derived with "
                'them.\n\nExample:  swarm-coordinator release mallory --reason "its clock was wrong, and is repaired"'),
})  # fmt: skip


def _print_link(name: str, secret: str) -> None:
    typer.echo(secret)
    address = f"{CoordinatorSettings().base_url}/sign-in?link={secret}"
    typer.echo(f"It signs {name} in once, within a day: {address}", err=True)


@app.command()
def create_maintainer(name: Name, reason: Reason = "A maintainer of this swarm.") -> None:
    """Make an account a maintainer, and print a sign-in link's secret, which works once within a day.

    Open /sign-in?link=..., or exchange it for a token: POST /api/v1/sign-in with {"secret": "..."}.

    Example:  swarm-coordinator create-maintainer ada
    """
    with act() as (session, actor):
        secret = service.create_maintainer(session, actor, name, reason)
    _print_link(name, secret)


@app.command()
def sign_in_link(name: Name, reason: Reason) -> None:
    """Print a sign-in link's secret for an account, which works once within a day."""
    with act() as (session, actor):
        secret = service.create_link(session, actor, name, reason).secret
    _print_link(name, secret)


@app.command()
def profile(
    name: Name,
    reason: Reason,
    listed: Annotated[bool | None, typer.Option("--listed/--unlisted", help="On the leaderboard or not.")] = None,
    cited_as: Annotated[str | None, typer.Option(help="Its owner's name in citations; empty for none.")] = None,
) -> None:
    """Change how an account is shown, as its owner can on the page /me."""
    with act() as (session, actor):
        asked = read_values(Profile, {"is_listed": listed, "cited_as": cited_as, "reason": reason})
        say(service.change_profile(session, actor, name, asked))


@app.command()
def anchor(
    name: Name,
    worker: WorkerName,
    reason: Reason,
    remove: Annotated[bool, typer.Option("--remove", help="It is one no longer.")] = False,
) -> None:
    """Make a worker a root of trust: a claim is verified by an anchor, or by whom agreement with anchors vouches for.

    Example:  swarm-coordinator anchor ada gpu-0 --reason "our own machine"
    """
    with act() as (session, actor):
        say(service.set_anchor(session, actor, name, worker, reason, is_anchor=not remove))


@app.command()
def message(
    name: Name,
    worker: WorkerName,
    text: Annotated[str, typer.Argument(help="The words, which its terminal shows once.")],
) -> None:
    """Show a message in a worker's terminal. `undo` takes back what was not shown yet.

    Example:  swarm-coordinator message ada gpu-0 "Please update: the new version trains faster."
    """
    with act() as (session, actor):
        asked = read_values(WorkerMessageRequest, {"worker": worker, "text": text})
        say(service.send_message(session, actor, name, asked.worker, asked.text))


@app.command()
def create_token(
    volunteer: Name,
    label: Annotated[str, typer.Option(help="What the token is for.")] = "worker",
    days: Annotated[int | None, typer.Option(min=1, help="Days that it lasts.  [default: until it is revoked]")] = None,
) -> None:
    """Print a new worker's token for a volunteer, who is made if need be. It is shown this once."""
    with act() as (session, actor):
        secret = service.create_token(session, actor, volunteer, TokenRequest(label=label, days=days), is_new=True)
    typer.echo(secret.secret)


@app.command("tokens")
def list_tokens(name: Name, as_json: Json = False) -> None:
    """List an account's tokens: number, label, use, and until when."""
    with clear_errors(), open_database() as database, database.read() as session:
        tokens = accounts.view_tokens(session, name).items
    for token in tokens:
        over = f"revoked {token.revoked_at:%Y-%m-%d %H:%M}" if token.revoked_at else ""
        until = f"until {token.expires_at:%Y-%m-%d %H:%M}" if token.expires_at else "for ever"
        print_view(token, f"{token.id}  {token.label}  {token.scope}  {over or until}", as_json=as_json)


@app.command("accounts")
def list_accounts(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Accounts at most, the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """List accounts: role, and what stops them."""
    with clear_errors(), open_database() as database, database.read() as session:
        views = accounts.view_accounts(session, None, limit).items
    for account in views:
        stops = {"suspended": account.suspension, "in quarantine": account.quarantine}
        marks = [f"{name}: {reason}" for name, reason in stops.items() if reason is not None]
        marks += ["waits for approval"] if account.is_pending else []
        print_view(account, "  ".join([account.name, account.role, *marks]), as_json=as_json)


@app.command()
def invite(
    reason: Reason,
    uses: Annotated[int, typer.Option(min=1, help="Accounts that may be made with it.")] = 1,
    days: Annotated[int, typer.Option(min=1, help="Days after which it ends.")] = 7,
) -> None:
    """Print an invitation. People give it when they sign up: swarm-worker login --new NAME --invitation ..."""
    with act() as (session, actor):
        made = service.create_invitation(session, actor, InvitationRequest(reason=reason, uses=uses, days=days))
    typer.echo(made.secret)


@app.command("invitations")
def list_invitations(as_json: Json = False) -> None:
    """List invitations: number, uses, and until when."""
    with clear_errors(), open_database() as database, database.read() as session:
        views = accounts.view_invitations(session, None, 200).items
    for one in views:
        over = "revoked" if one.revoked_at else f"until {one.expires_at:%Y-%m-%d %H:%M}"
        print_view(one, f"{one.id}  by {one.created_by}  {one.uses} of {one.max_uses} used  {over}", as_json=as_json)


@app.command("held")
def list_held(as_json: Json = False) -> None:
    """List results that wait for a decision, and those that have one."""
    with clear_errors(), open_database() as database, database.read() as session:
        results = held.list_held(session, None)
    for one in results:
        number = f"{one.posterior.metric_mean:.4f}" if one.posterior else "no number"
        name = f"{one.project}  {one.sha[:12]}  #{one.experiment_id} by {one.volunteer}  {number}  {one.hardware_class}"
        print_view(one, f"{name}  {one.decision or 'waits'}", as_json=as_json)


@app.command()
def audit(
    by: Annotated[str | None, typer.Option(help="Only actions of this person.")] = None,
    subject: Annotated[SubjectKind | None, typer.Option(help="Only actions on this kind of thing.")] = None,
    key: Annotated[str | None, typer.Option(help="Only actions on this thing, for example mallory.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Entries at most, the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """Show what people did, newest first: who, what, why, before and after.

    Example:  swarm-coordinator audit --subject account --key mallory
    """
    with clear_errors(), open_database() as database, database.read() as session:
        entries = audit_log.view_page(session, AuditFilters(actor=by, subject=subject, key=key), None, limit).items
    for entry in entries:
        print_view(entry, describe(entry), as_json=as_json)


queue_app = typer.Typer(
    no_args_is_help=True,
    help="What waits for moderators: list it, and act upon it.\n\n"
    'Example:  swarm-coordinator queue act dismiss report:7 --reason "it is a fair paper"',
)


@queue_app.command("list")
def list_queue(
    kind: Annotated[QueueKind | None, typer.Option(help="Only things of this kind.")] = None, as_json: Json = False
) -> None:
    """List the things that wait, all but background tasks: that for which most waits comes first."""
    with clear_errors(), open_database() as database, database.read() as session:
        items = queue.view_queue(session, kind).items
    if not items:
        typer.echo("Nothing waits.", err=True)
    for item in items:
        who = f"  ({item.assigned_to})" if item.assigned_to else ""
        print_view(item, f"{item.name}  {item.title}  {item.detail}{who}", as_json=as_json)


@queue_app.command("act")
def act_on_queue(
    action: Annotated[QueueAction, typer.Argument(help="What to do about each of them.")],
    items: Annotated[list[str], typer.Argument(help="Their names, as `list` prints them.")],
    reason: Reason,
    to: Annotated[str | None, typer.Option(help="Whom to assign them to; without it, nobody.")] = None,
) -> None:
    """Do the same about some things at once; all of it is done, or nothing."""
    with act() as (session, actor):
        asked = QueueRequest(items=items, action=action, reason=reason, assignee=to)
        for entry in queue.act(session, actor, asked):
            say(entry)


def print_view(view: Message, line: str, *, as_json: bool) -> None:
    """Print a line of a list."""
    typer.echo(json.dumps(view.model_dump(mode="json")) if as_json else line)
