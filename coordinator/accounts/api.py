"""Accounts over HTTP."""

from fastapi import APIRouter, Request, status

from coordinator.accounts import service
from coordinator.db.database import CurrentDatabase
from coordinator.settings import CoordinatorSettings
from shared.protocol import API_PREFIX
from shared.workers import Account, SignUp

router = APIRouter(prefix=API_PREFIX, tags=["accounts"])


@router.post("/accounts", status_code=status.HTTP_201_CREATED)
def sign_up(asked: SignUp, request: Request, database: CurrentDatabase) -> Account:
    """Make an account. Its token comes with the answer, and never again."""
    settings: CoordinatorSettings = request.app.state.settings
    with database.write() as session:
        return service.sign_up(session, asked, settings.sign_ups_per_hour)
