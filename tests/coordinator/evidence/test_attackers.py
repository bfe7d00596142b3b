"""Attackers without a simulation of their own, and honest volunteers whom guards against them must not stop."""

from collections.abc import Callable
from math import pi, sin
from pathlib import Path
from random import Random

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.evidence.quarantine import set_anchor
from coordinator.evidence.throughput import choose_pace
from coordinator.models import CommitPosterior, EvidenceEpoch, Project
from coordinator.projects.service import create_project
from coordinator.selection.policy import SEED_WORKERS
from shared.experiments import JobKind
from shared.leases import GrantedLease, ResultUpload
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import HARDWARE, make_proposal, make_result, make_run
from tests.support.seeds import write_seed
from tests.support.swarm_data import History, end_epochs
from tests.support.village import Village
from tests.support.volunteers import MiniWorker

NOISE_SD = 0.005
"""The noise of the village's contract; its seed is at 3.3."""


@pytest.fixture
def village(project: str, database: Database) -> Village:
    village = Village(database)
    village.make_anchor("dan")
    return village


@ON_ONE_ENGINE
@pytest.mark.parametrize("may_verify", [False, True])
def test_who_is_honest_only_where_the_anchor_measured_verifies_nothing_of_its_own(
    village: Village, *, may_verify: bool
) -> None:
    """Two volunteers who are vouched by controls and by what the anchor measured before confirm each other's lie."""
    village.let_vouched_verify(may=may_verify)
    for hours in (0, 25):
        with village.at(hours):
            for _ in range(4):
                sha = village.invent("ada", 3.2)
                village.measure("dan", sha, 3.2)
                assert village.measure("bo", sha, 3.2) in ("newcomer", "vouched")
                village.measure("cy", sha, 3.2)
    with village.at(26):
        lie, truth = village.invent("bo", 3.0), village.invent("eve", 3.1)
        assert village.measure("cy", lie, 3.0) == "vouched"
        village.measure("fay", lie, 3.0)
        assert village.posterior(lie).standing == "provisional", "the anchor is at work"
        village.measure("dan", lie, 3.2)
        assert village.posterior(lie).standing == "provisional"
        assert village.record("bo")[1] == village.record("cy")[1] == 1
        assert village.measure("cy", village.invent("ada", 3.2), 3.2) == "newcomer", "and are vouched no more"
        village.measure("gus", truth, 3.1)
        village.measure("dan", truth, 3.1)
        assert village.posterior(truth).standing == "verified"
    village.check_numbers()


def join(village: Village, name: str, seed: float) -> None:
    """A volunteer measures three commits as they are, so that its offset is known, and then the seed."""
    for sha in list(village.author)[:3]:
        village.measure(name, sha, 3.3)
    village.measure(name, None, seed)


@ON_ONE_ENGINE
@pytest.mark.parametrize(("crowd", "seed"), [(3, 3.4), (6, 3.335)])
def test_whoever_makes_the_seed_look_bad_verifies_nothing(village: Village, crowd: int, seed: float) -> None:
    """All gains are counted from the seed, which each of a crowd says is worse than it is."""
    village.measure("dan", None, 3.3)
    for _ in range(4):
        sha = village.invent("ada", 3.3)
        for name in ("bo", "cy", "dan"):
            village.measure(name, sha, 3.3)
    for number in range(crowd):
        join(village, f"mal-{number}", seed)
    end_epochs(village.database, always=True)
    as_good, better = village.invent("mal-0", 3.29), village.invent("ada", 3.2)
    for name in ("bo", "dan", "dan", "dan"):
        village.measure(name, as_good, 3.3)
        village.measure(name, better, 3.2)
        assert village.posterior(as_good).standing not in ("verified", "corroborated")
    if crowd > 3:
        return  # they outnumber the honest, who may have to wait
    assert village.posterior(better).standing == "verified"
    end_epochs(village.database, always=True)
    assert village.measure("new", None, 3.3) == "newcomer" and village.measure("new", better, 3.2) == "newcomer"
    assert village.record("new")[1] == 0, "who comes later is not placed by a lie"
    village.check_numbers()


@ON_ONE_ENGINE
def test_what_a_doubted_volunteer_says_costs_nobody_trust_and_disputes_nothing(village: Village) -> None:
    village.measure("mal", None, 3.3)
    for _ in range(2):
        village.measure("dan", village.invent("mal", 3.0), 3.3)
    assert village.record("mal")[1] == 2
    truth = village.invent("ada", 3.1)
    assert village.measure("mal", truth, 3.3) == "doubted"
    assert village.record("ada") == (0, 0), "one against one, and the one is known"
    village.measure("bo", truth, 3.1)
    assert village.posterior(truth).dispute == "none" and village.record("ada") == (1, 0)
    village.measure("dan", truth, 3.1)
    assert village.posterior(truth).standing == "verified"
    other = village.invent("ada", 3.1)
    village.measure("cy", other, 3.3)
    village.measure("dan", other, 3.1)
    assert village.posterior(other).dispute == "none" and village.record("cy")[1] == 1, "an anchor refutes it at once"
    village.check_numbers()


@ON_ONE_ENGINE
def test_a_slow_newcomer_comes_to_be_vouched_and_verified(village: Village) -> None:
    """It measures one commit in twelve hours, as noisily as others."""
    draw = Random(1)
    for day in range(10):
        with village.at(12 * day):
            sha = village.invent("ada", 3.2 + draw.gauss(0, NOISE_SD))
            village.measure("dan", sha, 3.2 + draw.gauss(0, NOISE_SD))
            trust = village.measure("slow", sha, 3.2 + draw.gauss(0, NOISE_SD))
            assert trust != "doubted"
    assert trust == "vouched" and village.record("slow")[1] == 0
    with village.at(120):
        gain = village.invent("slow", 3.1)
        village.measure("bo", gain, 3.1)
        village.measure("dan", gain, 3.1)
        assert village.posterior(gain).standing == "verified"
    village.check_numbers()


@ON_ONE_ENGINE
def test_an_honest_machine_that_drifts_is_not_doubted(village: Village) -> None:
    """Its offset goes up and down by twice the noise, and is estimated again after each few runs."""
    draw, verified = Random(2), 0
    for turn in range(16):
        drift, truth = 2 * NOISE_SD * sin(2 * pi * turn / 16), 3.2 - 0.03 * turn
        sha = village.invent("ada", truth + draw.gauss(0, NOISE_SD))
        for name in ("dan", "bo", "eve"):
            offset = drift if name == "eve" else 0.0
            assert village.measure(name, sha, truth + offset + draw.gauss(0, NOISE_SD)) != "doubted"
        village.measure("dan", sha, truth + draw.gauss(0, NOISE_SD))
        verified += village.posterior(sha).standing == "verified"
        if turn % 4 == 3:
            end_epochs(village.database, always=True)
    assert village.record("eve")[1] == 0 and verified > 12
    village.check_numbers()


def test_a_class_of_one_machine_has_no_record_and_says_why(
    project: str, make_worker: Callable[..., MiniWorker], http: TestClient
) -> None:
    rare = HARDWARE.model_copy(update={"isa": "riscv64"})
    only = make_worker("w1", "only")
    for at in range(8):
        lease = only.claim_job(hardware=rare.model_dump(mode="json"))
        files = {"train.py": f"DEPTH = {5 + at}\n"}
        if lease.kind.makes_experiment:
            assert only.propose(lease, files).accepted
            upload = make_result(lease, only.files_of(lease), files, 3.0, hardware=rare)
        else:
            upload = ResultUpload(
                run=make_run(lease.base.sha, 3.3 if lease.base.sha == lease.root_sha else 3.0, hardware=rare)
            )
        assert only.deliver(lease, upload).status_code == 201
    (record,) = only.get_json(f"/records?project={project}")["items"]
    assert record["record"] is None and record["leader"]["posterior"]["standing"] in ("provisional", "single_owner")
    assert record["no_record"].startswith("One volunteer measured on this hardware.")
    assert record["no_record"] in http.get(f"/projects/{project}").text


def read_numbers(village: Village, sha: str) -> tuple[CommitPosterior, CommitPosterior, EvidenceEpoch]:
    """The posteriors of the seed and of a commit, and their class's epoch."""
    with village.database.read() as session:
        root_sha, epoch = session.scalars(select(Project.root_sha)).one(), session.scalars(select(EvidenceEpoch)).one()
    return village.posterior(root_sha), village.posterior(sha), epoch


@ON_ONE_ENGINE
@pytest.mark.parametrize("lie", [3.35, 4.0, -100.0, 1e12])
def test_one_newcomer_moves_nothing_that_is_shown(project: str, database: Database, lie: float) -> None:
    """In a class without an anchor, in which two others measured the seed: within the epoch, and after it."""
    village = Village(database, ["ada"])
    village.measure("mal", None, lie, seed_throughput=1e9)
    village.measure("bo", None, 3.3)
    sha = village.invent("ada", 3.25)
    village.measure("bo", sha, 3.25)
    for ends in (False, True):
        if ends:
            village.measure("cy", None, 3.3)
            end_epochs(database, always=True)
        seed, commit, epoch = read_numbers(village, sha)
        assert seed.metric_mean == pytest.approx(3.3, abs=2 * NOISE_SD)
        assert commit.metric_mean == pytest.approx(3.25, abs=2 * NOISE_SD)
        assert commit.effect_mean == pytest.approx(-0.05, abs=4 * NOISE_SD), "of three, one makes the seed less certain"
        assert commit.verdict == "improved" or (commit.verdict == "unresolved" and not ends)
        assert epoch.noise_sd == NOISE_SD and choose_pace(epoch.seed_throughput, 1e9) == 1.0
    village.check_numbers()


def test_the_seed_rests_on_no_one_account_however_many_workers_it_names(
    project: str, make_worker: Callable[..., MiniWorker]
) -> None:
    """Its workers come first and measure it wrongly. Others then measure the seed too; an honest owner of many machines
    does so once."""
    for number in range(SEED_WORKERS):
        make_worker(f"w{number}", "mal").measure_root(3.4)
    for owner in ("ada", "bo"):
        lease = make_worker("w1", owner).claim_job()
        assert (lease.kind, lease.base.sha) == (JobKind.REPLICATE, lease.root_sha)
    for name, owner in (("w2", "ada"), ("w9", "mal"), ("w1", "cy")):
        assert make_worker(name, owner).claim_job().kind.makes_experiment


@ON_ONE_ENGINE
def test_an_honest_machine_that_is_far_from_the_others_is_placed_at_once(project: str, database: Database) -> None:
    """Its numbers are 0.7 above others', a hundred times the sd of offsets that its contract expects."""
    village = Village(database, ["ada", "bo"])
    sha = village.invent("ada", 3.25)
    village.measure("far", None, 4.0)
    village.measure("far", sha, 3.95)
    own = village.invent("far", 3.92)
    village.measure("bo", own, 3.22)
    seed, commit, _ = read_numbers(village, sha)
    assert seed.metric_mean == pytest.approx(3.3, abs=NOISE_SD) and commit.dispute == "none"
    assert commit.metric_mean == pytest.approx(3.25, abs=NOISE_SD) and village.record("far")[1] == 0
    found = village.posterior(own)
    assert found.metric_mean == pytest.approx(3.22, abs=NOISE_SD)
    assert (found.verdict, found.dispute) == ("improved", "none")
    village.check_numbers()


@ON_ONE_ENGINE
def test_one_check_moves_a_commits_number_by_little_until_others_measured_it(village: Village) -> None:
    truth, sha = 3.25, village.invent("ada", 3.25)
    village.measure("bo", sha, 100.0)
    alone = village.posterior(sha)
    assert abs(alone.metric_mean - truth) < 2 * alone.metric_sd and alone.verdict == "unresolved"
    assert alone.dispute == "contested"
    village.measure("cy", sha, truth)
    both = village.posterior(sha)
    assert abs(both.metric_mean - truth) < 2 * both.metric_sd and both.verdict == "unresolved"
    village.measure("dan", sha, truth)
    settled = village.posterior(sha)
    assert settled.metric_mean == pytest.approx(truth, abs=NOISE_SD) and settled.verdict == "improved"
    village.check_numbers()


@ON_ONE_ENGINE
def test_a_result_that_fails_where_others_run_it_is_suspect_until_one_repeats_it(
    project: str, database: Database
) -> None:
    """Its code runs at its author's alone, so that nobody can contradict its number. One who fails may be at fault."""
    village = Village(database)
    lie = village.invent("mal", 3.0)
    below = village.invent("ada", 2.99, parent=lie)
    village.measure("bo", lie, None, frame="train.py, line 3")
    village.measure("bo", lie, None, frame="train.py, line 3")
    village.measure("eve", lie, None)
    assert {village.posterior(sha).standing for sha in (lie, below)} == {"provisional"}, "eve's machine failed"
    village.measure("cy", lie, None, outcome="invalid", reason="the model looks ahead")
    assert {village.posterior(sha).standing for sha in (lie, below)} == {"suspect"}
    assert any("failed where others ran it" in one for one in village.explain(lie).story)
    village.check_numbers()
    village.measure("dan", lie, 3.0)
    assert {village.posterior(sha).standing for sha in (lie, below)} == {"provisional"}
    village.check_numbers()


@ON_ONE_ENGINE
def test_what_its_author_measured_often_is_suspect_too_where_others_fail(project: str, database: Database) -> None:
    village = Village(database)
    lie = village.invent("mal", 3.0)
    for _ in range(8):
        village.measure("mal", lie, 3.0)
    below = village.invent("ada", 2.99, parent=lie)
    assert village.posterior(lie).standing == "single_owner"
    for name in ("bo", "cy"):
        village.measure(name, lie, None, frame="train.py, line 3")
    assert {village.posterior(sha).standing for sha in (lie, below)} == {"suspect"}
    village.check_numbers()


@ON_ONE_ENGINE
def test_no_number_of_strangers_makes_a_result_suspect_while_an_anchor_works(village: Village) -> None:
    """They say that its code fails. An anchor that finds so is believed, until two vouched volunteers or an anchor can
    run it; no number of strangers is enough."""
    truth, lie = village.invent("ada", 3.1), village.invent("mal", 3.0)
    below = village.invent("ada", 3.09, parent=truth)
    for number in range(20):
        village.measure(f"sybil-{number}", truth, None, frame="train.py, line 3")
    assert {village.posterior(sha).standing for sha in (truth, below)} == {"provisional"}
    village.measure("dan", lie, None)
    assert village.posterior(lie).standing == "provisional", "the machine failed, not the code"
    village.measure("dan", lie, None, frame="train.py, line 3")
    assert village.posterior(lie).standing == "suspect"
    village.check_numbers()
    for number in range(6):
        village.measure(f"sybil-{number}", lie, 3.0)
    assert village.posterior(lie).standing == "suspect"
    village.check_numbers()
    village.measure("dan", lie, 3.0)
    assert village.posterior(lie).standing == "provisional", "its first failure there was chance"
    with village.at(25):
        for name in ("sybil-1", "sybil-2"):
            village.measure(name, truth, None, frame="train.py, line 3")
        assert village.posterior(truth).standing == "suspect", "no anchor works, so two others are believed"
    village.check_numbers()


@ON_ONE_ENGINE
@pytest.mark.parametrize("is_broken", [True, False])
def test_who_is_vouched_through_others_outvotes_no_two_failures_on_an_anchor(
    village: Village, *, is_broken: bool
) -> None:
    """One account agrees with the anchor and others with it, until all are vouched. A newcomer's dispute lets them all
    check code that fails on the anchor. One failure there, which may be chance, they outvote."""
    ring = ("vic", "val", "vera")
    for hours in (0, 25):
        with village.at(hours):
            for sha in [village.invent("ada", 3.2) for _ in range(3)]:
                for name in (ring[0], "dan", *ring[1:]):
                    village.measure(name, sha, 3.2)
    with village.at(26):
        sha = village.invent("mal", 3.1)
        village.measure("dan", sha, None, frame="train.py, line 3")
        village.measure("fresh", sha, 3.3)
        assert [village.measure(name, sha, 3.1) for name in ring] == ["vouched"] * 3
        assert village.posterior(sha).standing == "corroborated"
        if is_broken:
            village.measure("dan", sha, None, frame="train.py, line 3")
            assert village.posterior(sha).standing == "suspect"
            village.check_numbers()
            village.make_anchor("cy")
        village.measure("cy" if is_broken else "dan", sha, 3.1)
        assert village.posterior(sha).standing == "verified"
    village.check_numbers()


@ON_ONE_ENGINE
@pytest.mark.parametrize("has_lied", [False, True])
def test_whose_machine_is_not_placed_is_placed_by_an_anchor_and_held_to_it(village: Village, *, has_lied: bool) -> None:
    """It takes only what its author alone measured, and is far from that; an honest machine is as far each time."""
    shas = [village.invent("ada", 3.2) for _ in range(3)]
    for number, sha in enumerate(shas):
        village.measure("far", sha, 3.2 + (0.3 * (-2) ** number if has_lied else 0.7))
    assert village.record("far") == (0, 0), "one of two must be wrong"
    village.check_numbers()
    for number, sha in enumerate(shas):
        village.measure("dan", sha, 3.2)
        assert village.record("far")[1] == (number if has_lied else 0), "the first says where its machine stands"
        village.check_numbers()
    assert village.measure("far", village.invent("ada", 3.2), 3.9) == ("doubted" if has_lied else "newcomer")
    other = village.invent("ada", 3.2)
    village.measure("dan", other, 3.2)
    assert village.posterior(shas[0]).metric_mean == pytest.approx(3.2, abs=NOISE_SD)


def finish(worker: MiniWorker, lease: GrantedLease) -> None:
    """Deliver an experiment that is no gain."""
    number = lease.id.int % 10**6
    files = {"train.py": f"LEARNING_RATE = 0.003\nKNOB_{number} = {number}\n"}
    assert worker.propose(lease, files).accepted
    assert worker.deliver(lease, make_result(lease, worker.files_of(lease), files, 3.4)).status_code == 201


def claim_check(worker: MiniWorker) -> GrantedLease | None:
    """A lease to measure what another made; None where the worker gets experiments alone."""
    for _ in range(4):
        lease = worker.claim_job()
        if not lease.kind.makes_experiment:
            return lease
        finish(worker, lease)
    worker.release(worker.claim_job())
    return None


@pytest.mark.parametrize("has_anchor", [False, True])
def test_who_abandons_checks_does_not_hold_a_commit_up(
    database: Database, tmp_path: Path, make_worker: Callable[..., MiniWorker], *, has_anchor: bool
) -> None:
    contract = write_seed(tmp_path / "seed") / "swarm.toml"
    contract.write_text(contract.read_text() + "\n[jobs]\nimprove = 1\nreplicate = 100\ncontrol = 0\n")
    with database.write() as session:
        create_project(session, contract.parent)
    ada, mal, bo, dan = (make_worker("w1", name) for name in ("ada", "mal", "bo", "dan"))
    for worker in (ada, mal, bo, dan):
        worker.measure_root()
    if has_anchor:
        with database.write() as session:
            set_anchor(session, "dan", "w1", is_anchor=True, who="ops")
    ada.experiment("DEPTH = 5\n", 3.1)
    for _ in range(2):
        held = claim_check(mal)
        assert held is not None and held.base.posterior is not None and held.base.posterior.metric_mean < 3.2
        mal.release(held)
    other = claim_check(mal)
    assert other is None or other.base.sha != held.base.sha
    checked = claim_check(bo)
    assert checked is not None and checked.base.sha == held.base.sha


@ON_ONE_ENGINE
def test_an_anchor_on_two_kinds_of_hardware_checks_in_both(
    project: str, database: Database, make_worker: Callable[..., MiniWorker]
) -> None:
    """Its run in one class says nothing in the other. What it made itself it checks in neither, though that leads."""
    rare = HARDWARE.model_copy(update={"isa": "riscv64"})
    with database.write() as session:
        known = session.scalars(select(Project).where(Project.name == project)).one()
        here, there = (History(session, known, hardware=one) for one in (HARDWARE, rare))
        workers = [
            (of_class.add_worker(f"a-{name}", "ada"), of_class.add_worker(name, "dan", is_anchor=True))
            for of_class, name in ((here, "w1"), (there, "w2"))
        ]
        for of_class, pair in zip((here, there), workers, strict=True):
            for worker in pair:
                of_class.measure(worker, known.root_sha, 3.3)
        (other, anchor), (other_there, _) = workers
        sha = here.add_experiment(other, known.root_sha, 3.1, make_proposal()).commit_sha
        own = here.add_experiment(anchor, known.root_sha, 3.0, make_proposal("its own")).commit_sha
        here.measure(anchor, sha, 3.1)
        for made, metric in ((sha, 3.1), (own, 3.0)):
            there.measure(other_there, made, metric)
    lease = make_worker("w2", "dan").claim_job(hardware=rare.model_dump(mode="json"))
    assert (lease.kind, lease.base.sha) == (JobKind.REPLICATE, sha)
