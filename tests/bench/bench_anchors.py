"""Attackers who know what an anchor's finding rests on: what they win by the rules before, and by those now.

python -m tests.bench.bench_anchors              through the coordinator's services, on SQLite; some minutes
python -m tests.bench.bench_anchors --lottery    what an anchor's luck verifies of many commits that gain nothing

Before, P(better) was taken of anchors' runs less the offsets, by the noise, and with the budgets that all volunteers'
runs tell. Now it is of the differences of an anchor's own runs (decision 0031). The attackers' commits gain nothing;
beside them an honest one gains ten times the noise. In the last rows they wait until the anchor's machine has drifted.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from math import log, pi, sin
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest.mock import patch

from sqlalchemy import select

from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.evidence import calibration_queries, posteriors
from coordinator.evidence.statistics import EXACT, MAX_RUNS, Measurement, Model
from coordinator.lineage.commits import get_commit
from coordinator.models import Project, Volunteer, Worker
from coordinator.projects.service import contract_of, create_project
from coordinator.settings import CoordinatorSettings
from shared.contract import parse_contract
from shared.experiments import Standing
from shared.records import Trust
from shared.seeds import SEEDS_FOLDER
from tests.bench.report import format_table
from tests.support.in_process import open_client
from tests.support.seeds import write_seed
from tests.support.swarm_data import end_epochs
from tests.support.village import CLASS, Village

NOISE_SD, SEED, GAIN = 0.005, 3.3, 0.05
"""The noise of the village's contract, and its seed."""

SYBILS = [f"sybil-{number}" for number in range(8)]
LIE, NEAR = 0.02, 0.002
COMMITS = 20
SLOPE = -0.08
SPEED = 1000.0
PERIOD = 20
"""Number of an anchor's runs in which its machine drifts up and down once."""


class Judged(NamedTuple):
    """Whether a commit was ever verified, and whether its finding might ever claim a gain."""

    is_verified: bool = False
    may_claim: bool = False

    def __or__(self, other: "Judged") -> "Judged":
        return Judged(self.is_verified or other.is_verified, self.may_claim or other.may_claim)


class Town:
    """A village whose honest members' runs have noise, with the anchor `dan`, whose machine may drift: by sine."""

    def __init__(self, database: Database) -> None:
        self.village, self.draw = Village(database), Random(1)
        self.drift, self.runs = 0.0, 0
        self.village.make_anchor("dan")
        self.measure("dan", None, SEED)

    def measure(self, name: str, sha: str | None, level: float, pace: float = 1.0, speed: float | None = None) -> float:
        """An honest run; returns what it found."""
        self.runs += name == "dan"
        level += self.drift * sin(2 * pi * self.runs / PERIOD) if name == "dan" else 0.0
        found = level + self.draw.gauss(0, NOISE_SD) + (SLOPE * log(pace) if speed else 0.0)
        self.village.measure(name, sha, found, pace, speed)
        return found

    def share(self, name: str, lie: float) -> None:
        """A commit that an anchor measures, and all sybils what it found but for a `lie`."""
        sha = self.village.invent("ada", SEED)
        found = self.measure(name, sha, SEED)
        for sybil in SYBILS:
            self.village.measure(sybil, sha, found + lie)

    def end_epoch(self) -> None:
        end_epochs(self.village.database, always=True)

    def judge(self, author: str, level: float, claimed: float, by: str, pace: float = 1.0) -> Judged:
        """Judges a commit that sybils confirm and an anchor measures three times; after each of its runs one
        more sybil says what it found or a little less, if that is nearer to the claim."""
        speed = SPEED if pace != 1 else None
        sha = self.village.invent(author, claimed)
        for sybil in SYBILS[1:3]:
            self.village.measure(sybil, sha, claimed)
        judged = Judged()
        for sybil in SYBILS[3:6]:
            found = self.measure(by, sha, level, pace, speed)
            judged |= self.look(sha)
            if self.drift and self.is_base_missing(sha, by):
                self.measure(by, None, SEED)
            self.village.measure(sybil, sha, max(claimed, found - NEAR))
            judged |= self.look(sha)
        return judged

    def is_base_missing(self, sha: str, by: str) -> bool:
        """Whether the coordinator asks an anchor for the seed next, from which the commit's gain is counted."""
        with self.village.database.read() as session:
            project = session.scalars(select(Project)).one()
            worker_id = session.scalars(select(Worker.id).join(Volunteer).where(Volunteer.name == by)).one()
            commit = get_commit(session, sha)
            missing = posteriors.find_missing_base(session, contract_of(project), commit, CLASS, worker_id)
        return missing is not None

    def look(self, sha: str) -> Judged:
        told = self.village.explain(sha)
        assert told.after is not None
        return Judged(told.after.standing is Standing.VERIFIED, told.is_claim_confirmed)


Outcome = tuple[list[Judged], Judged | None]
"""Commits that gain nothing, and an honest gain, if there is one."""


def give_an_offset(town: Town) -> Outcome:
    """They say less by LIE of what the second of two anchors measured, and so its machine seems to measure more."""
    town.village.make_anchor("cy")
    for sybil in SYBILS:
        town.measure(sybil, None, SEED)
    for at in range(16):
        town.share("cy" if at % 2 else "dan", -LIE if at % 2 else 0.0)
    town.end_epoch()
    false = [town.judge(SYBILS[0], SEED, SEED - LIE, "cy") for _ in range(COMMITS)]
    return false, town.judge("ada", SEED - GAIN, SEED - GAIN - LIE, "cy")


def copy(town: Town) -> Outcome:
    """They repeat an anchor's numbers, and so noise seems small; then they claim what noise may give an anchor, too."""
    for at in range(8):
        town.share("dan", 0.0)
        if at % 4 == 3:
            town.end_epoch()
    false = [town.judge(SYBILS[0], SEED, SEED - 2 * NOISE_SD, "dan") for _ in range(COMMITS)]
    return false, town.judge("ada", SEED - GAIN, SEED - GAIN, "dan")


def name_a_throughput(town: Town) -> Outcome:
    """They say that the seed is twice as fast with them as with others, whose budgets double, an anchor's too."""
    for name in ("dan", "bo", "ada"):
        town.measure(name, None, SEED, 1.0, SPEED)
    for sybil in SYBILS:
        town.village.measure(sybil, None, SEED, 1.0, 2 * SPEED)
    for _ in range(4):
        town.end_epoch()
    level = SEED + SLOPE * log(2)
    return [town.judge(SYBILS[0], SEED, level, "dan", 2.0) for _ in range(COMMITS)], None


def wait_for_drift(sds: float, town: Town) -> Outcome:
    """They claim what an anchor's machine finds when it has drifted since it measured the seed."""
    town.drift = sds * NOISE_SD
    false = [town.judge(SYBILS[0], SEED, SEED - town.drift, "dan") for _ in range(COMMITS)]
    return false, town.judge("ada", SEED - GAIN, SEED - GAIN, "dan")


VOTES = [(number, SPEED) for number in range(3)] + [(number, 2 * SPEED) for number in range(3, 3 + len(SYBILS))]
ATTACKS: dict[str, Callable[[Town], Outcome]] = {
    "an offset for one of two anchors": give_an_offset,
    "copies make noise small": copy,
    "a throughput changes budgets": name_a_throughput,
    "an anchor's machine drifts by 3 sd": partial(wait_for_drift, 3),
    "an anchor's machine drifts by 6 sd": partial(wait_for_drift, 6),
}


@contextmanager
def apply_rules_before() -> Iterator[None]:
    with (
        patch.object(posteriors, "is_found_on_machines", lambda *_: True),
        patch.object(calibration_queries, "list_throughputs", lambda *_: VOTES),
    ):
        yield


@contextmanager
def open_town() -> Iterator[Town]:
    with TemporaryDirectory() as name:
        app = create_app(CoordinatorSettings(database_url=f"sqlite:///{name}/bench.db", epoch_check_seconds=1e6))
        with open_client(app):
            with app.state.database.write() as session:
                create_project(session, write_seed(Path(name) / "seed"))
            yield Town(app.state.database)


LOTS, TOWNS = 100, 200
"""Number of commits that an anchor measures against one base, and how often that is simulated."""

LOTTERY = ("contract", "first run of what gains are counted from", "found of commits that gain nothing")


def draw_lots(name: str, luck: float) -> int:
    """How many commits that gain nothing an anchor finds, with up to MAX_RUNS runs of each. Its first run of the base
    was worse than the base is by `luck` sd, for which attackers may wait; further ones are as many as of a commit."""
    contract = parse_contract((SEEDS_FOLDER / name / "swarm.toml").read_text())
    noise_sd, draw, found = contract.evidence.noise_sd, Random(1), 0
    model = Model(noise_sd, contract.evidence.effect_sd)

    def measure(value: float | None = None) -> Measurement:
        value = draw.gauss(0, noise_sd) if value is None else value
        return Measurement(contract.objective.sign * value, 1, 1, False, EXACT, Trust.ANCHOR)

    for _ in range(TOWNS):
        base = [measure(luck * noise_sd)]
        for _ in range(LOTS):
            own: list[Measurement] = []
            while len(own) < MAX_RUNS and not posteriors.is_found_on_machines(contract, model, own, base):
                base += [measure() for _ in range(len(own) - len(base))]
                own.append(measure())
            found += posteriors.is_found_on_machines(contract, model, own, base)
    return found


HEADINGS = ("attack", "rules", "verified of those that gain nothing", "whose findings may claim", "an honest gain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lottery", action="store_true", help="only what luck verifies")
    if parser.parse_args().lottery:
        lots = [
            (name, f"{luck:g} sd worse than it is", f"{draw_lots(name, luck)} of {TOWNS * LOTS}")
            for name in ("gpt", "gpt-cpu", "codec")
            for luck in (0.0, 2.0, 3.0)
        ]
        print(format_table(LOTTERY, lots))
        return
    rows = []
    for name, attack in ATTACKS.items():
        for rules, applied in (("before", apply_rules_before), ("now", nullcontext)):
            with applied(), open_town() as town:
                false, honest = attack(town)
            counts = [f"{sum(some)} of {COMMITS}" for some in zip(*false, strict=True)]
            rows.append([name, rules, *counts, _describe(honest)])
            print(" | ".join(rows[-1]), flush=True)
    print(format_table(HEADINGS, rows))


def _describe(honest: Judged | None) -> str:
    if honest is None:
        return "–"
    return ("verified" if honest.is_verified else "not verified") + (", may claim" if honest.may_claim else "")


if __name__ == "__main__":
    main()
