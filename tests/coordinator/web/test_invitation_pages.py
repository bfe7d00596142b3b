"""The page of invitations: made, shown once, used, revoked, undone."""

import re

from fastapi import FastAPI

from coordinator.db.database import Database
from shared.workers import Role
from tests.support.accounts import Browsing, browse_as

PATH = "/admin/invitations"


def test_an_invitation_is_made_used_and_revoked(app: FastAPI, database: Database) -> None:
    del database
    boss = browse_as(app, "boss", Role.MODERATOR)
    made = boss.post(PATH, reason="for the <workshop>", uses="2", days="3").text
    found = re.search(r'id="new-invitation">([^<]+)<', made)
    assert found and f"/join?invitation={found[1]}" in made and "0 of 2" in made
    assert found[1] not in boss.get(PATH).text, "it is shown once"
    guest = Browsing(app)
    guest.get("/join")
    assert guest.post("/join", name="new-one", password="correct horse", invitation=found[1]).status_code == 201
    assert "1 of 2" in boss.get(PATH).text
    assert boss.post(f"{PATH}/1/revocation", reason="the workshop is over").status_code == 303
    assert '<span class="mark failed">revoked</span>' in boss.get(PATH).text
    assert guest.post("/join", name="late-one", password="correct horse", invitation=found[1]).status_code == 403
    assert boss.post(PATH, reason="too many", uses="99999").status_code == 422
    assert boss.post(f"{PATH}/9/revocation", reason="there is none").status_code == 404
