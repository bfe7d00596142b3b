"""Records on the real coordinator, where the truth is known: in plateaus, on texts that wear out,
on rungs, and on unlike machines. Small counterparts of the simulations in `bench_confirm`, `bench_windows`,
`bench_promotion` and `bench_machines`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from math import hypot, sqrt
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

import httpx
from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.evidence import confirmations
from coordinator.evidence import service as evidence
from coordinator.evidence.posteriors import find_posterior
from coordinator.evidence.trust import is_doubted
from coordinator.models import Commit, CommitPosterior, HoldoutCheck, Project, Promotion, Volunteer
from shared.contract import MAX_PACE
from shared.experiments import JobKind
from shared.leases import GrantedLease
from shared.records import Confirmation, Record
from shared.runs import RunSeconds
from tests.bench.report import format_table
from tests.bench.search_report import average
from tests.bench.sybils import CONTRACT, JOB, NOISE_SD, START, Attack, Member, SybilSwarm, open_sybils

WORK = Attack(0, 7, patience=timedelta(days=10), patient_jobs=50, rounds=0)
"""An anchor and seven volunteers, who do fifty jobs each in ten days: most are vouched after the first few."""

Z = 1.96
"""Half of a 95 % interval, in standard deviations."""

POOL_FACTOR = 16
"""Text in the pool that windows are drawn from, in units of what one run scores; a third as much is sealed."""


class RecordSwarm(SybilSwarm):
    """Honest volunteers and, in some, a liar."""

    def read_records(self) -> list[Record]:
        pages = self.http.get("/api/v1/records").raise_for_status().json()["items"]
        return [Record.model_validate(one) for one in pages]


class PlateauSwarm(RecordSwarm):
    """Every experiment is better than the seed by GAIN, and as good as every other."""

    GAIN = -0.004

    def draw_effect(self, member: Member, base: str) -> float:
        return START + self.GAIN - self.truth[base]


class WindowsSwarm(RecordSwarm):
    """Experiments are worth `true` anywhere, and something else besides on the text that is scored. `truth` is on that
    text, `elsewhere` without it."""

    TRUE_SD = IDIOSYNCRASY = 0.001
    factor = 1
    """Text that windows are drawn from, in units of what one run scores; 1 is a fixed shard."""

    def __init__(self, database: Database, http: httpx.Client, attack: Attack, seed: int) -> None:
        super().__init__(database, http, attack, seed)
        self.elsewhere: dict[str, float] = {}
        self.sealed: dict[str, float] = {}

    def draw_effect(self, member: Member, base: str) -> float:
        self._true = member.draw.gauss(0, self.TRUE_SD)
        self._own = member.draw.gauss(0, self.IDIOSYNCRASY)
        self._sealed = member.draw.gauss(0, self.IDIOSYNCRASY / sqrt(POOL_FACTOR / 3))
        return self._true + self._own / sqrt(self.factor)

    def note_experiment(self, sha: str, base: str) -> None:
        self.elsewhere[sha] = self.elsewhere.get(base, START) + self._true
        self.sealed[sha] = self.sealed.get(base, START) + self._true + self._sealed

    def draw_noise(self, member: Member) -> float:
        return self.draw.gauss(0, hypot(NOISE_SD, self._drawn_sd(self.factor)))

    def find_checked(self) -> tuple[str, Confirmation] | None:
        """The commit that was checked on sealed windows last, the seed aside, with what is published of it."""
        with self.database.read() as session:
            project = session.scalars(select(Project)).one()
            checks = select(HoldoutCheck).where(HoldoutCheck.commit_sha != project.root_sha)
            last = session.scalars(checks.order_by(HoldoutCheck.created_at.desc())).first()
            if last is None:
                return None
            name = last.hardware_class
            baseline = evidence.view_posterior(find_posterior(session, project.root_sha, name))
            return last.commit_sha, confirmations.view(session, project, name, last.commit_sha, baseline)

    def report_measurement(self, member: Member, lease: GrantedLease, sha: str) -> dict[str, Any]:
        if lease.holdout_key is None:
            return super().report_measurement(member, lease, sha)
        trained = member.offset + self.draw.gauss(0, NOISE_SD)
        return {
            "metric": trained + self.truth[sha] + self.draw.gauss(0, self._drawn_sd(self.factor)),
            "holdout_metric": trained
            + self.sealed.get(sha, START)
            + self.draw.gauss(0, self._drawn_sd(POOL_FACTOR / 3)),
        }

    def _drawn_sd(self, factor: float) -> float:
        """The noise that drawing windows anew adds to a run."""
        return self.IDIOSYNCRASY * sqrt(1 - 1 / factor)


class DrawnWindowsSwarm(WindowsSwarm):
    factor = POOL_FACTOR


class RungSwarm(RecordSwarm):
    """On the rung CARRIED of each gain is left; a liar adds LIE to that of the record."""

    CARRIED, LIE = 0.5, 0.01
    SECONDS = RunSeconds(starting=2, training=130, scoring=4, total=136)

    def report_measurement(self, member: Member, lease: GrantedLease, sha: str) -> dict[str, Any]:
        if lease.kind is not JobKind.PROMOTE:
            return {"metric": self.truth[sha] + member.offset + self.draw_noise(member)}
        lie = self.LIE if member.is_liar and sha not in self._roots else 0.0
        metric = START + self.CARRIED * (self.truth[sha] - START) + member.offset + self.draw_noise(member)
        return {"metric": metric - lie, "seconds": self.SECONDS}


class MachinesSwarm(RecordSwarm):
    """Each machine multiplies what commits differ by from the seed by a gain of its own, N(1, GAIN_SD)."""

    GAIN_SD = 0.15

    def __init__(self, database: Database, http: httpx.Client, attack: Attack, seed: int) -> None:
        super().__init__(database, http, attack, seed)
        assert self.anchor is not None
        self.gains = {one.name: max(0.4, one.draw.gauss(1, self.GAIN_SD)) for one in (*self.members, self.anchor)}

    def show(self, member: Member, value: float) -> float:
        return START + member.pace * self.gains[member.name] * (value - START) + member.offset

    def list_covered(self) -> Iterator[bool]:
        """For each experiment whether the 68 % interval of its effect holds the truth, of an average machine."""
        gain = fmean(self.gains[one.name] * one.pace for one in (*self.members, self.anchor) if one)
        with self.database.read() as session:
            parents = dict(session.execute(select(Commit.sha, Commit.parent_sha)).all())
            rows = session.scalars(select(CommitPosterior)).all()
            for row in rows:
                above = parents[row.commit_sha]
                if above is not None and row.effect_mean is not None and row.effect_sd is not None:
                    effect = gain * (self.truth[row.commit_sha] - self.truth[above])
                    yield abs(row.effect_mean - effect) <= row.effect_sd

    def list_doubted(self) -> list[str]:
        with self.database.read() as session:
            project_id = session.scalars(select(Project.id)).one()
            ids = session.execute(select(Volunteer.name, Volunteer.id)).all()
            return [name for name, volunteer_id in ids if is_doubted(session, project_id, volunteer_id)]


class PacedSwarm(MachinesSwarm):
    """A machine's gain is its speed, which its worker measures, so that its budget is normalised."""

    PROBE_ERROR, TOKENS = 0.02, 1_000.0
    job = MAX_PACE * JOB

    def measure_speed(self, member: Member) -> dict[str, Any]:
        with self.database.read() as session:
            root_sha = session.scalars(select(Project.root_sha)).one()
        error = Random(f"probe of {member.name} {self.seed}").gauss(1, self.PROBE_ERROR)
        return {"seed_throughput": self.TOKENS * self.gains[member.name] * error, "probed_seed": root_sha}


class AlikeSwarm(MachinesSwarm):
    GAIN_SD = 0.0


HOLDOUT = '\n[commands]\nholdout = "harness.holdout"\n'
RUNG = '\n[[rungs]]\nname = "long"\ntraining_seconds = 130\n'


class Published(NamedTuple):
    """A record's gain over the seed less the true one, before confirmation and as published, and the sd of both."""

    before: float
    before_sd: float
    now: float
    now_sd: float


def publish(seeds: Sequence[int], work: Attack = WORK) -> Iterator[Published]:
    """The record of each swarm in a plateau; none where its number was not confirmed yet."""
    for seed in seeds:
        with open_sybils(work, seed, PlateauSwarm) as swarm:
            swarm.run()
            for record in swarm.read_records():
                best = record.record
                if best is None or best.gain_mean is None or best.gain_sd is None or best.confirmation is None:
                    continue
                said = best.confirmation
                if said.gain_mean is not None and said.gain_sd is not None:
                    gain = PlateauSwarm.GAIN
                    yield Published(best.gain_mean - gain, best.gain_sd, said.gain_mean - gain, said.gain_sd)


class WornOut(NamedTuple):
    """The true gain over the seed of the commit that was checked on sealed windows last, and by how much it seems
    larger on the windows that every run scores, and on sealed ones. `sealed` is None where that was not let out."""

    true: float
    windows: float
    sealed: float | None
    is_alarm: bool


def wear_out(kind: type[WindowsSwarm], seeds: Sequence[int], work: Attack = WORK) -> Iterator[WornOut]:
    """The commit of each swarm that was checked last."""
    for seed in seeds:
        with open_sybils(work, seed, kind, CONTRACT + HOLDOUT) as swarm:
            swarm.run()
            said = swarm.find_checked()
            if said is None or said[1].gain_mean is None or said[1].holdout is None:
                continue
            true = START - swarm.elsewhere[said[0]]
            sealed = said[1].holdout.gain_mean
            yield WornOut(
                true,
                -said[1].gain_mean - true,
                None if sealed is None else -sealed - true,
                said[1].holdout.is_alarm,
            )


class Promoted(NamedTuple):
    """A settled promotion: the effect's error, whether its 95 % interval covers the true one, and whether the transfer
    ratio's does (None: it is not told)."""

    error: float
    covers: bool
    ratio_covers: bool | None


def promote(seeds: Sequence[int], liars: int, work: Attack = WORK) -> Iterator[Promoted]:
    """The settled promotions of each swarm's record."""
    attack = replace(work, honest=work.honest - liars, liars=liars)
    contract = CONTRACT.replace("control = 0\n", "control = 0\npromote = 4\n") + RUNG
    for seed in seeds:
        with open_sybils(attack, seed, RungSwarm, contract) as swarm:
            swarm.run()
            with swarm.database.read() as session:
                settled = session.scalars(select(Promotion).where(Promotion.holds.is_not(None))).all()
            for one in settled:
                assert one.effect_mean is not None and one.effect_sd is not None
                error = one.effect_mean - swarm.CARRIED * (swarm.truth[one.commit_sha] - swarm.truth[one.base_sha])
                ratio = None
                if one.ratio_low is not None and one.ratio_high is not None:
                    ratio = one.ratio_low <= swarm.CARRIED <= one.ratio_high
                yield Promoted(error, abs(error) <= Z * one.effect_sd, ratio)


def tabulate_published(seeds: Sequence[int], work: Attack = WORK) -> str:
    """The plateau's table: a row for the number before confirmation, and one for what is published."""
    every = list(publish(seeds, work))
    numbers = {
        "before: posterior": [(one.before, one.before_sd) for one in every],
        "now": [(one.now, one.now_sd) for one in every],
    }
    rows = [
        [name, _average([error for error, _ in errors]), _count(abs(error) <= sd for error, sd in errors)]
        for name, errors in numbers.items()
    ]
    headings = ("gain of the record in a plateau", "error, mean over swarms (95 %), × 10⁻⁴", "in ± 1 sd")
    return format_table(headings, rows)


def tabulate_worn_out(seeds: Sequence[int], work: Attack = WORK) -> str:
    """The table of windows: a fixed shard, and windows drawn from POOL_FACTOR times as much."""
    rows = []
    for name, kind in (
        ("fixed shard", WindowsSwarm),
        (f"drawn from {POOL_FACTOR} times as much", DrawnWindowsSwarm),
    ):
        every = list(wear_out(kind, seeds, work))
        if not every:
            continue
        true, windows = [one.true for one in every], [one.windows for one in every]
        shown = [one.sealed for one in every if one.sealed is not None]
        rows.append(
            (
                f"{kind.IDIOSYNCRASY:g}", name, str(len(every)), f"{fmean(true):.4f}", _average(windows),
                f"{fmean(windows) / fmean(true):.1%}", f"{_average(shown)}, {len(shown)} let out",
                _count(one.is_alarm for one in every),
            )
        )  # fmt: skip
    headings = (
        "idiosyncrasy", "windows", "swarms", "true gain", "too good by (95 %), × 10⁻⁴", "of the true gain",
        "too good on sealed (95 %), × 10⁻⁴", "alarms",
    )  # fmt: skip
    return format_table(headings, rows)


def tabulate_promoted(seeds: Sequence[int], work: Attack = WORK) -> str:
    """The table of rungs: without a liar, and with one of seven volunteers."""
    rows = []
    for liars in (0, 1):
        every = list(promote(seeds, liars, work))
        rows.append(
            (
                str(liars), str(len(every)), _average([one.error for one in every]),
                _count(one.covers for one in every),
                _count(one.ratio_covers for one in every if one.ratio_covers is not None),
            )
        )  # fmt: skip
    headings = (
        "liars",
        "settled promotions",
        "error of the effect (95 %), × 10⁻⁴",
        "its 95 % interval covers",
        "the ratio's covers",
    )
    return format_table(headings, rows)


def tabulate_machines(seeds: Sequence[int], work: Attack = WORK) -> str:
    """The table of machines: alike, with gains N(1, 0.15), and with those by which budgets are normalised."""
    rows, spread = [], f"gains N(1, {MachinesSwarm.GAIN_SD})"
    for name, kind in (("alike", AlikeSwarm), (spread, MachinesSwarm), (f"{spread}, paced", PacedSwarm)):
        covered, doubted = [], 0
        for seed in seeds:
            with open_sybils(work, seed, kind) as swarm:
                swarm.run()
                covered.append(100 * fmean(swarm.list_covered()))
                doubted += len(swarm.list_doubted())
        members = len(seeds) * (work.honest + 1)
        rows.append((name, str(len(seeds)), f"{average(covered)} %", f"{doubted} of {members}"))
    return format_table(("machines", "swarms", "effects within 68 % (95 %)", "honest doubted"), rows)


def _average(numbers: Sequence[float]) -> str:
    """The mean of swarms' numbers in units of 10⁻⁴, with half of its 95 % interval; a dash of none."""
    return str(average(numbers, 1e4) or "–")


def _count(hits: Iterable[bool]) -> str:
    known = list(hits)
    return f"{sum(known)} of {len(known)}"
