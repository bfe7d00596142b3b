"""Accounts of every role and state, and requests as one of them."""

from typing import Any
from uuid import uuid4

import httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from coordinator.accounts.service import add_token, find_or_add_volunteer
from coordinator.accounts.sessions import start_session
from coordinator.db.database import Database
from coordinator.models import Base
from coordinator.web.sessions import COOKIE, draw_form_token
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


class Browsing:
    """A browser in which somebody is signed in, or nobody: it keeps cookies, and sends forms with their token."""

    def __init__(self, app: FastAPI, secret: str = "") -> None:
        self.http = TestClient(app, raise_server_exceptions=False, headers={"Accept": "text/html"})
        self.secret = secret
        if secret:
            self.http.cookies.set(COOKIE, secret)

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path, follow_redirects=False)

    def post(self, path: str, **fields: object) -> httpx.Response:
        """Send a form."""
        token = draw_form_token(self.http.cookies[COOKIE]) if self.http.cookies else ""
        return self.http.post(path, data={"csrf": token} | fields, follow_redirects=False)


def browse_as(app: FastAPI, name: str, role: Role | None = None, **columns: Any) -> Browsing:
    """A browser in which an account is signed in, which gets the role if one is given; `columns` are its sanctions."""
    with app.state.database.write() as session:
        account = find_or_add_volunteer(session, name)
        for column, value in (({"role": role} if role else {}) | columns).items():
            setattr(account, column, value)
        return Browsing(app, start_session(session, account.id, TokenScope.DUTIES, "test"))
