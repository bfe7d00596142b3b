"""Each action of people has three doors, a page, the API and a command: read from the code of routes and commands."""

import dis
import inspect
from collections.abc import Callable, Iterator
from enum import EnumType
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from fastapi.routing import APIRoute
from typer.main import get_command

from coordinator.admin.duties import Action
from coordinator.app import create_app
from coordinator.cli import app as coordinator_commands
from coordinator.settings import CoordinatorSettings
from shared.moderation import AuditAction
from shared.protocol import API_PREFIX
from worker.cli import app as worker_commands

DOORS = frozenset(("page", "api", "command"))
OF_WORKERS = {AuditAction.LABEL_TOKEN: ("tokens", "label"), AuditAction.CREATE_CODE: ("tokens", "code")}
"""Actions whose command is one of `swarm-worker`, which asks the API: people do them about what is their own."""

NEEDS_NO_OTHER = {AuditAction.VERIFY_BACKUP: {"command"}}
"""Actions with fewer doors: a backup is a file on the coordinator's machine."""


def _list_mentioned(code: CodeType, names: dict[str, Any]) -> Iterator[Any]:
    """List the global and imported objects that code names, and the members of modules and enums."""
    names = names | _map_imports(code)
    for first, second in pairwise(dis.get_instructions(code)):
        if first.opname in ("LOAD_GLOBAL", "LOAD_FAST", "LOAD_DEREF") and first.argval in names:
            named = names[first.argval]
            if isinstance(named, ModuleType | EnumType) and second.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                named = getattr(named, second.argval)
            yield from named.values() if isinstance(named, dict) else [named]
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _list_mentioned(inner, names)


def _map_imports(code: CodeType) -> dict[str, Any]:
    """Map the names that code gives to its imports from the coordinator."""
    imported, module = dict[str, Any](), ""
    for first, second in pairwise(dis.get_instructions(code)):
        module = first.argval if first.opname == "IMPORT_NAME" else module
        if first.opname == "IMPORT_FROM" and module.startswith("coordinator."):
            place = import_module(module)
            found = getattr(place, first.argval, None) or import_module(f"{module}.{first.argval}")
            imported[second.argval] = found
    return imported


def find_named(command: FunctionType) -> tuple[Callable[..., object], Action] | None:
    """The function of a service that a command calls by its name."""
    cells = inspect.getclosurevars(command).nonlocals
    action = cells.get("action")
    return (getattr(import_module(cells["module"]), action.function), action) if isinstance(action, Action) else None


def find_actions(door: Callable[..., object]) -> set[AuditAction]:
    """The actions that a function can write into the audit log, itself or by what it calls in the coordinator."""
    found, seen, wanted = set[AuditAction](), set[FunctionType](), list[Any]([door])
    while wanted:
        one = wanted.pop()
        one = one.func if isinstance(one, partial) else one
        if isinstance(one, AuditAction):
            found.add(one)
        elif isinstance(one, FunctionType) and one not in seen and one.__module__.startswith("coordinator."):
            seen.add(one)
            wanted += _list_mentioned(one.__code__, one.__globals__)
            wanted += [cell.cell_contents for cell in one.__closure__ or ()]
            wanted += [named[0]] if (named := find_named(one)) else []
    return found


def list_commands() -> Iterator[FunctionType]:
    """The functions of all commands."""
    groups = [get_command(coordinator_commands)]
    while groups:
        group = groups.pop()
        groups += getattr(group, "commands", {}).values()
        if group.callback:
            yield getattr(group.callback, "__wrapped__", group.callback)


def map_doors(folder: Path) -> dict[AuditAction, set[str]]:
    """The doors of every action, by the routes that change something and the commands."""
    doors: dict[AuditAction, set[str]] = {action: set() for action in AuditAction}
    app = create_app(CoordinatorSettings(database_url=f"sqlite:///{folder}/none.db"))
    app.state.database.close()
    routes = [route for route in app.routes if isinstance(route, APIRoute) and "POST" in route.methods]
    found = [("api" if route.path.startswith(API_PREFIX) else "page", route.endpoint) for route in routes]
    found += [("command", command) for command in list_commands()]
    for door, function in found:
        for action in find_actions(function):
            doors[action].add(door)
    for action, (name, command) in OF_WORKERS.items():
        if command in get_command(worker_commands).commands[name].commands:
            doors[action].add("command")
    return doors


def test_every_action_of_people_has_a_page_an_api_and_a_command(tmp_path: Path) -> None:
    missing = {action: DOORS - doors for action, doors in map_doors(tmp_path).items() if DOORS - doors}
    assert missing == {action: DOORS - doors for action, doors in NEEDS_NO_OTHER.items()}


def test_commands_give_the_parameters_of_the_functions_that_they_name() -> None:
    for function, action in filter(None, map(find_named, list_commands())):
        wanted = [name for name, one in inspect.signature(function).parameters.items() if one.default is one.empty]
        assert ["session", "actor", *action.parameters.split(), *action.fixed] == wanted, action.function
