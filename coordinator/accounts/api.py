"""Accounts over HTTP: the ways in, and whose a token is."""

from fastapi import APIRouter, Request, status

from coordinator.accounts import service
from coordinator.accounts.security import BearerToken
from coordinator.accounts.service import JoinRules
from coordinator.db.database import ReadSession, WriteSession
from coordinator.http.addresses import ClientAddress
from coordinator.http.parameters import KNOWN_ONLY
from shared.protocol import API_PREFIX
from shared.workers import Account, OwnAccount, SignIn, SignUp

router = APIRouter(prefix=API_PREFIX, tags=["accounts"], dependencies=KNOWN_ONLY)


@router.post("/accounts", status_code=status.HTTP_201_CREATED)
def sign_up(asked: SignUp, request: Request, address: ClientAddress, session: WriteSession) -> Account:
    """Make an account. Its token comes with the answer, and never again."""
    return service.sign_up(session, asked, JoinRules.of(request.app.state.settings), address)


@router.post("/sign-in", status_code=status.HTTP_201_CREATED)
def sign_in(asked: SignIn, session: WriteSession) -> Account:
    """Exchange, once, a sign-in link for a token that lasts 30 days and carries the duties of the account's role, or a
    code for a worker's token."""
    return service.sign_in(session, asked)


@router.get("/account")
def get_own_account(session: ReadSession, token: BearerToken) -> OwnAccount:
    """The account that this request's token belongs to."""
    return service.view_own(session, token)
