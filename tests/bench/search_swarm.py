"""A simulated swarm on the real coordinator: its HTTP application in process, on a real database.

Volunteers come with hardware classes, offsets, crashes and agents that propose what exists; some fabricate and vouch
for their partner, some machines are broken (`landscape.py` says how many). Time is simulated: a run lasts 1 ± 10 %.
"""

import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from coordinator.accounts.service import create_token
from coordinator.app import create_app
from coordinator.db import Database
from coordinator.evidence import service as evidence
from coordinator.models import Commit, CommitPosterior
from coordinator.projects.service import create_project
from coordinator.settings import Settings
from shared.experiments import Standing
from shared.leases import Lease
from shared.results import ResultUpload
from tests.bench import landscape as world
from tests.bench.landscape import Landscape, Levels, propose
from tests.support.messages import HARDWARE, make_result, make_run
from tests.support.volunteers import MiniWorker

MIN_EFFECT = 0.0002
CONTRACT = f"""\
[project]
name = "landscape"
title = "A landscape with a known answer"
version = 1

[objective]
metric = "val_bpb"
unit = "bits per byte"
min_effect = {MIN_EFFECT}
plausible_floor = 0.5

[budget]
training_seconds = 300

[files]
editable = ["train.py"]
max_bytes = 8192

[evidence]
noise_sd = {world.NOISE_SD}
effect_sd = 0.002
offset_sd = {world.OFFSET_SD}
"""
MAX_TRIES = 3
CLAIMABLE = (Standing.VERIFIED, Standing.SINGLE_OWNER)


def write_code(levels: Levels, comment: str = "") -> str:
    lines = [f"KNOB_{number:02} = {level}" for number, level in enumerate(levels)]
    return "\n".join(([f"# {comment}"] if comment else []) + lines) + "\n"


def read_code(text: str) -> Levels:
    return tuple(int(line.split("=")[1]) for line in text.splitlines() if line.startswith("KNOB_"))


@dataclass
class Member:
    """One volunteer with one worker."""

    client: MiniWorker
    hardware_class: str
    offset: float
    is_broken: bool
    partner: str | None
    jobs: int = 0

    @property
    def fabricates(self) -> bool:
        return self.partner is not None and self.jobs >= world.HONEST_JOBS


@dataclass
class Tally:
    """What a swarm did. `seen` holds each configuration that was run as an experiment."""

    experiments: int = 0
    measurements: int = 0
    wasted: int = 0
    seen: set[Levels] = field(default_factory=set)

    @property
    def runs(self) -> int:
        return self.experiments + self.measurements


class Claim(NamedTuple):
    """A verified commit: what is reported of it, minus the truth, and whether its milestone is truly a gain."""

    error: float
    is_record: bool
    is_true: bool
    is_fabricated: bool


class Swarm:
    """A fleet on one landscape."""

    def __init__(
        self, app: FastAPI, http: TestClient, landscape: Landscape, workers: int, seed: int, *, clean: bool
    ) -> None:
        self.database: Database = app.state.database
        self.landscape = landscape
        self.draw = Random(f"swarm {seed} {workers}")
        self.tally = Tally()
        self.levels: dict[str, Levels] = {}
        self._root_files: dict[str, str] = {}
        self.fabricated: dict[str, str] = {}
        self._events: list[tuple[float, int, Member, Lease, str]] = []
        self._members = [self._make_member(http, number, workers, clean) for number in range(workers)]

    def _make_member(self, http: TestClient, number: int, workers: int, clean: bool) -> Member:
        with self.database.write() as session:
            token = create_token(session, f"volunteer-{number}", "bench")
        pairs = 0 if clean else round(workers * world.FABRICATOR_SHARE / 2)
        partner = f"pair-{number // 2}" if number // 2 < pairs else None
        is_broken = not clean and workers - number <= round(workers * world.BROKEN_SHARE)
        classes = [next(iter(world.CLASSES))] if clean else list(world.CLASSES)
        name = self.draw.choices(classes, list(world.CLASSES.values())[: len(classes)])[0]
        offset = 0.0 if workers == 1 else self.draw.gauss(0, world.OFFSET_SD)
        return Member(MiniWorker(http, token, f"worker-{number}"), name, offset, is_broken, partner)

    def run(self, until: float) -> Iterator[float]:
        """Work until a moment; after each event yields the time."""
        client = self._members[0].client
        root = client.get_json("/projects/landscape")["root_sha"]
        self._root_files = client.get_json(f"/projects/landscape/commits/{root}/files")["files"]
        for number, member in enumerate(self._members):
            self._begin(number * 1e-3, member)
        while self._events and self._events[0][0] <= until:
            time, _, member, lease, code = heapq.heappop(self._events)
            self._deliver(member, lease, code)
            self._begin(time, member)
            yield time

    def _begin(self, time: float, member: Member) -> None:
        hardware = HARDWARE.model_copy(update={"isa": member.hardware_class}).model_dump(mode="json")
        reply = member.client.claim(hardware=hardware)
        lease = reply.lease
        if lease is None:
            return
        base = read_code(lease.base.files["train.py"])
        self.levels[lease.base.sha] = base
        code = self._propose(member, lease, base) if lease.kind.makes_experiment else write_code(base)
        if code is None:
            member.client.release(lease)
            self._begin(time, member)
            return
        heapq.heappush(
            self._events, (time + self.draw.uniform(0.9, 1.1), self.draw.getrandbits(60), member, lease, code)
        )

    def _propose(self, member: Member, lease: Lease, base: Levels) -> str | None:
        for _ in range(MAX_TRIES * 4):
            levels, comment = propose(base, self.draw), ""
            if self.tally.seen and self.draw.random() < world.DUPLICATE_SHARE:
                levels, comment = self.draw.choice(sorted(self.tally.seen)), f"try {self.draw.getrandbits(30)}"
            code = write_code(levels, comment)
            if member.client.propose(lease, {"train.py": code}).accepted:
                return code
        return None

    def _measure(self, member: Member, lease: Lease, levels: Levels) -> float | None:
        shift = world.CLASS_SHIFT[member.hardware_class] + member.offset
        truth = self.landscape.value(levels) + shift
        if member.fabricates and (lease.kind.makes_experiment or self.fabricated.get(lease.base.sha) == member.partner):
            parent = self.landscape.value(self.levels[lease.base.sha]) + shift
            is_own = lease.kind.makes_experiment
            return (parent - world.FABRICATED_GAIN if is_own else truth - world.FABRICATED_GAIN) + self.draw.gauss(
                0, world.NOISE_SD
            )
        if self.draw.random() < world.CRASH_SHARE:
            return None
        if member.is_broken:
            return truth + world.BROKEN_BIAS * self.draw.random() * 2 + self.draw.gauss(0, world.BROKEN_NOISE_SD)
        return truth + self.draw.gauss(0, world.NOISE_SD)

    def _deliver(self, member: Member, lease: Lease, code: str) -> None:
        levels = read_code(code)
        metric = self._measure(member, lease, levels)
        changes = {"hardware": HARDWARE.model_copy(update={"isa": member.hardware_class})}
        if lease.kind.makes_experiment:
            upload = make_result(lease, self._root_files | lease.base.files, {"train.py": code}, metric, **changes)
            self.tally.experiments += 1
            self.tally.wasted += levels in self.tally.seen
            self.tally.seen.add(levels)
            if member.fabricates and member.partner:
                self.fabricated[upload.run.commit_sha] = member.partner
        else:
            upload = ResultUpload(run=make_run(lease.base.sha, metric, **changes))
            self.tally.measurements += 1
        self.levels[upload.run.commit_sha] = levels
        reply = member.client.deliver(lease, upload)
        assert reply.status_code == 201, reply.text
        member.jobs += 1

    def end_epochs(self) -> None:
        """What the coordinator does by itself once a minute."""
        with self.database.write() as session:
            evidence.end_epochs(session)

    def find_leader(self) -> float:
        """The true value of the commit that leads, in the class where it gained most."""
        return min(
            (self.landscape.value(self.levels[row.commit_sha]) for row in self._list_leaders()), default=world.START
        )

    def _list_leaders(self) -> list[CommitPosterior]:
        leaders = []
        with self.database.read() as session:
            for name in world.CLASSES:
                query = select(CommitPosterior).where(CommitPosterior.hardware_class.contains(name))
                query = query.where(CommitPosterior.standing.in_([*CLAIMABLE, Standing.PROVISIONAL]))
                if row := session.scalars(query.order_by(CommitPosterior.rank_score).limit(1)).first():
                    leaders.append(row)
            session.expunge_all()
        return leaders

    def list_claims(self) -> list[Claim]:
        """All that the coordinator calls verified, by class; the claim is a gain over the last verified ancestor."""
        with self.database.read() as session:
            rows = list(session.scalars(select(CommitPosterior)))
            parents = {row.sha: row.parent_sha for row in session.execute(select(Commit.sha, Commit.parent_sha))}
            session.expunge_all()
        roots = {row.hardware_class: row for row in rows if parents[row.commit_sha] is None}
        verified = {(row.commit_sha, row.hardware_class): row for row in rows if row.standing in CLAIMABLE}
        best: dict[str, float] = {}
        for (_, name), row in verified.items():
            best[name] = min(best.get(name, row.rank_score), row.rank_score)
        claims = []
        for (sha, name), row in verified.items():
            anchor = parents[sha]
            while parents[anchor] is not None and (anchor, name) not in verified:
                anchor = parents[anchor]
            truth = self.landscape.value(self.levels[sha])
            claims.append(
                Claim(
                    error=world.START + row.metric_mean - roots[name].metric_mean - truth,
                    is_record=row.rank_score == best[name],
                    is_true=truth < self.landscape.value(self.levels[anchor]) - MIN_EFFECT,
                    is_fabricated=sha in self.fabricated,
                )
            )
        return claims


@contextmanager
def open_swarm(landscape: Landscape, workers: int, seed: int, *, clean: bool = False) -> Iterator[Swarm]:
    """A coordinator on an empty SQLite database, with a project, and its fleet."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "seed").mkdir()
        (folder / "seed" / "swarm.toml").write_text(CONTRACT)
        (folder / "seed" / "train.py").write_text(write_code(landscape.start))
        (folder / "seed" / "program.md").write_text("# Lower val_bpb\n")
        app = create_app(Settings(database_url=f"sqlite:///{folder}/bench.db", epoch_check_seconds=1e6))
        with TestClient(app) as http:
            with app.state.database.write() as session:
                create_project(session, folder / "seed")
            yield Swarm(app, http, landscape, workers, seed, clean=clean)
