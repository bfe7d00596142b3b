"""Accounts over HTTP: the ways in."""

from fastapi import APIRouter, Request, status

from coordinator.accounts import service
from coordinator.accounts.service import JoinRules
from coordinator.db.database import CurrentDatabase
from coordinator.http.addresses import ClientAddress
from coordinator.http.parameters import KNOWN_ONLY
from shared.protocol import API_PREFIX
from shared.workers import Account, SignIn, SignUp

router = APIRouter(prefix=API_PREFIX, tags=["accounts"], dependencies=KNOWN_ONLY)


@router.post("/accounts", status_code=status.HTTP_201_CREATED)
def sign_up(asked: SignUp, request: Request, address: ClientAddress, database: CurrentDatabase) -> Account:
    """Make an account. Its token comes with the answer, and never again."""
    with database.write() as session:
        return service.sign_up(session, asked, JoinRules.of(request.app.state.settings), address)


@router.post("/sign-in", status_code=status.HTTP_201_CREATED)
def sign_in(asked: SignIn, database: CurrentDatabase) -> Account:
    """Exchange a sign-in link, once, for a token that lasts 30 days and carries the duties of the account's role."""
    with database.write() as session:
        return service.sign_in(session, asked)
