"""Snapshots: the same bytes for the same state, nothing private in them, and archives' own checks of their words."""

import hashlib
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from pyarrow import parquet
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from coordinator.admin.integrity import find_problems
from coordinator.app import create_app
from coordinator.autoresearch.reading import ImportOptions
from coordinator.autoresearch.service import import_session
from coordinator.db.database import Database
from coordinator.events import history
from coordinator.evidence import quarantine
from coordinator.evidence.calibration_queries import list_unsettled
from coordinator.export import citation
from coordinator.export.service import SnapshotError
from coordinator.export.snapshot import write_snapshot
from coordinator.findings import service as findings
from coordinator.models import HistoryKey, Run, Volunteer
from coordinator.projects import service as projects
from coordinator.projects.settings import lock_project, merge, settings_of, store_settings
from coordinator.settings import CoordinatorSettings
from shared import checkpoints
from shared.export import SnapshotView
from shared.findings import FindingDraft
from swarm.publish import prepare
from swarm.verify import verify_folder
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import make_proposal
from tests.support.sessions import BRANCH, HARDWARE, write_small_session
from tests.support.swarm_data import EarlierHistory, History

SECRETS = ("mallory's secret paper", "holdout-secret", "moderator's reason", "ada@example.org")


@pytest.fixture
def earlier() -> EarlierHistory:
    return EarlierHistory(9, others=("other",))


@pytest.fixture
def licensed(database: Database) -> Database:
    """A project that states a licence, with somebody in quarantine and somebody who agreed to be named."""
    with database.write() as session:
        project = projects.get_project(session, "tiny")
        past = History(session, project)
        mallory = past.add_worker("w1", "mallory")
        proposal = make_proposal(SECRETS[0])
        past.add_experiment(mallory, project.root_sha, 3.1, proposal, FindingDraft(claim=SECRETS[0], agent="search"))
        quarantine.set_quarantine(session, "mallory", None, SECRETS[2], "root")
        for account in session.scalars(select(Volunteer)).all():
            findings.hide_quarantined(session, account.id)
            account.address_sha256, account.suspension = "ab" * 32, None
        session.execute(update(Volunteer).where(Volunteer.name == "ada").values(cited_as="Ada King & Co Lovelace"))
        session.execute(update(Run).values(holdout_metric=1.25))
        project = lock_project(session, "tiny")
        changed = merge(settings_of(project), {"data_licence": "CC-BY-4.0", "members": "grace"})
        store_settings(session, project, changed, "root", "agreed")
    return database


@pytest.fixture
def snapshot(licensed: Database, tmp_path: Path) -> Path:
    write_snapshot(licensed, "tiny", "tiny-2026", tmp_path / "snapshot", "https://swarm.example.org", lambda line: None)
    return tmp_path / "snapshot"


def read_sums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def reseal(folder: Path) -> None:
    """Make the checksums fit the files, as anybody can."""
    sums = read_sums(folder)
    names = [name for name in sums if not name.startswith("SHA256SUMS")]
    (folder / "SHA256SUMS").write_text("".join(f"{sums[name]}  {name}\n" for name in names))


class BusyDatabase(Database):
    """A database into which a result comes just before the first two reads."""

    results = 2

    @contextmanager
    def read(self) -> Iterator[Session]:
        if self.results:
            self.results -= 1
            with self.write() as session:
                past = History(session, projects.get_project(session, "tiny"))
                past.measure(past.add_worker(), past.project.root_sha, 3.3)
        with super().read() as session:
            yield session


def test_a_snapshot_that_is_made_while_results_come_verifies(licensed: Database, tmp_path: Path) -> None:
    with closing(BusyDatabase(licensed.url.render_as_string(hide_password=False))) as busy:
        view = write_snapshot(busy, "tiny", "tiny-2026", tmp_path / "snapshot", "", lambda line: None)
    assert verify_folder(tmp_path / "snapshot", None, None).problems == [] and view.runs == 15, view.runs


def test_the_same_state_gives_the_same_bytes_and_both_verify(
    licensed: Database, snapshot: Path, tmp_path: Path
) -> None:
    write_snapshot(licensed, "tiny", "tiny-2026", tmp_path / "again", "https://swarm.example.org", lambda line: None)
    assert read_sums(snapshot) == read_sums(tmp_path / "again")
    assert verify_folder(snapshot, None, None).problems == []
    (tmp_path / "again" / "runs.csv").write_bytes((snapshot / "runs.csv").read_bytes().replace(b"3.3", b"3.1", 1))
    reseal(tmp_path / "again")
    assert any(
        "SHA256SUMS.note is no signature" in one for one in verify_folder(tmp_path / "again", None, None).problems
    )
    checked = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=snapshot, check=False)
    assert checked.returncode == 0
    with licensed.write() as session:
        past = History(session, projects.get_project(session, "tiny"))
        past.measure(past.add_worker(), past.project.root_sha, 3.3)
    write_snapshot(licensed, "tiny", "tiny-2026", tmp_path / "later", "https://swarm.example.org", lambda line: None)
    assert verify_folder(tmp_path / "later", snapshot / "checkpoint", None).problems == []
    with pytest.raises(SnapshotError, match="exists already"):
        write_snapshot(licensed, "tiny", "tiny-2026", snapshot, "", lambda line: None)


@ON_ONE_ENGINE
def test_a_key_that_was_replaced_signs_no_snapshot(licensed: Database, tmp_path: Path) -> None:
    folder = tmp_path / "snapshot"
    with licensed.write() as session:
        history.rotate_key(session)
    history.append_pending(licensed)  # the log begins with the second key
    with licensed.write() as session:
        history.rotate_key(session)
        _, old, new = session.scalars(select(HistoryKey.secret).order_by(HistoryKey.id)).all()
    write_snapshot(licensed, "tiny", "tiny-2026", folder, "", lambda line: None)
    assert verify_folder(folder, None, None).problems == []
    (folder / "README.md").write_text("Other words")
    reseal(folder)
    origin = checkpoints.parse((folder / "checkpoint").read_text()).origin
    statement = checkpoints.head_of_sums(origin, (folder / "SHA256SUMS").read_bytes())
    for secret, problems in ((new, 0), (old, 1)):
        assert secret is not None
        (folder / "SHA256SUMS.note").write_text(checkpoints.sign(statement, [secret]))
        assert len(verify_folder(folder, None, None).problems) == problems


@ON_ONE_ENGINE
def test_nothing_private_is_in_it(snapshot: Path) -> None:
    for path in snapshot.iterdir():
        content = path.read_bytes()
        for secret in SECRETS:
            assert secret.encode() not in content, (path.name, secret)
        assert b"ab" * 32 not in content and b"mallory's" not in content, path.name
    with closing(sqlite3.connect(snapshot / "snapshot.db")) as database:
        rows = {name: database.execute(f"select count(*) from {name}").fetchone()[0] for (name,) in database.execute(
            "select name from sqlite_schema where type = 'table' and name not like 's%'"
        )}  # fmt: skip
        private = (
            "tokens", "browser_sessions", "passwords", "invitations", "audit_entries",
            "holdout_secrets", "finding_reports", "queue_marks", "context_packs", "events",
            "project_versions", "notice_positions",
        )  # fmt: skip
        assert [rows[name] for name in private] == [0] * len(private)
        assert rows["projects"] == 1 and rows["experiments"] == 10 and rows["findings"] == 10
        assert database.execute("select count(*) from runs where holdout_metric is not null").fetchone() == (0,)
        assert database.execute("select count(*) from history_keys where secret is not null").fetchone() == (0,)
        assert database.execute("select quarantine from volunteers where name = 'mallory'").fetchone() == (
            "in quarantine",
        )
        assert "grace" not in database.execute("select settings from projects").fetchone()[0]


@ON_ONE_ENGINE
def test_it_describes_itself_as_archives_ask(snapshot: Path, tmp_path: Path) -> None:
    checker = [
        str(Path(sys.executable).with_name("check-jsonschema")),
        "--builtin-schema",
        "vendor.citation-file-format",
    ]
    view = SnapshotView.model_validate_json((snapshot / "snapshot.json").read_bytes())
    written = [snapshot / "CITATION.cff"]
    for number, licence in enumerate(citation.LICENCES):
        plain = view.model_copy(update={"licence": licence, "question": "", "title": 'T: "x" # {a}'})
        written.append(tmp_path / f"{number}.cff")
        written[-1].write_text(citation.write_cff(plain, ""))
    checked = subprocess.run([*checker, *map(str, written)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    cff = yaml.safe_load((snapshot / "CITATION.cff").read_text())
    names = [author.get("family-names") or author["name"] for author in cff["authors"]]
    assert names == ["Lovelace", "The volunteers of A tiny language model"] or names[0] == "Lovelace", names
    assert cff["license"] == "CC-BY-4.0" and cff["version"] == "tiny-2026"
    zenodo = json.loads((snapshot / ".zenodo.json").read_text())
    assert zenodo["creators"][0] == {"name": "Lovelace, Ada King & Co"} and zenodo["license"] == "cc-by-4.0"
    bibtex = (snapshot / "citation.bib").read_text()
    assert r"Lovelace, Ada King \& Co" in bibtex and "Snapshot tiny-2026 of 20" in bibtex
    head = yaml.safe_load((snapshot / "README.md").read_text().split("---\n")[1])
    assert head["license"] == "cc-by-4.0"
    for config in head["configs"]:
        assert parquet.read_table(snapshot / config["data_files"]).num_rows >= 0
    assert view.experiments == 10 and view.epochs
    scored = view.model_copy(update={"self_scored": True})
    for write in (citation.write_zenodo, citation.write_card, lambda of: citation.write_cff(of, "")):
        assert citation.SELF_SCORED in write(scored) and citation.SELF_SCORED not in write(view)
    assert "; self-scored}" in citation.write_bibtex(scored, "")


@ON_ONE_ENGINE
def test_a_session_is_cited_with_those_who_wrote_its_commits(database: Database, tmp_path: Path) -> None:
    """They stand in its commits and papers; it was cited as by "the volunteers of imported"."""
    session = write_small_session(tmp_path / "autoresearch")
    options = ImportOptions(session.folder, BRANCH, session.results, HARDWARE, name="imported")
    with database.read() as read, database.write() as write:
        import_session(read, write, options)
        project = lock_project(write, "imported")
        store_settings(write, project, merge(settings_of(project), {"data_licence": "CC-BY-4.0"}), "root", "agreed")
    view = write_snapshot(database, "imported", "imported-1", tmp_path / "snapshot", "", lambda line: None)
    assert view.people == ["ada"], "rows without a commit have an unknown author"


@ON_ONE_ENGINE
def test_names_and_braces_of_all_kinds_are_cited_as_they_are(snapshot: Path) -> None:
    view = SnapshotView.model_validate_json((snapshot / "snapshot.json").read_bytes())
    people = ["Lovelace, Ada", "Grace and Hopper", "Zo\u00eb }{ O'Neil", "root"]
    view = view.model_copy(update={"title": "A { b \\} c", "people": people})
    creators = [one["name"] for one in json.loads(citation.write_zenodo(view))["creators"]]
    assert creators == ["Lovelace, Ada", "Hopper, Grace and", "O'Neil, Zo\u00eb }{", "root"]
    assert {"given-names": "Ada", "family-names": "Lovelace"} in yaml.safe_load(citation.write_cff(view, ""))["authors"]
    bibtex = citation.write_bibtex(view, "https://swarm.example.org")
    deep = [bibtex[:at].count("{") - bibtex[:at].count("}") for at in range(1, len(bibtex) + 1)]
    ends = [at for at in range(1, len(deep)) if deep[at] == 0 and deep[at - 1] > 0]
    assert ends == [len(bibtex) - 2], "BibTeX counts braces, those with a backslash before them, too"


@ON_ONE_ENGINE
def test_a_project_without_a_licence_has_none(database: Database, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="states no licence"):
        write_snapshot(database, "tiny", "tiny-2026", tmp_path / "snapshot", "", lambda line: None)
    assert list(tmp_path.glob("*snapshot*")) == []


@pytest.fixture
def served(snapshot: Path) -> Iterator[TestClient]:
    settings = CoordinatorSettings(database_url=f"sqlite:///{snapshot}/snapshot.db")
    with TestClient(create_app(settings, snapshot="Snapshot tiny-2026 of 2026-11-30")) as client:
        yield client


@ON_ONE_ENGINE
def test_it_is_served_and_refuses_to_be_changed(served: TestClient) -> None:
    experiments = served.get("/api/v1/experiments?project=tiny&limit=200").json()["items"]
    assert len(experiments) == 10
    addresses = [
        "/", "/projects/tiny", "/projects/tiny/experiments", "/projects/tiny/branches", "/projects/tiny/tree",
        "/projects/tiny/settings", "/projects/tiny/workers", "/findings?project=tiny", "/projects/tiny/topics",
        "/workers", "/leaderboard", "/status", "/volunteers/ada", "/projects/tiny/digests",
        *(f"/experiments/{one['id']}" for one in experiments),
    ]  # fmt: skip
    for address in addresses:
        page = served.get(address, headers={"Accept": "text/html"})
        assert page.status_code == 200, (address, page.status_code)
        assert "Snapshot tiny-2026 of 2026-11-30" in page.text, address
        assert SECRETS[0] not in page.text
    refused = served.post("/api/v1/accounts", json={"name": "eve"})
    assert refused.status_code == 405 and "Snapshot tiny-2026 of 2026-11-30" in refused.json()["detail"]
    assert served.post("/sign-in", data={}, headers={"Accept": "text/html"}).status_code == 405
    assert served.delete("/api/v1/tokens/1").status_code == 405
    asked = served.post("/api/v1/findings/tried", json={"project": "tiny", "text": "a lower learning rate"})
    assert asked.status_code == 200
    assert "; Snapshot tiny-2026 of 2026-11-30}" in served.get("/api/v1/findings/1/bibtex").text
    assert served.get("/git/tiny.git/info/refs?service=git-upload-pack").status_code == 200


@ON_ONE_ENGINE
def test_what_is_served_is_whole(snapshot: Path) -> None:
    with closing(Database(f"sqlite:///{snapshot}/snapshot.db")) as database, database.read() as session:
        problems = [one for one in find_problems(session, lambda what, done, total: None) if "says of paper" not in one]
        assert problems == [] and list_unsettled(session) == [], "what a quarantine leaves for later is done before"


@ON_ONE_ENGINE
def test_both_layouts_are_prepared_and_nothing_is_sent(snapshot: Path, tmp_path: Path) -> None:
    lines = list(prepare(snapshot, tmp_path / "out"))
    assert "Nothing has been sent" in lines[0] and "hf upload" in lines[1]
    assert json.loads((tmp_path / "out/zenodo/deposit.json").read_text())["metadata"]["upload_type"] == "dataset"
    for place in ("huggingface", "zenodo/files"):
        assert read_sums(tmp_path / "out" / place) == read_sums(snapshot)
    for command in lines[1:]:
        assert (
            re.search(r":  ", command)
            and subprocess.run(["sh", "-n", "-c", command.split(":  ", 1)[1]]).returncode == 0
        )
