"""A simulated swarm on the real coordinator: its HTTP application in process, on a real database.

Volunteers come with the machines of a world (`worlds.py`) and agents that propose what exists. Time is simulated: a run
lasts 1 ± 10 %, and its result is delivered when it has ended.
"""

import heapq
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from math import inf
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

import httpx
from fastapi import FastAPI
from sqlalchemy import bindparam, or_, select
from sqlalchemy.orm import Session

from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.evidence.explanation import explain
from coordinator.evidence.quarantine import set_anchor
from coordinator.models import Commit, CommitPosterior, Project, table_of
from coordinator.projects.service import create_project
from coordinator.selection import combinations, frontier
from coordinator.selection.frontier import read_frontier
from coordinator.selection.parents import Candidate
from coordinator.selection.service import find_expected_best
from coordinator.settings import CoordinatorSettings
from shared.experiments import JobKind, Standing, Verdict
from shared.leases import GrantedLease, ResultUpload
from tests.bench import landscape as sizes
from tests.bench.landscape import Landscape, Levels
from tests.bench.search_agents import KINDS, Draft, draft, read_code, write_code
from tests.bench.search_members import Member, make_fleet
from tests.bench.worlds import MIXED, World
from tests.support.in_process import open_client
from tests.support.messages import make_result, make_run
from tests.support.swarm_data import end_epochs

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

[jobs]  # for agents that move constants and have no other ideas; one in eight measures, as by default
improve = 0.7
draft = 0
adopt = 0
ablate = 0
tune = 0
combine = 6.3
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
IMPROVED = "improved"
"""Beside standings that are claims, the verdict of whatever standing; agents read it as one run's, provisional."""

CLAIMS = (Standing.VERIFIED, Standing.CORROBORATED, Standing.SINGLE_OWNER)
_CLAIMED = select(*(_POSTERIORS.c[name] for name in ("commit_sha", "hardware_class", "standing", "verdict"))).where(
    or_(_POSTERIORS.c.standing.in_(CLAIMS), _POSTERIORS.c.verdict == Verdict.IMPROVED)
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


class Fate(NamedTuple):
    """How claims of one kind fared: how many were ever made, were false when made, and are not made any more at the
    end."""

    made: int
    false: int
    withdrawn: int


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
        self.ever_claimed: dict[tuple[str, str, str], bool] = {}
        self.claimed: set[tuple[str, str, str]] = set()
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
                end_epochs(self.database)
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
        if reply.status_code == HTTPStatus.CONFLICT:  # two made the very same commit in the same moment of the clock
            self.tally.wasted += 1
            return
        assert reply.status_code == HTTPStatus.CREATED, reply.text
        if is_made_up:
            self.made_up.add((upload.run.commit_sha, member.client.name))
        member.machine.jobs += 1

    def _note_standings(self) -> None:
        """Notes the claims that are made now, and of new ones whether they are true at that moment.

        A claim is a commit, a class, and a standing or IMPROVED, which claims a gain over the parent.
        """
        self.claimed = set()
        with self.database.read() as session:
            for sha, name, standing, verdict in session.execute(_CLAIMED):
                self.claimed |= {(sha, name, standing)} if standing in CLAIMS else set()
                self.claimed |= {(sha, name, IMPROVED)} if verdict == Verdict.IMPROVED else set()
            new = self.claimed - self.ever_claimed.keys()
            parents = dict(session.execute(select(Commit.sha, Commit.parent_sha)).all()) if new else {}
        verified = {(sha, name) for sha, name, claim in self.claimed if claim in CLAIMABLE}
        for sha, name, claim in new:
            above = parents[sha]
            self.ever_claimed[sha, name, claim] = (
                above is None or self.landscape.value(self.levels[sha]) < self.landscape.value(self.levels[above])
                if claim == IMPROVED
                else self._is_gain(sha, name, parents, verified)
            )

    def count_fates(self) -> dict[str, Fate]:
        """All claims that were ever made, by their kind."""
        fates = {}
        for kind in (*CLAIMS, IMPROVED):
            made = {claim: is_true for claim, is_true in self.ever_claimed.items() if claim[2] == kind}
            gone = [claim for claim in made if not self._still_holds(claim)]
            fates[str(kind)] = Fate(len(made), sum(not is_true for is_true in made.values()), len(gone))
        return fates

    def _still_holds(self, claim: tuple[str, str, str]) -> bool:
        """Whether a claim is made at the end; what was corroborated and is verified then holds."""
        sha, name, kind = claim
        kinds = CLAIMS if kind == Standing.CORROBORATED else (kind,)
        return any((sha, name, one) in self.claimed for one in kinds)

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
        """The true value of the commit that the swarm builds upon: of all classes' frontiers, the one that its model
        expects most of; before there is a model, the one whose reported gain over the seed is largest."""
        root = next(iter(self.levels))
        best_gain, leader = 0.0, root
        with self.database.read() as session:
            project = session.get_one(Project, 1)
            known: list[Candidate] = []
            for name, score in session.execute(_SCORES, {"sha": root}).all():
                known += (frontier := read_frontier(session, 1, name).candidates)
                if frontier and score - frontier[0].mean > best_gain:
                    best_gain, leader = score - frontier[0].mean, frontier[0].sha
            leader = find_expected_best(session, project, known) or leader
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
        counted = {run.worker.rpartition("/")[2] for run in explained.runs if run.is_in_posterior}
        return any((row.commit_sha, worker) in self.made_up for worker in counted)


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
        # A run's five minutes pass in a moment here: fits may take all of it, and nothing may be a second old.
        is_at_once = patch.object(combinations, "FIT_SHARE", inf), patch.object(frontier, "TRIES_SEEN_SECONDS", 0.0)
        with is_at_once[0], is_at_once[1], open_client(app) as http:
            with app.state.database.write() as session:
                create_project(session, folder / "seed")
            yield kind(app, http, landscape, workers, seed, world)
