"""The history of a project: everything enters, proofs hold, and it goes on from where it was."""

import json
from base64 import b64decode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from coordinator.db.database import Database
from coordinator.events import history
from coordinator.events.history_leaves import find_differences
from coordinator.evidence import quarantine
from coordinator.findings import revisions
from coordinator.models import HistoryKey, Volunteer
from coordinator.projects import service as projects
from shared import checkpoints
from shared.findings import NoteKind
from shared.merkle import hash_leaf
from swarm.verify import verify_folder
from tests.support.history import write_export
from tests.support.merkle_proofs import is_consistent, is_included
from tests.support.swarm_data import EarlierHistory, History
from tests.support.volunteers import MiniWorker

API = "/api/v1/projects/tiny"


@pytest.fixture
def earlier() -> EarlierHistory:
    return EarlierHistory(9)


def read_log(http: TestClient) -> list[tuple[str, dict[str, object]]]:
    lines = http.get(f"{API}/export/history.jsonl").text.splitlines()
    return [next(iter(json.loads(line).items())) for line in lines]


def test_each_run_is_proved_and_the_log_only_grows(database: Database, http: TestClient) -> None:
    assert http.get(f"{API}/history/checkpoint").status_code == 404
    history.append_pending(database)
    first = http.get(f"{API}/history/checkpoint").text
    old = checkpoints.parse(first)
    log = read_log(http)
    assert old.size == len(log) and log[0][0] == "log"
    _, public = checkpoints.parse_key(str(log[0][1]["key"]))
    assert checkpoints.is_signed_by(first, public)
    with database.write() as session:
        past = History(session, projects.get_project(session, "tiny"))
        past.measure(past.add_worker("w9"), past.project.root_sha, 3.3)
    assert http.get(f"{API}/history/checkpoint").text == first, "a new entry has no place yet"
    history.append_pending(database)
    proof = http.get(f"{API}/history/consistency", params={"since": old.size}).json()
    new = checkpoints.parse(proof["checkpoint"])
    assert new.size == old.size + 1
    assert is_consistent(old.size, old.root, new.size, new.root, [bytes.fromhex(one) for one in proof["hashes"]])
    for run in http.get("/api/v1/runs?project=tiny").json()["items"]:
        proof = http.get(f"{API}/history/inclusion/{run['id']}").json()
        said = json.loads(proof["leaf"])["result"]
        assert (said["id"], said["metric"], said["uuid"]) == (run["id"], run["metric"], run["uuid"])
        hashes = [bytes.fromhex(one) for one in proof["hashes"]]
        assert is_included(hash_leaf(proof["leaf"].encode()), proof["number"], new.size, hashes, new.root)
    assert http.get(f"{API}/history/inclusion/999").status_code == 404
    assert http.get(f"{API}/history/consistency?since=9999").status_code == 404
    with database.read() as session:
        assert list(find_differences(session)) == []


def test_papers_notes_and_decisions_enter_without_their_private_parts(database: Database, http: TestClient) -> None:
    with database.write() as session:
        ada = session.scalars(select(Volunteer).where(Volunteer.name == "ada")).one()
        revisions.add_note(session, 2, ada.id, NoteKind.RETRACTION, "a broken shard", uuid4())
        quarantine.set_quarantine(session, "ada", "w1", "its numbers do not repeat", "root")
        quarantine.set_anchor(session, "ada", "w1", is_anchor=True, who="root")
    history.append_pending(database)
    log = read_log(http)
    kinds = [kind for kind, _ in log]
    assert kinds.count("paper") == 9 and kinds[-3:] == ["note", "moderation", "moderation"]
    assert log[-2][1]["in_quarantine"] is True and log[-1][1]["is_anchor"] is True
    assert not any(word in str(log) for word in ("a broken shard", "do not repeat", "root'"))


def test_a_new_key_is_named_by_the_old_one(database: Database, tmp_path: Path) -> None:
    before = write_export(database, "tiny", tmp_path / "before")
    with database.write() as session:
        history.rotate_key(session)
    after = write_export(database, "tiny", tmp_path / "after")
    with database.read() as session:
        keys = session.scalars(select(HistoryKey.public).order_by(HistoryKey.id)).all()
        trusted = json.loads((before / "history.jsonl").read_text().splitlines()[0])["log"]["key"]
    note = (after / "checkpoint").read_text()
    assert [checkpoints.is_signed_by(note, key) for key in keys] == [True, True]
    assert verify_folder(after, before / "checkpoint", trusted).problems == []
    with database.write() as session:
        past = History(session, projects.get_project(session, "tiny"))
        past.measure(past.add_worker("w9"), past.project.root_sha, 3.3)
    later = write_export(database, "tiny", tmp_path / "later")
    note = (later / "checkpoint").read_text()
    assert [checkpoints.is_signed_by(note, key) for key in keys] == [False, True]
    assert verify_folder(later, before / "checkpoint", trusted).problems == []
    with database.read() as session:
        assert list(find_differences(session)) == []


def test_what_a_worker_delivers_enters_with_it(
    database: Database, http: TestClient, make_worker: Callable[..., MiniWorker], tmp_path: Path
) -> None:
    worker = make_worker()
    worker.experiment("a smaller step")
    with database.read() as session:
        assert session.scalar(text("select count(*) from history_entries where number is null")) > 0
    assert verify_folder(write_export(database, "tiny", tmp_path / "dump"), None, None).problems == []


def test_a_root_is_what_another_program_computes(database: Database, http: TestClient) -> None:
    """By the recursive definition of RFC 6962, from the lines alone."""

    def tree_hash(lines: list[bytes]) -> bytes:
        if len(lines) == 1:
            return sha256(b"\0" + lines[0]).digest()
        middle = 1
        while middle * 2 < len(lines):
            middle *= 2
        return sha256(b"\1" + tree_hash(lines[:middle]) + tree_hash(lines[middle:])).digest()

    history.append_pending(database)
    lines = http.get(f"{API}/export/history.jsonl").content.splitlines()
    root = http.get(f"{API}/history/checkpoint").text.splitlines()[2]
    assert b64decode(root) == tree_hash(lines)
