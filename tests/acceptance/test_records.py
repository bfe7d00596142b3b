"""A record from its first run to its published number: a real coordinator's process, and real workers' processes."""

import gzip
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count, islice
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.evidence.confirmation import CONFIRMATIONS
from coordinator.evidence.quarantine import set_anchor
from coordinator.models import Commit, Lease, Project, Run, TrustAgreement, Worker
from coordinator.models import Volunteer as Account
from coordinator.projects.service import derive_key
from shared.experiments import JobKind, Standing
from shared.protocol import now
from shared.records import RecordCommit
from swarm import Client
from tests.acceptance.conftest import Volunteer, open_swarm
from tests.support.proxy import Proxy, serve_proxy
from tests.support.sealed_project import NAME, NOISE_SD, TRAIN, average_windows, write_sealed_seed
from tests.support.tokens import create_token

pytestmark = pytest.mark.acceptance

GAIN, LIE = 0.05, 0.4


class LyingProxy(Proxy):
    """Makes what a worker reports of a commit's sealed windows better by LIE, but not the seed's."""

    lies, seed = 0, ""

    def _relay(self, client: socket.socket, request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        if lines[0].split()[1].endswith(b"/result"):
            is_packed = any(line.lower().startswith(b"content-encoding: gzip") for line in lines)
            result = json.loads(gzip.decompress(body) if is_packed else body)
            if result["run"].get("holdout_metric") is not None and result["run"]["commit_sha"] != self.seed:
                result["run"]["holdout_metric"] -= LIE
                self.lies += 1
            body = json.dumps(result).encode()
            kept = [line for line in lines if not line.lower().startswith((b"content-length", b"content-encoding"))]
            request = b"\r\n".join([*kept, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body
        client.sendall(self._ask(request))


@dataclass
class Swarm:
    """A volunteer of a name for each of its parts, and the database beside the coordinator."""

    database: Database
    volunteers: dict[str, Volunteer]
    folder: Path
    drawn: Iterator[float] = field(default_factory=lambda: count(2.1, 0.02))

    def work(self, name: str, jobs: int, *levels: float) -> None:
        """Let a volunteer's worker do jobs. Its agent proposes these levels, and then worse ones than the seed's."""
        steps = []
        for level in (*levels, *islice(self.drawn, 3 * jobs)):  # what is prepared at the end is given back
            text = TRAIN.replace("LEVEL = 2.0", f"LEVEL = {level:.2f}")
            words = {"title": f"A level of {level:.2f}", "hypothesis": "It may be lower.", "insists": "A test."}
            steps.append({**words, "axis": "LEVEL", "files": {"train.py": text}})
        script = self.folder / f"{name}-{next(self.drawn):.2f}.json"
        script.write_text(json.dumps({"steps": steps}))
        self.volunteers[name].work("--name", name, "--script", str(script), jobs=jobs)

    def find_record(self) -> RecordCommit | None:
        with Client(self.volunteers["ada"].url) as client:
            records = list(client.list_records(NAME))
        return records[0].record if records else None

    def vouch(self, name: str) -> None:
        """Let a volunteer have agreed with the anchor on three commits, over two days."""
        with self.database.write() as session:
            worker = session.scalars(select(Worker).join(Account).where(Account.name == name)).one()
            anchor = session.scalars(select(Worker).where(Worker.is_anchor)).one()
            known = session.scalars(select(Run).where(Run.worker_id == worker.id)).first()
            assert known is not None
            for day, sha in enumerate(session.scalars(select(Commit.sha).limit(3)).all()):
                session.merge(
                    TrustAgreement(
                        project_id=known.project_id, hardware_class=known.hardware_class, commit_sha=sha,
                        volunteer_id=worker.volunteer_id, by_volunteer_id=anchor.volunteer_id, is_by_anchor=True,
                        agreed_at=now() - timedelta(days=day),
                    )
                )  # fmt: skip


@pytest.fixture
def swarm(database: Database, tmp_path: Path) -> Iterator[Swarm]:
    url = database.url.render_as_string()
    with open_swarm(write_sealed_seed(tmp_path / "seed"), url, tmp_path) as ada:
        with database.write() as session:
            tokens = {name: create_token(session, name, "test") for name in ("bob", "carol", "dave", "erin")}
        others = {name: replace(ada, token=token) for name, token in tokens.items()}
        yield Swarm(database, {"ada": ada, **others}, tmp_path)


@pytest.mark.timeout(600)
def test_a_record_is_verified_by_an_anchor_confirmed_and_compared_on_sealed_windows(swarm: Swarm) -> None:
    """Bob and carol measure what ada found. Carol's worker is an anchor, and bob lies about sealed windows."""
    swarm.work("carol", 1)
    with swarm.database.write() as session:
        worker = session.scalars(select(Worker.name)).one()
        set_anchor(session, "carol", worker, is_anchor=True, who="test")
    swarm.work("ada", 3, 2.05, 2 - GAIN)
    host, port = httpx.URL(swarm.volunteers["bob"].url).host, httpx.URL(swarm.volunteers["bob"].url).port
    assert port is not None
    with serve_proxy(LyingProxy((host, port))) as proxy:
        with swarm.database.read() as session:
            proxy.seed = session.scalars(select(Project.root_sha)).one()
        swarm.volunteers["bob"] = replace(swarm.volunteers["bob"], url=proxy.url)
        swarm.work("bob", 2)
        swarm.work("carol", 2)  # the seed again, as an anchor
        for name in (
            "dave",
            "erin",
        ):  # where two differ by more than one sd, as a third of honest ones do, others are asked
            if swarm.find_record() is None:
                swarm.work(name, 3)
        assert swarm.find_record() is not None, "other volunteers and an anchor agree"
        swarm.vouch("bob")
        for jobs in (2, 4, 4):  # every second one of bob's measures
            swarm.work("bob", jobs)
            swarm.work("carol", 6)
            record = swarm.find_record()
            if record and record.confirmation and record.confirmation.holdout:
                break
        assert proxy.lies, "bob confirmed, too"
    assert record is not None and record.posterior.standing is Standing.VERIFIED
    said = record.confirmation
    assert said is not None and (said.volunteers, said.left_out) == (1, proxy.lies)
    assert said.runs >= CONFIRMATIONS, "others were asked for the runs that bob's lies cost"
    check_number(said.metric_mean, 2 - GAIN, said.metric_sd)
    check_number(said.gain_mean, -GAIN, said.gain_sd)
    sealed = said.holdout
    assert sealed is not None  # an alarm is given by chance in one of forty
    check_number(sealed.metric, 2 - GAIN, sealed.step)
    check_number(sealed.gain_mean, -GAIN, sealed.step)
    check_number(sealed.gap_mean, 0, sealed.gap_sd)
    check_keys(swarm.database)
    page = httpx.get(f"{swarm.volunteers['ada'].url}/projects/{NAME}", timeout=60).text
    assert "On sealed windows" in page and "gap to the gain on windows" in page


def check_number(found: float | None, expected: float, sd: float | None) -> None:
    assert found is not None and sd is not None and 0 < sd < 6 * NOISE_SD
    assert abs(found - expected) < 5 * sd


def check_keys(database: Database) -> None:
    """Each confirmation scored the windows that follow from its commit, its lease and the project's secret."""
    with database.read() as session:
        project = session.scalars(select(Project)).one()
        query = select(Run, Lease).join(Lease, Lease.id == Run.lease_id).join(Worker, Worker.id == Run.worker_id)
        is_carols = Run.kind == JobKind.CONFIRM, Account.name == "carol"
        rows = session.execute(query.join(Account).where(*is_carols)).all()
        keys = {derive_key(session, project, lease.base_sha, lease.id) for _, lease in rows}
        assert len(keys) == len(rows) >= 2
        for run, lease in rows:
            key = derive_key(session, project, lease.base_sha, lease.id)
            assert run.metric is not None and run.holdout_metric is not None
            expected = average_windows("sealed", key) - average_windows("pool", run.seed)
            assert run.holdout_metric - run.metric == pytest.approx(expected, abs=1e-8)
