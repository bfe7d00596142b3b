"""Accounts of every role and state, and requests as one of them."""

from typing import Any
from uuid import uuid4

import httpx
from sqlalchemy import select

from coordinator.accounts.service import add_token, find_or_add_volunteer
from coordinator.db.database import Database
from coordinator.models import Base
from shared.protocol import API_PREFIX
from shared.workers import Role, TokenScope


class Person:
    """An account with a token; `name` is that of its account."""

    def __init__(self, http: httpx.Client, name: str, token: str) -> None:
        self.http, self.name, self.token = http, name, token
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """A request, with a key of its own where the route asks for one."""
        keys = {"Idempotency-Key": str(uuid4())}
        return self.http.request(method, path, json=body, headers=self.headers | keys | headers)

    def post(self, path: str, body: Any = None) -> httpx.Response:
        return self.send("POST", API_PREFIX + path, body)

    def get(self, path: str) -> httpx.Response:
        return self.send("GET", API_PREFIX + path)


def make_person(
    database: Database, http: httpx.Client, name: str, role: Role = Role.VOLUNTEER,
    scope: TokenScope = TokenScope.DUTIES, **columns: Any,
) -> Person:  # fmt: skip
    """An account of a role, with a token; `columns` are its sanctions."""
    with database.write() as session:
        account = find_or_add_volunteer(session, name)
        for column, value in ({"role": role} | columns).items():
            setattr(account, column, value)
        _, token = add_token(session, account, "test", scope, None)
    return Person(http, name, token)


def code_of(response: httpx.Response) -> tuple[int, str]:
    """Status and kind of a problem document."""
    return response.status_code, response.json()["type"].rpartition("/")[2]


def dump(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    with database.read() as session:
        return {
            table.name: sorted(map(tuple, session.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
        }
