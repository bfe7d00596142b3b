"""Commands for maintainers' duties: accounts, tokens, invitations, quarantine, the queue, and the audit log."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from getpass import getuser
from importlib import import_module
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from coordinator.admin.console import Number, open_database, open_reading, read_values
from shared.experiments import HeldDecisionKind
from shared.formatting import clean, format_measure
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

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from coordinator.events.audit import Actor
    from coordinator.models import AuditEntry

app = typer.Typer()

Name = Annotated[str, typer.Argument(help="The account's name, for example ada.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the audit log.")]
WorkerName = Annotated[str, typer.Argument(help="Its worker, for example gpu-0.")]
OptionalWorker = Annotated[str | None, typer.Option(help="One of its workers; without it, the whole account.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


@contextmanager
def act() -> Iterator["tuple[Session, Actor]"]:
    """A transaction, and the user of this machine as the one who acts. That nothing changes is no error here."""
    from coordinator.events.audit import Actor
    from coordinator.moderation.service import NothingChangesError

    with open_database() as database:
        try:
            with database.write() as session:
                yield session, Actor(getuser())
        except NothingChangesError as error:
            typer.echo(error.detail, err=True)
            raise typer.Exit from error


def say(entry: "AuditEntry") -> None:
    """Print what was done."""
    from coordinator.events.audit import view_entry

    typer.echo(clean(describe(view_entry(entry))))


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


class Action(NamedTuple):
    """A command that calls a function of a service by its name, so that the service is loaded only then."""

    function: str
    parameters: str
    """Names of the function's parameters after session and actor, in order, that the command line gives."""

    help: str
    fixed: Mapping[str, object] = {}
    """Its parameters that the command line does not give."""


def add_actions(
    commands: typer.Typer, module: str, parameters: Mapping[str, object], actions: Mapping[str, Action]
) -> None:
    """Add a command for each action of a module; `parameters` are the types of what the command line gives."""
    for name, action in actions.items():
        commands.command(name, help=action.help)(_make_command(module, parameters, action))


def _make_command(module: str, parameters: Mapping[str, object], action: Action) -> Callable[..., None]:
    def run(**given: object) -> None:
        function = getattr(import_module(module), action.function)
        with act() as (session, actor):
            say(function(session, actor, **given, **action.fixed))

    run.__signature__ = Signature([  # type: ignore[attr-defined]  # what typer reads
        Parameter(
            name, Parameter.KEYWORD_ONLY, annotation=parameters[name],
            default=None if parameters[name] is OptionalWorker else Parameter.empty,
        )
        for name in action.parameters.split()
    ])  # fmt: skip
    return run


MODERATION = "coordinator.moderation.service"
ON, OFF = {"is_on": True}, {"is_on": False}

add_actions(app, MODERATION, PARAMETERS, {
    "set-role": Action("set_role", "name role reason", "Give an account a role: volunteer, researcher, moderator or "
                       'maintainer.\n\nExample:  swarm-coordinator set-role ada moderator --reason "she looks after '
                       'the weekend"'),
    "suspend": Action("set_suspension", "name reason", "Refuse all requests of an account. What it did stays. "
                      "`unsuspend` takes it back.", ON),
    "unsuspend": Action("set_suspension", "name reason", "End a suspension.", OFF),
    "approve-account": Action("approve_account", "name reason",
                              "Let an account in that waits for it (SWARM_JOINING=approval)."),
    "retract-papers": Action("retract_papers", "name reason", "Retract the published papers of an account, at most the "
                             '1,000 newest. `undo` restores the same ones.\n\nExample:  swarm-coordinator '
                             'retract-papers mallory --reason "none of them repeats"'),
    "retract-finding": Action("set_retraction", "finding_id reason", "Retract a finding. It stays readable; searches "
                              "and context packs leave it out. `restore-finding` ends that.", ON),
    "restore-finding": Action("set_retraction", "finding_id reason", "End the retraction of a finding.", OFF),
    "pause-worker": Action("set_pause", "name worker reason", "Give a worker no jobs, and show it the reason. What it "
                           "holds it may finish. `resume-worker` takes it back.", ON),
    "resume-worker": Action("set_pause", "name worker reason", "Give a paused worker jobs again.", OFF),
    "revoke-token": Action("revoke_token", "token_id reason", "Make a token invalid at once."),
    "revoke-invitation": Action("revoke_invitation", "invitation_id reason", "End an invitation."),
    "decide": Action("decide_held", "project sha hardware_class decision reason",
                     "Decide on a result that is held because it is too good to be believed."),
    "undo": Action("undo", "entry_id reason", "Take an action back, with all that followed from it.\n\n"
                   'Example:  swarm-coordinator undo 12 --reason "the wrong account"'),
})  # fmt: skip
add_actions(app, MODERATION, {**PARAMETERS, "worker": OptionalWorker}, {
    "quarantine": Action("set_quarantine", "name worker reason", "Refuse all writes of an account, and leave its "
                         "unverified runs and its papers out. `release` takes it back.\n\n"
                         'Example:  swarm-coordinator quarantine mallory --reason "its numbers do not repeat"', ON),
    "release": Action("set_quarantine", "name worker reason", "End a quarantine: runs count and papers show again, and "
                      "what was derived without them is derived with them.\n\n"
                      'Example:  swarm-coordinator release mallory --reason "its clock was wrong, and is repaired"',
                      OFF),
})  # fmt: skip


def _print_link(name: str, secret: str) -> None:
    from coordinator.settings import CoordinatorSettings

    typer.echo(secret)
    address = f"{CoordinatorSettings().base_url}/sign-in?link={secret}"
    typer.echo(f"It signs {name} in once, within a day: {address}", err=True)


@app.command()
def create_maintainer(name: Name, reason: Reason = "A maintainer of this swarm.") -> None:
    """Make an account a maintainer, and print a sign-in link's secret, which works once within a day.

    Open /sign-in?link=..., or exchange it for a token: POST /api/v1/sign-in with {"secret": "..."}.

    Example:  swarm-coordinator create-maintainer ada
    """
    from coordinator.moderation import service

    with act() as (session, actor):
        secret = service.create_maintainer(session, actor, name, reason)
    _print_link(name, secret)


@app.command()
def sign_in_link(name: Name, reason: Reason) -> None:
    """Print a sign-in link's secret for an account, which works once within a day."""
    from coordinator.moderation import service

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
    from coordinator.moderation import service

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
    from coordinator.moderation import service

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
    from coordinator.moderation import service

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
    from coordinator.moderation import service

    with act() as (session, actor):
        secret = service.create_token(session, actor, volunteer, TokenRequest(label=label, days=days), is_new=True)
    typer.echo(secret.secret)


@app.command("tokens")
def list_tokens(name: Name, as_json: Json = False) -> None:
    """List an account's tokens: number, label, use, and until when."""
    from coordinator.accounts import service as accounts

    with open_reading() as session:
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
    from coordinator.accounts import service as accounts

    with open_reading() as session:
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
    from coordinator.moderation import service

    with act() as (session, actor):
        made = service.create_invitation(session, actor, InvitationRequest(reason=reason, uses=uses, days=days))
    typer.echo(made.secret)


@app.command("invitations")
def list_invitations(as_json: Json = False) -> None:
    """List invitations: number, uses, and until when."""
    from coordinator.accounts import service as accounts

    with open_reading() as session:
        views = accounts.view_invitations(session, None, 200).items
    for one in views:
        over = "revoked" if one.revoked_at else f"until {one.expires_at:%Y-%m-%d %H:%M}"
        print_view(one, f"{one.id}  by {one.created_by}  {one.uses} of {one.max_uses} used  {over}", as_json=as_json)


@app.command("held")
def list_held(as_json: Json = False) -> None:
    """List results that wait for a decision, and those that have one."""
    from coordinator.evidence import held

    with open_reading() as session:
        results = held.list_held(session, None)
    for one in results:
        number = format_measure(one.posterior.metric_mean, one.posterior.metric_sd) if one.posterior else "no number"
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
    from coordinator.events.audit import AuditFilters, view_page

    with open_reading() as session:
        entries = view_page(session, AuditFilters(actor=by, subject=subject, key=key), None, limit).items
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
    from coordinator.moderation import queue

    with open_reading() as session:
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
    from coordinator.moderation import queue

    with act() as (session, actor):
        asked = QueueRequest(items=items, action=action, reason=reason, assignee=to)
        for entry in queue.act(session, actor, asked):
            say(entry)


def print_view(view: Message, line: str, *, as_json: bool) -> None:
    """Print a line of a list."""
    typer.echo(json.dumps(view.model_dump(mode="json")) if as_json else clean(line))
