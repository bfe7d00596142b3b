"""A swarm with sybils or liars on the real coordinator, over HTTP in process and on a real database, in simulated time.

Honest volunteers experiment and check; sybils are accounts of one attacker, who compute nothing. While they are patient
they report what honest machines would. Then one of them claims a gain that does not exist, and all of them repeat it.
They also propose its code in order to measure it. Liars do not know each other: each lies in its own style.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from unittest.mock import patch

import httpx
from sqlalchemy import select

from coordinator.app import create_app
from coordinator.db import cache
from coordinator.db.database import Database
from coordinator.evidence import changes, epochs
from coordinator.evidence.calibration_queries import find_vouching
from coordinator.evidence.quarantine import set_anchor
from coordinator.experiments import lookup
from coordinator.models import Commit, CommitPosterior, Project, Volunteer, Worker
from coordinator.projects.service import create_project
from coordinator.selection import combinations, frontier
from coordinator.selection import service as selection
from coordinator.settings import CoordinatorSettings
from shared.experiments import ProposalSubmission, Standing
from shared.leases import GrantedLease, ResultUpload
from shared.protocol import use_clock
from shared.runs import Hardware, RunSeconds
from tests.support.in_process import open_client
from tests.support.messages import HARDWARE, describe_change, make_result, make_run
from tests.support.swarm_data import end_epochs
from tests.support.tokens import create_token
from tests.support.volunteers import MiniWorker

NOISE_SD, OFFSET_SD, EFFECT_SD, MIN_EFFECT = 0.0005, 0.003, 0.002, 0.0005
START = 1.0
LIE = 0.008
"""Gain that a lie claims: four times a typical effect, and less than what waits for a maintainer."""

ROUNDS_PER_LIE = 5
"""Sybils claim one thing at a time, and check it meanwhile; their other experiments are no gain."""

DULL = 0.004
LIARS_LIE, LIARS_SHARE = 0.02, 2 / 3
"""Largest gain that a liar adds, and the share of its results to which it does."""

LIARS_NOISE = 10 * NOISE_SD
HONEST_JOBS = 12
"""Number of jobs for which a liar of the style LATE is honest."""

JOBS_OF_A_NAME = 6
"""Number of jobs after which a liar of the style RENAMED goes on under another account."""

TRIES_OF_LUCKY = 3

CHOOSING = 0.1
BEGUN = datetime(2026, 1, 5, tzinfo=UTC)
"""A commit's name depends on its time, and on names what is chosen of two that are alike."""

BUDGET = timedelta(seconds=120)
JOB = timedelta(seconds=140)
FOREIGN = HARDWARE.model_copy(update={"isa": "a chip that nobody else has"})
assert FOREIGN.hardware_class != HARDWARE.hardware_class
CONTRACT = f"""\
[project]
name = "question"
title = "A question with a known answer"
version = 1

[objective]
metric = "val_bpb"
unit = "bits per byte"
min_effect = {MIN_EFFECT}
plausible_floor = 0.5

[budget]
training_seconds = {BUDGET.total_seconds():g}
may_end_early = false

[files]
editable = ["train.py"]

[jobs]
improve = 2
replicate = 2
control = 0

[evidence]
noise_sd = {NOISE_SD}
effect_sd = {EFFECT_SD}
offset_sd = {OFFSET_SD}
"""


class Style(StrEnum):
    """How a liar lies. The seed, by which it is calibrated, each measures as it is."""

    RANDOM = "up to 0.02 better, two of three"
    CONTRADICTS = "others' 0.008 worse"
    COPIES = "own 0.008 better, repeats authors"
    ABANDONS = "as the first, checks abandoned"
    LATE = "honest for 12 jobs, then as the first"
    NOISE = "ten times the noise"
    CONSTANT = "0.008 better, always"
    RENAMED = "others' 0.008 worse, a new account after 6 jobs"
    WITHHOLDS = "checks of gains abandoned, else honest"
    LUCKY = "own best of three runs, bad ones withdrawn"
    FAILS = "fail in checks of others"
    ALONE = "own 0.008 better, fails elsewhere"


@dataclass(frozen=True)
class Attack:
    """An attack and who is there; `liars` are beside the honest. Sybils lie after `patience`; `foreign` ones then in a
    hardware class that they invent. The anchor works all the time, or leaves two days before they begin to lie.
    `vouched_verify`: the contract lets vouched volunteers stand in for it. It ends when `enough` true gains are
    verified.
    """

    sybils: int
    honest: int
    liars: int = 0
    style: Style = Style.RANDOM
    has_anchor: bool = True
    patience: timedelta = timedelta(0)
    foreign: bool = False
    anchor_leaves: bool = False
    vouched_verify: bool = False
    patient_jobs: int = 12
    rounds: int = 12
    enough: int = 1_000


@dataclass
class Outcome:
    """`verified` are all that ever were, `false` those that gain less than they claim, `corroborated` the lies that had
    that standing; `vouched` sybils when they began to lie; `true_after` the jobs until each true one was verified, and
    `vouched_after` each sybil's until it was vouched. `honest_gains` are honest volunteers' experiments that gain at
    least MIN_EFFECT, and `suspect_for` counts the rounds in which each of those that ever were was suspect;
    `built_on_lies` the honest experiments upon what liars made up."""

    verified: set[tuple[str, str]] = field(default_factory=set)
    false: set[tuple[str, str]] = field(default_factory=set)
    corroborated: set[tuple[str, str]] = field(default_factory=set)
    vouched: int = 0
    runs: int = 0
    lies: int = 0
    true_after: list[int] = field(default_factory=list)
    vouched_after: dict[str, int] = field(default_factory=dict)
    suspect_for: Counter[str] = field(default_factory=Counter)
    honest_gains: set[str] = field(default_factory=set)
    built_on_lies: int = 0


@dataclass
class Member:
    """A volunteer with one worker. Its own numbers give its offset and its experiments' effects, which are so the same
    whoever else is there."""

    name: str
    client: MiniWorker
    draw: Random
    offset: float
    is_sybil: bool = False
    is_liar: bool = False
    hardware: Hardware = HARDWARE
    jobs: int = 0
    pace: float = 1.0


class SybilSwarm:
    """The simulation: rounds in which each member does one job, all at once."""

    job = JOB
    """Time of a round."""

    def __init__(self, database: Database, http: httpx.Client, attack: Attack, seed: int) -> None:
        self.database, self.attack, self.seed, self.draw = database, attack, seed, Random(seed)
        self.http = http
        self.time = BEGUN
        self.truth: dict[str, float] = {}
        self.claimed: dict[str, float] = {}
        self.reported: dict[str, float] = {}
        self.code: dict[str, str] = {}
        self.authors: dict[str, Member] = {}
        self.outcome = Outcome()
        self.is_lying = False
        names = [f"honest-{n}" for n in range(attack.honest)] + [f"sybil-{n}" for n in range(attack.sybils)]
        names += [f"liar-{n}" for n in range(attack.liars)]
        self.members = [self._join(name) for name in names]
        self.anchor = self._join("maintainer") if attack.has_anchor else None
        self._number = 0
        self._lied: list[str] = []
        self._roots: set[str] = set()
        self._files: dict[str, str] = {}
        self._rounds_since_lie = ROUNDS_PER_LIE

    def _join(self, name: str) -> Member:
        with self.database.write() as session:
            token = create_token(session, name, "bench")
        role = {"is_sybil": name.startswith("sybil"), "is_liar": name.startswith("liar")}
        draw = Random(f"{name} {self.seed}")
        return Member(name, MiniWorker(self.http, token, f"{name}-w"), draw, draw.gauss(0, OFFSET_SD), **role)

    def run(self) -> Outcome:
        with self._let_nothing_else_draw():
            self._begin()
            attack, pause = self.attack, self.attack.patience / max(1, self.attack.patient_jobs)
            for number in range(attack.patient_jobs if attack.patience else 0):
                self._do_round(with_anchor=True)
                self._end_epochs()
                self._list_vouched()
                if number < attack.patient_jobs - 1 or not attack.anchor_leaves:
                    self.time += max(pause - self.job, timedelta(0))
            self.outcome.vouched = len(self._list_vouched())
            self.is_lying = True
            if attack.anchor_leaves:
                self.time += timedelta(days=2)
            for _ in range(attack.rounds):
                if len(self.outcome.true_after) >= attack.enough:
                    break
                self._rounds_since_lie += 1
                self._do_round(with_anchor=not attack.anchor_leaves)
                self._end_epochs()
                self._count_suspects()
            with self.database.read() as session:
                assert list(epochs.find_differences(session)) == []
        return self.outcome

    @contextmanager
    def _let_nothing_else_draw(self) -> Iterator[None]:
        """The coordinator draws from these numbers, too, and its caches age by this clock: with one seed all goes alike
        on each machine."""
        moments = count()
        with ExitStack() as patches:
            patches.enter_context(use_clock(lambda: self.time))
            patches.enter_context(patch.object(selection, "Random", lambda: Random(self.draw.getrandbits(64))))
            for module in (lookup, cache, changes, frontier, combinations):
                later = patch.object(module, "monotonic", lambda: self.time.timestamp() + next(moments) / 1e6)
                patches.enter_context(later)
            yield

    def _begin(self) -> None:
        if self.anchor is None:
            return
        self._do_jobs([self.anchor])
        with self.database.write() as session:
            worker = session.scalars(select(Worker)).one()
            set_anchor(session, "maintainer", worker.name.rpartition("/")[2], is_anchor=True, who="bench")

    def _do_round(self, *, with_anchor: bool) -> None:
        if self.attack.style is Style.RENAMED:
            self.members = [
                self._join(f"{one.name}-again") if one.is_liar and one.jobs >= JOBS_OF_A_NAME else one
                for one in self.members
            ]
        members = list(self.members)
        self.draw.shuffle(members)
        if self.anchor is not None and with_anchor:
            members.insert(self.draw.randrange(len(members) + 1), self.anchor)
        self._do_jobs(members)

    def _end_epochs(self) -> None:
        end_epochs(self.database)

    def _do_jobs(self, members: list[Member]) -> None:
        """All claim, all work, all deliver."""
        held = []
        for member in members:
            if self.is_lying and member.is_sybil and self.attack.foreign:
                member.hardware = FOREIGN
            reply = member.client.claim(hardware=member.hardware.model_dump(mode="json"), **self.measure_speed(member))
            if reply.lease is not None:
                member.pace = reply.lease.pace
                held.append((member, reply.lease, self._draft(member, reply.lease)))
        self.time += self.job
        for member, lease, drafted in held:
            member.jobs += 1
            self.outcome.runs += 1
            if not self._abandons(member, lease):
                self._deliver(member, lease, drafted)
                self._look()

    def _abandons(self, member: Member, lease: GrantedLease) -> bool:
        if not member.is_liar or not lease.kind.is_measurement or lease.base.sha in self._roots:
            return False
        is_gain = self.truth[lease.base.sha] < START - MIN_EFFECT
        return self.attack.style is Style.ABANDONS or (self.attack.style is Style.WITHHOLDS and is_gain)

    def _draft(self, member: Member, lease: GrantedLease) -> dict[str, str] | str | None:
        """The files of an experiment, or the commit to measure; None where the proposal was not accepted."""
        if not lease.kind.makes_experiment:
            return lease.base.sha
        if self._lies(member) and self._lied and self.draw.random() < CHOOSING:
            files = {"train.py": self.code[self._lied[0]]}
            proposal = describe_change(lease.base.files, files)
            asked = ProposalSubmission(token=lease.token, proposal=proposal, files=files, may_measure=True)
            measure = member.client.post(f"/leases/{lease.id}/proposal", asked).json().get("measure")
            if measure:
                return str(measure)
        self._number += 1
        files = {"train.py": f"LEARNING_RATE = 0.003\nKNOB_{self._number} = {self._number}\n"}
        return files if member.client.propose(lease, files).accepted else None

    def _lies(self, member: Member) -> bool:
        return self.is_lying and member.is_sybil

    def _deliver(self, member: Member, lease: GrantedLease, drafted: dict[str, str] | str | None) -> None:
        base = lease.base.sha
        if base not in self.truth:
            self._roots.add(base)
        self.truth.setdefault(base, START)
        training = member.pace * BUDGET.total_seconds()
        changes: dict[str, Any] = {
            "hardware": member.hardware,
            "seconds": RunSeconds(starting=4, training=training, scoring=5, total=9 + training),
        }
        if drafted is None:
            member.client.release(lease)
            return
        if isinstance(drafted, str):
            fails = {"metric": None, "frame": "train.py, line 3"} if self._fails(member, drafted) else {}
            found = self.report_measurement(member, lease, drafted) | fails
            upload = ResultUpload(run=make_run(drafted, **(changes | found)))
        else:
            effect = DULL if self._lies(member) else self.draw_effect(member, base)
            claims = self._lies(member) and self._rounds_since_lie >= ROUNDS_PER_LIE
            truth = self.truth[base] + (0.0 if claims else effect)
            claimed = self.claimed.get(base, self.truth[base]) - LIE
            value = self.show(member, claimed if claims else self.claimed.get(base, self.truth[base]) + effect)
            value += self.draw_noise(member) - self._make_up(member, is_own=True)
            if self._is_lucky(member) and value - member.offset > self.claimed.get(base, self.truth[base]):
                member.client.release(lease)
                return
            self._files = self._files or member.client.files_of(lease)
            upload = make_result(lease, self._files | lease.base.files, drafted, value, **changes)
            upload = upload.model_copy(update={"proposal": describe_change(lease.base.files, drafted)})
            sha = upload.run.commit_sha
            self.truth[sha], self.code[sha], self.reported[sha] = truth, drafted["train.py"], value - member.offset
            self.authors[sha] = member
            self.note_experiment(sha, base)
            if not (member.is_liar or member.is_sybil) and effect < -MIN_EFFECT:
                self.outcome.honest_gains.add(sha)
            self.outcome.built_on_lies += not member.is_liar and self._is_lie(base)
            if self._lies(member):
                self.claimed[sha] = claimed if claims else value
            if claims:
                self._lied, self._rounds_since_lie = [sha, *self._lied], 0
                self.outcome.lies += 1
        reply = member.client.deliver(lease, upload)
        assert reply.status_code == 201, reply.text

    def _is_lucky(self, member: Member) -> bool:
        return member.is_liar and self.attack.style is Style.LUCKY

    def draw_effect(self, member: Member, base: str) -> float:
        """The true effect of an honest experiment upon a commit."""
        return member.draw.gauss(0, EFFECT_SD / 2)

    def show(self, member: Member, value: float) -> float:
        """The number that a member's machine shows for a true value, without noise."""
        return value + member.offset

    def measure_speed(self, member: Member) -> dict[str, Any]:
        """The fields of a claim that say how fast the seed trains on a member's machine, where it was probed."""
        return {}

    def note_experiment(self, sha: str, base: str) -> None:
        """Called when an experiment is delivered."""

    def report_measurement(self, member: Member, lease: GrantedLease, sha: str) -> dict[str, Any]:
        """The fields of the run of a commit that is measured."""
        return {"metric": self._measure(member, sha)}

    def draw_noise(self, member: Member) -> float:
        """Of an experiment's run, or of the best of several."""
        return min(self.draw.gauss(0, NOISE_SD) for _ in range(TRIES_OF_LUCKY if self._is_lucky(member) else 1))

    def _measure(self, member: Member, sha: str) -> float:
        truth = self.show(member, self.truth.setdefault(sha, START))
        said = self.show(member, self.claimed[sha]) if self._lies(member) and sha in self.claimed else truth
        if member.is_liar and self.attack.style is Style.COPIES and sha in self.reported:
            said = self.reported[sha] + member.offset
        made_up = 0.0 if sha in self._roots else self._make_up(member, is_own=False)
        return said + self.draw.gauss(0, NOISE_SD) - made_up

    def _is_lie(self, sha: str) -> bool:
        """Whether a liar made a commit, in a style in which its own results are made up."""
        return sha in self.authors and self.authors[sha].is_liar and self.attack.style is not Style.FAILS

    def _fails(self, member: Member, sha: str) -> bool:
        """Whether a run of another's commit fails, in truth or by a liar's word."""
        if sha not in self.authors or self.authors[sha] is member:
            return False
        is_others = member.is_liar and not self.authors[sha].is_liar
        return is_others if self.attack.style is Style.FAILS else self.attack.style is Style.ALONE and self._is_lie(sha)

    def _count_suspects(self) -> None:
        query = select(CommitPosterior.commit_sha).where(CommitPosterior.standing == Standing.SUSPECT)
        with self.database.read() as session:
            suspects = set(session.scalars(query))
        self.outcome.suspect_for.update(suspects & self.outcome.honest_gains)

    def _make_up(self, member: Member, *, is_own: bool) -> float:
        """The gain that a liar adds to a result of its own experiment, or of another's."""
        style = self.attack.style
        if not member.is_liar or (style is Style.LATE and member.jobs <= HONEST_JOBS):
            return 0.0
        if style is Style.CONSTANT:
            return LIE
        if style is Style.NOISE:
            return self.draw.gauss(0, LIARS_NOISE)
        if style in (Style.COPIES, Style.ALONE):
            return LIE if is_own else 0.0
        if style in (Style.FAILS, Style.WITHHOLDS, Style.LUCKY):
            return 0.0
        if style in (Style.CONTRADICTS, Style.RENAMED):
            return 0.0 if is_own else -LIE
        return LIARS_LIE * self.draw.random() if self.draw.random() < LIARS_SHARE else 0.0

    def _look(self) -> None:
        """Write down what is verified now, and whether it is true."""
        with self.database.read() as session:
            query = select(CommitPosterior.commit_sha, CommitPosterior.hardware_class, CommitPosterior.standing).where(
                CommitPosterior.standing.in_((Standing.VERIFIED, Standing.CORROBORATED))
            )
            rows = session.execute(query).all()
            parents = dict(session.execute(select(Commit.sha, Commit.parent_sha)).all()) if rows else {}
        verified = {(sha, name) for sha, name, standing in rows if standing == Standing.VERIFIED}
        self.outcome.corroborated |= {
            (sha, name) for sha, name, standing in rows if standing == Standing.CORROBORATED and sha in self._lied
        }
        for sha, name in verified - self.outcome.verified:
            above = parents[sha]
            while parents[above] is not None and (above, name) not in verified:
                above = parents[above]
            if self.truth[above] - self.truth[sha] < MIN_EFFECT:
                self.outcome.false.add((sha, name))
            else:
                self.outcome.true_after.append(self.outcome.runs)
        self.outcome.verified |= verified

    def _list_vouched(self) -> list[Member]:
        """The sybils who are vouched, each with the jobs that it took written down."""
        with self.database.read() as session:
            project_id = session.scalars(select(Project.id)).one()
            ids = dict(session.execute(select(Volunteer.name, Volunteer.id)).all())
            sybils = [member for member in self.members if member.is_sybil]
            of_class = project_id, HARDWARE.hardware_class
            vouched = [one for one in sybils if find_vouching(session, *of_class, ids[one.name]).is_enough]
        for one in vouched:
            self.outcome.vouched_after.setdefault(one.name, one.jobs)
        return vouched


AnySwarm = TypeVar("AnySwarm", bound=SybilSwarm)


@contextmanager
def open_sybils(
    attack: Attack, seed: int = 1, kind: type[AnySwarm] = SybilSwarm, contract: str = CONTRACT
) -> Iterator[AnySwarm]:
    """A coordinator on an empty SQLite database, with a project, and who attacks it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "seed").mkdir()
        line = "vouched_verify = true\n" if attack.vouched_verify else ""
        (folder / "seed" / "swarm.toml").write_text(contract + line)
        (folder / "seed" / "train.py").write_text("LEARNING_RATE = 0.003\n")
        (folder / "seed" / "program.md").write_text("# Lower val_bpb\n")
        app = create_app(CoordinatorSettings(database_url=f"sqlite:///{folder}/bench.db", epoch_check_seconds=1e6))
        with open_client(app) as http:
            with use_clock(lambda: BEGUN), app.state.database.write() as session:
                create_project(session, folder / "seed")
            yield kind(app.state.database, http, attack, seed)
