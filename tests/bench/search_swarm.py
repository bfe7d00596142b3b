"""A simulated swarm on the real coordinator: its HTTP application in process, on a real database.

Volunteers come with the machines of a world (`worlds.py`) and agents that propose what exists. Time is simulated: a run
lasts 1 ± 10 %, and its result is delivered when it has ended.
"""

import heapq
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx
from fastapi import FastAPI
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.evidence import epochs
from coordinator.evidence.explanation import explain
from coordinator.evidence.quarantine import set_anchor
from coordinator.models import Commit, CommitPosterior, Project, table_of
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from shared.experiments import JobKind, Standing
from shared.leases import GrantedLease, ResultUpload
from tests.bench import landscape as sizes
from tests.bench.landscape import Landscape, Levels
from tests.bench.search_agents import KINDS, Draft, draft, read_code, write_code
from tests.bench.search_members import Member, make_fleet
from tests.bench.worlds import MIXED, World
from tests.support.in_process import open_client
from tests.support.messages import make_result, make_run

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
training_seconds = 20  # as `make_run` reports; time is simulated

[files]
editable = ["train.py"]
max_bytes = 8192

[evidence]
noise_sd = {sizes.NOISE_SD}
effect_sd = 0.002
offset_sd = {sizes.OFFSET_SD}
"""
MAX_TRIES = 12
WORKERS_PER_ANCHOR = 32
EPOCH_CHECK = 0.2
"""The coordinator looks once a minute whether an epoch is over, and a run takes five."""

RUN_SECONDS = 330.0
"""One unit of simulated time: the budget with start and scoring."""

CLAIMABLE = (Standing.VERIFIED, Standing.SINGLE_OWNER)
_POSTERIORS = table_of(CommitPosterior)
_SCORES = select(_POSTERIORS.c.hardware_class, _POSTERIORS.c.rank_score).where(
    _POSTERIORS.c.commit_sha == bindparam("sha")
)
_VERIFIED = select(_POSTERIORS.c.commit_sha, _POSTERIORS.c.hardware_class).where(_POSTERIORS.c.standing.in_(CLAIMABLE))
_BEST = (
    select(_POSTERIORS.c.commit_sha, _POSTERIORS.c.rank_score)
    .where(
        _POSTERIORS.c.project_id == 1,
        _POSTERIORS.c.hardware_class == bindparam("name"),
        _POSTERIORS.c.standing == bindparam("standing"),
    )
    .order_by(_POSTERIORS.c.rank_score)
    .limit(1)
)


@dataclass
class Tally:
    """A swarm's counts by kind of job. `tried` holds each configuration that was run as an experiment."""

    kinds: Counter[JobKind] = field(default_factory=Counter)
    wasted: int = 0
    tried: dict[Levels, None] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        return self.kinds.total()

    @property
    def measurements(self) -> int:
        return sum(runs for kind, runs in self.kinds.items() if not kind.makes_experiment)

    @property
    def experiments(self) -> int:
        return self.runs - self.measurements


class Claim(NamedTuple):
    """A verified commit: what is reported of it, minus the truth, and whether its milestone is truly a gain.

    `is_fabricated` says that its number rests on a result that somebody made up.
    """

    error: float
    is_record: bool
    is_true: bool
    is_fabricated: bool
    is_by_fabricator: bool


class Decided(NamedTuple):
    """A job that began: all commits that its lease names."""

    time: float
    shas: frozenset[str]


class Running(NamedTuple):
    """A member's run, delivered at `time`; without a lease the member only asks again."""

    time: float
    order: int
    member: Member
    lease: GrantedLease | None
    draft: Draft | None


class Swarm:
    """A fleet on one landscape."""

    def __init__(
        self, app: FastAPI, http: httpx.Client, landscape: Landscape, workers: int, seed: int, world: World
    ) -> None:
        self.database: Database = app.state.database
        self.landscape = landscape
        self.draw = Random(f"swarm {seed} {workers}")
        self.tally = Tally()
        self.ever_verified: dict[tuple[str, str], bool] = {}
        self.verified: set[tuple[str, str]] = set()
        self.decided: list[Decided] = []
        self.known_at: dict[str, float] = {}
        self.levels: dict[str, Levels] = {}
        self.fabricated: dict[str, str] = {}
        self.made_up: set[tuple[str, str]] = set()
        self._order = count()
        self._events: list[Running] = []
        self._members = make_fleet(self.database, http, world, workers, self.draw)
        self._root_files: dict[str, str] = {}

    def run(self, until: float) -> Iterator[float]:
        """Work until a moment; after each run yields the time."""
        client = self._members[0].client
        root = client.get_json("/projects/landscape")["root_sha"]
        self._root_files = client.get_json(f"/projects/landscape/commits/{root}/files")["files"]
        self.levels[root] = read_code(self._root_files["train.py"])
        self.known_at[root] = 0.0
        checked_at = 0.0
        for number, member in enumerate(self._members):
            self._begin(number * 1e-3, member)
        self._name_anchors()
        while self._events and self._events[0].time <= until:
            event = heapq.heappop(self._events)
            if event.time - checked_at >= EPOCH_CHECK:
                checked_at = event.time
                with self.database.write() as session:
                    epochs.end_epochs(session)
            if event.lease is not None:
                self._deliver(event.time, event.member, event.lease, event.draft)
                self._note_standings()
                yield event.time
            self._begin(event.time, event.member)

    def _name_anchors(self) -> None:
        """Make sound and honest workers of the commonest class anchors, as maintainers would with their own."""
        common = Counter(member.machine.hardware_class for member in self._members).most_common(1)[0][0]
        sound = [
            member for member in self._members
            if member.machine.hardware_class == common and member.machine.pair is None and not member.machine.is_broken
        ]  # fmt: skip
        with self.database.write() as session:
            for member in sound[: max(1, len(self._members) // WORKERS_PER_ANCHOR)]:
                number = member.client.name.rpartition("-")[2]
                set_anchor(session, f"volunteer-{number}", member.client.name, is_anchor=True, who="bench")

    def _begin(self, time: float, member: Member) -> None:
        """Claim a job, and draft it if it needs a draft."""
        reply = member.client.claim(hardware=member.hardware.model_dump(mode="json"), kinds=KINDS)
        if reply.lease is None:
            self._plan(time + (reply.retry_after_seconds or 30.0) / RUN_SECONDS, member)
            return
        steps = reply.lease.assignment.steps
        named = {reply.lease.base.sha, *(step.sha for step in steps), *(step.parent_sha for step in steps)}
        self.decided.append(Decided(time, frozenset(named)))
        drafted = self._draft(member, reply.lease) if reply.lease.kind.makes_experiment else None
        if drafted is None and reply.lease.kind.makes_experiment:
            member.client.release(reply.lease)
            self._plan(time + 30.0 / RUN_SECONDS, member)
            return
        self._plan(time + self.draw.uniform(0.9, 1.1), member, reply.lease, drafted)

    def _plan(
        self, time: float, member: Member, lease: GrantedLease | None = None, drafted: Draft | None = None
    ) -> None:
        heapq.heappush(self._events, Running(time, next(self._order), member, lease, drafted))

    def _draft(self, member: Member, lease: GrantedLease) -> Draft | None:
        """A draft that the coordinator accepts, None if there is nothing to do or the agent gives up."""
        tried = list(self.tally.tried)
        is_fixed = lease.kind.is_assembled and lease.kind is not JobKind.COMBINE
        for _ in range(1 if is_fixed else MAX_TRIES):
            base = self.levels[lease.base.sha]
            drafted = draft(lease, base, self.levels, tried, self.landscape.propose, self.draw)
            if drafted is None:
                return None
            if member.client.propose(lease, {"train.py": drafted.code}, proposal=drafted.proposal).accepted:
                return drafted
        return None

    def _deliver(self, time: float, member: Member, lease: GrantedLease, drafted: Draft | None) -> None:
        base = self.levels[lease.base.sha]
        levels = drafted.levels if drafted else base
        metric = member.measure(self.landscape, lease, levels, base, self.fabricated, time, self.draw)
        is_made_up = member.makes_up(lease, self.fabricated)
        changes: dict[str, Any] = {"hardware": member.hardware}
        self.tally.kinds[lease.kind] += 1
        if drafted is None:
            upload = ResultUpload(run=make_run(lease.base.sha, metric, **changes))
        else:
            files = self._root_files | lease.base.files
            upload = make_result(lease, files, {"train.py": drafted.code}, metric, **changes)
            upload = upload.model_copy(update={"proposal": drafted.proposal})
            self.tally.wasted += levels in self.tally.tried
            self.tally.tried[levels] = None
            self.levels[upload.run.commit_sha] = levels
            self.known_at.setdefault(upload.run.commit_sha, time)
            if member.machine.fabricates and member.machine.pair:
                self.fabricated[upload.run.commit_sha] = member.machine.pair
        reply = member.client.deliver(lease, upload)
        assert reply.status_code == 201, reply.text
        if is_made_up:
            self.made_up.add((upload.run.commit_sha, member.client.name))
        member.machine.jobs += 1

    def _note_standings(self) -> None:
        """Notes the commits that are called verified now, and of new ones whether they truly are a gain."""
        with self.database.read() as session:
            self.verified = {(sha, name) for sha, name in session.execute(_VERIFIED)}
            new = self.verified - self.ever_verified.keys()
            parents = dict(session.execute(select(Commit.sha, Commit.parent_sha)).all()) if new else {}
        for sha, name in new:
            self.ever_verified[sha, name] = self._is_gain(sha, name, parents, self.verified)

    def _is_gain(
        self, sha: str, name: str, parents: Mapping[str, str | None], verified: Container[tuple[str, str]]
    ) -> bool:
        """Whether a commit is truly better than its last verified ancestor in the class, or else the seed."""
        anchor = parents[sha]
        while anchor is not None and parents[anchor] is not None and (anchor, name) not in verified:
            anchor = parents[anchor]
        assert anchor is not None
        return self.landscape.value(self.levels[sha]) < self.landscape.value(self.levels[anchor]) - MIN_EFFECT

    def find_leader(self) -> float:
        """The true value of the commit that leads: in the class where the reported gain over the seed is largest."""
        root = next(iter(self.levels))
        best_gain, leader = 0.0, root
        with self.database.read() as session:
            for name, score in session.execute(_SCORES, {"sha": root}):
                for standing in (*CLAIMABLE, Standing.CORROBORATED, Standing.PROVISIONAL):
                    best = session.execute(_BEST, {"name": name, "standing": standing}).first()
                    if best is not None and score - best[1] > best_gain:
                        best_gain, leader = score - best[1], best[0]
        return self.landscape.value(self.levels[leader])

    def list_claims(self) -> list[Claim]:
        """All that the coordinator calls verified, by class; the claim is a gain over the last verified ancestor."""
        with self.database.read() as session:
            rows = list(session.scalars(select(CommitPosterior)))
            parents = dict(session.execute(select(Commit.sha, Commit.parent_sha)).all())
            project = session.get_one(Project, 1)
            fabricated = {
                (row.commit_sha, row.hardware_class)
                for row in rows
                if row.standing in CLAIMABLE and self._rests_on_fabrication(session, project, row)
            }
            session.expunge_all()
        roots = {row.hardware_class: row for row in rows if parents[row.commit_sha] is None}
        verified = {(row.commit_sha, row.hardware_class): row for row in rows if row.standing in CLAIMABLE}
        best: dict[str, float] = {}
        for (_, name), row in verified.items():
            best[name] = min(best.get(name, row.rank_score), row.rank_score)
        claims = []
        for (sha, name), row in verified.items():
            truth = self.landscape.value(self.levels[sha])
            claims.append(
                Claim(
                    error=sizes.START + row.metric_mean - roots[name].metric_mean - truth,
                    is_record=row.rank_score == best[name],
                    is_true=self._is_gain(sha, name, parents, verified),
                    is_fabricated=(sha, name) in fabricated,
                    is_by_fabricator=sha in self.fabricated,
                )
            )
        return claims

    def _rests_on_fabrication(self, session: Session, project: Project, row: CommitPosterior) -> bool:
        """Whether a result that was made up is among those that a commit's number is made of."""
        explained = explain(session, project, 0, row.commit_sha, row.hardware_class)
        return any(run.is_in_posterior and (row.commit_sha, run.worker) in self.made_up for run in explained.runs)


@contextmanager
def open_swarm(
    landscape: Landscape, workers: int, seed: int, world: World = MIXED, kind: type[Swarm] = Swarm
) -> Iterator[Swarm]:
    """A coordinator on an empty SQLite database, with a project, and its fleet."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "seed").mkdir()
        (folder / "seed" / "swarm.toml").write_text(CONTRACT)
        (folder / "seed" / "train.py").write_text(write_code(landscape.start))
        (folder / "seed" / "program.md").write_text("# Lower val_bpb\n")
        app = create_app(CoordinatorSettings(database_url=f"sqlite:///{folder}/bench.db", epoch_check_seconds=1e6))
        with open_client(app) as http:
            with app.state.database.write() as session:
                create_project(session, folder / "seed")
            yield kind(app, http, landscape, workers, seed, world)
