"""Trust in a real coordinator: records, replications that are due, anchors, and what comes of a refuted result."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.db.database import Database
from coordinator.evidence import quarantine
from coordinator.evidence.explanation import _explain_verdict
from coordinator.evidence.statistics import Normal
from coordinator.models import Event, Project, Run
from coordinator.records import service as records
from shared.events import EventKind
from shared.experiments import Verdict
from shared.runs import RunLimit
from tests.support.databases import ON_ONE_ENGINE
from tests.support.swarm_data import History
from tests.support.village import CLASS, VOLUNTEERS, Village


@pytest.fixture
def village(project: str, database: Database) -> Village:
    return Village(database)


@ON_ONE_ENGINE
def test_strangers_who_agree_do_not_verify(village: Village) -> None:
    assert [village.record(name)[0] for name in VOLUNTEERS] == [0, 1, 1, 1], "the first has nobody to agree with"
    sha = village.invent("ada", 3.2)
    assert village.measure("bo", sha, 3.2) == "newcomer"
    assert village.record("ada") == (1, 0) and village.record("bo") == (2, 0)
    assert village.posterior(sha).standing == "provisional", "one has checked it"
    village.measure("cy", sha, 3.2)
    assert village.posterior(sha).standing == "corroborated"
    village.make_anchor("dan")
    assert village.measure("dan", sha, 3.2) == "anchor" and village.posterior(sha).standing == "verified"
    village.check_numbers()


def test_a_verified_gain_says_whether_anchors_found_it_where_no_process_tells_the_next(village: Village) -> None:
    """Caches that others' machines empty do not count for an anchor."""
    emptied = {"limits": list(RunLimit)}
    for anchor in ("cy", "dan"):
        village.make_anchor(anchor)
    sha = village.invent("ada", 3.2)

    def measure(name: str, **changes: object) -> tuple[str, bool, bool]:
        """The standing then, whether it is said to be found with caches emptied, and whether the story says why not."""
        village.measure(name, sha, 3.2, **changes)
        stored = village.posterior(sha)
        return stored.standing, stored.caches_emptied, "caches_emptied" in " ".join(village.explain(sha).story)

    assert measure("bo", **emptied) == ("provisional", False, False)
    assert measure("dan") == ("verified", False, True)
    assert measure("cy", **emptied) == ("verified", True, False)
    village.check_numbers()


def test_what_no_anchors_own_runs_find_is_not_explained_as_verified_and_no_finding_claims_it(village: Village) -> None:
    """An anchor that measured with another budget than the seed agrees with others, and finds nothing by itself."""
    village.make_anchor("dan")
    sha = village.invent("ada", 3.2)

    def measure(name: str, of: str | None, metric: float) -> tuple[str, bool]:
        """The standing as it is explained, and whether a finding may claim the gain."""
        village.measure(name, of, metric, *((2.0, 1000.0) if name == "dan" else ()))
        told = village.explain(sha)
        assert told.after is not None and told.after.standing == village.posterior(sha).standing
        return told.after.standing, told.is_claim_confirmed

    assert measure("bo", sha, 3.2) == ("provisional", False)
    assert measure("dan", sha, 3.2) == ("corroborated", False)
    assert measure("dan", None, 3.3) == ("verified", True)


def test_agreement_with_an_anchor_on_enough_commits_over_a_day_vouches(village: Village) -> None:
    village.make_anchor("dan")

    def agree(count: int, hours: float) -> str:
        """Bo and the anchor measure that many new commits of ada's; bo's trust at the last of them."""
        with village.at(hours):
            for _ in range(count):
                sha = village.invent("ada", 3.2)
                village.measure("dan", sha, 3.2)
                trust = village.measure("bo", sha, 3.2)
        return trust

    assert agree(8, 0.0) == "newcomer", "all on one day"
    assert agree(1, 23.0) == "newcomer" and agree(1, 24.1) == "newcomer", "this run itself does not count yet"
    assert agree(1, 24.2) == "vouched"
    with village.at(60):  # the anchor is away, and waited for by nobody
        sha = village.invent("ada", 3.1)
        village.measure("bo", sha, 3.1)
        village.measure("cy", sha, 3.1)
        assert village.posterior(sha).standing == "corroborated", "who was honest for a day may lie now"
        village.let_vouched_verify()
        assert village.posterior(sha).standing == "verified", "where the contract takes that risk"
        lie = village.invent("ada", 3.0)
        village.measure("dan", lie, 3.1)
        village.measure("bo", lie, 3.0)
        assert village.record("bo")[1] == 1, "an anchor is believed"
        other = village.invent("ada", 3.05)
        assert village.measure("bo", other, 3.05) == "newcomer"
    village.check_numbers()


def test_vouched_volunteers_vouch_on_more_commits_with_more_partners(village: Village) -> None:
    village.make_anchor("dan")
    for hours in (0, 25):
        with village.at(hours):
            for _ in range(4):
                sha = village.invent("ada", 3.2)
                for name in ("dan", "bo", "cy", "eve"):
                    village.measure(name, sha, 3.2)
    with village.at(80):
        shas = [village.invent("ada", 3.2) for _ in range(5)]
        for sha in shas:
            for name in ("bo", "cy", "eve"):
                assert village.measure(name, sha, 3.2) == "vouched"
    for hours, measured, trust in ((81, shas[:4], "newcomer"), (106, shas, "newcomer"), (107, shas[:1], "vouched")):
        with village.at(hours):
            for sha in measured:
                assert village.measure("fay", sha, 3.2) == trust
    village.check_numbers()


@ON_ONE_ENGINE
def test_patient_sybils_verify_nothing_while_no_anchor_is_at_work(village: Village) -> None:
    """They agree with the anchor for a day and lie once it is away. Where the vouched may stand in for it they win."""
    village.make_anchor("dan")
    sybils = ("bo", "cy", "eve")
    for hours in (0, 25):
        with village.at(hours):
            for _ in range(4):
                sha = village.invent("ada", 3.2)
                for name in ("dan", *sybils):
                    village.measure(name, sha, 3.2)
    with village.at(25 + 30 * 24):
        lie, truth = village.invent("ada", 3.1), village.invent("gus", 3.15)
        assert [village.measure(name, lie, 3.1) for name in sybils] == ["vouched"] * 3
        for name in ("fay", "hal"):
            village.measure(name, truth, 3.15)
        assert village.posterior(lie).standing == village.posterior(truth).standing == "corroborated"
        village.let_vouched_verify()
        assert village.posterior(lie).standing == "verified"
        village.let_vouched_verify(may=False)
        village.measure("dan", lie, 3.2)
        village.measure("dan", truth, 3.15)
        assert village.posterior(lie).standing == "provisional" and village.posterior(truth).standing == "verified"
    village.check_numbers()


@ON_ONE_ENGINE
@pytest.mark.parametrize(
    ("kept_out", "worker", "standing"),
    [(None, None, "provisional"), ("dan", "w1", "corroborated"), ("dan", None, "corroborated")],
)
def test_nobody_waits_for_an_anchor_in_quarantine(
    village: Village, kept_out: str | None, worker: str | None, standing: str
) -> None:
    village.make_anchor("dan")
    if kept_out is not None:
        with village.database.write() as session:
            quarantine.set_quarantine(session, kept_out, worker, "its fan is broken", "maintainer")
    sha = village.invent("ada", 3.2)
    village.measure("bo", sha, 3.2)
    village.measure("cy", sha, 3.2)
    assert village.posterior(sha).standing == standing


@ON_ONE_ENGINE
def test_where_the_seed_crashes_on_the_anchor_others_go_on_and_the_class_says_so(village: Village) -> None:
    for failures, standing in ((2, "provisional"), (1, "corroborated")):
        for _ in range(failures):
            village.measure("ann", None, None)
        village.make_anchor("ann")
        sha = village.invent("ada", 3.2)
        village.measure("bo", sha, 3.2)
        village.measure("cy", sha, 3.2)
        assert village.posterior(sha).standing == standing
    with village.database.read() as session:
        said = records.explain_missing(session, session.scalars(select(Project)).one(), CLASS)
    assert said.startswith("No anchor could measure on this hardware")


@ON_ONE_ENGINE
def test_while_an_anchor_works_no_other_two_verify(village: Village) -> None:
    """A volunteer who was vouched for, and another, say what they like: the anchor's measurement is waited for."""
    village.make_anchor("dan")
    for hours in (0, 25):
        with village.at(hours):
            for _ in range(4):
                sha = village.invent("ada", 3.2)
                village.measure("dan", sha, 3.2)
                village.measure("bo", sha, 3.2)
    with village.at(26):
        lie = village.invent("ada", 2.9)
        assert village.measure("bo", lie, 2.9) == "vouched"
        village.measure("cy", lie, 2.9)
        assert village.posterior(lie).standing == "provisional" and village.posterior(lie).checkers == 1
        village.measure("dan", lie, 3.3)
        for name in ("eve", "fay", "gus"):
            village.measure(name, lie, 2.9)
        assert village.posterior(lie).standing == "provisional", "nobody outvotes an anchor"
        assert village.measure("bo", village.invent("ada", 3.2), 3.2) == "newcomer"
    village.check_numbers()


@ON_ONE_ENGINE
def test_others_settle_a_dispute_while_an_anchor_works_and_verify_nothing_by_it(village: Village) -> None:
    village.make_anchor("dan")
    lie = village.invent("ada", 3.0)
    village.measure("bo", lie, 3.3)
    assert village.posterior(lie).dispute == "contested"
    village.measure("cy", lie, 3.3)
    assert village.posterior(lie).dispute == "refuted" and village.posterior(lie).checkers == 2
    assert village.posterior(lie).metric_mean == pytest.approx(3.3, abs=0.01), "it leads no more, without the anchor"
    truth = village.invent("eve", 3.0)
    village.measure("bo", truth, 3.3)
    for name in ("cy", "fay", "gus"):
        village.measure(name, truth, 3.0)
    assert village.posterior(truth).standing in ("provisional", "corroborated"), "only the anchor verifies"
    village.check_numbers()


def test_claims_are_replicated_by_others_as_trust_demands(village: Village) -> None:
    sha = village.invent("ada", 3.2)
    village.invent("ada", 3.31)
    assert village.list_due("bo") == [sha], "only a gain is claimed"
    assert village.list_due("ada") == [], "never by the volunteer in question"
    village.measure("bo", sha, None)
    assert village.list_due("cy") == [], "a run that fails is not asked for again and again"
    for _ in range(4):
        village.measure("bo", village.invent("ada", 3.2), 3.2)
    claims = [village.invent("ada", 3.2) for _ in range(8)]
    assert village.record("ada") == (4, 0) and len(village.list_due("cy")) < len(claims) / 2


@ON_ONE_ENGINE
def test_a_refuted_result_costs_trust_and_what_stands_on_it_is_suspect(village: Village) -> None:
    lie = village.invent("dan", 3.0)
    built = village.invent("ada", 2.99, parent=lie)
    assert village.posterior(built).standing == "provisional"
    village.measure("bo", lie, 3.3)
    assert village.posterior(lie).dispute == "contested" and village.record("dan") == (0, 1)
    assert village.record("bo") == (1, 0), "one against one says nothing of who checked it"
    village.measure("cy", lie, 3.3)
    assert (village.posterior(lie).dispute, village.posterior(lie).standing) == ("refuted", "provisional")
    assert village.posterior(built).standing == "suspect"
    village.measure("bo", built, 2.99)
    assert village.posterior(built).standing == "provisional", "tested again"
    with village.database.read() as session:
        told = session.scalars(select(Event).where(Event.kind == EventKind.RESULT_CONTRADICTED)).all()
    assert [(event.data["volunteer"], event.data["commit"]) for event in told] == [("dan", lie)] * 2
    village.check_numbers()


@ON_ONE_ENGINE
def test_a_doubted_volunteers_result_waits_for_others(village: Village) -> None:
    village.measure("bo", village.invent("dan", 3.0), 3.3)
    next_one = village.invent("dan", 3.25)
    assert village.posterior(next_one).standing == "suspect" and next_one in village.list_due("ada")
    village.measure("ada", next_one, 3.25)
    assert village.posterior(next_one).standing == "provisional" and next_one not in village.list_due("ada")
    village.check_numbers()


@ON_ONE_ENGINE
def test_an_anchor_vouches_from_its_first_day(village: Village) -> None:
    claim = village.invent("ada", 3.1)
    newcomers = ("eve", "fay")
    with village.database.write() as session:
        history = History(session, session.scalars(select(Project)).one())
        for name in newcomers:
            history.add_worker("w1", name)
    assert village.measure("eve", claim, 3.1) == "newcomer"
    url = village.database.url.render_as_string(hide_password=False)
    done = CliRunner().invoke(app, ["anchor", "fay", "w1", "--reason", "ours"], env={"SWARM_DATABASE_URL": url})
    assert done.exit_code == 0 and "is_anchor: False -> True  because: ours" in done.stdout
    with village.database.read() as session:
        logged = session.scalars(select(Event).where(Event.kind == EventKind.ANCHOR_CHANGED)).one()
    assert (logged.data["worker"], logged.data["is_anchor"]) == ("w1", True)
    assert village.measure("fay", claim, 3.1) == "anchor"
    assert village.posterior(claim).checkers == 2
    done = CliRunner().invoke(
        app, ["anchor", "fay", "w1", "--remove", "--reason", "sold"], env={"SWARM_DATABASE_URL": url}
    )
    assert "is_anchor: True -> False  because: sold" in done.stdout
    done = CliRunner().invoke(app, ["anchor", "fay", "w2", "--reason", "ours"], env={"SWARM_DATABASE_URL": url})
    assert (done.exit_code, done.stderr) == (1, "swarm-coordinator: fay has no worker 'w2'.\n")
    with village.database.read() as session:
        assert session.scalars(select(Run.trust).order_by(Run.id.desc()).limit(1)).one() == "anchor"
    village.check_numbers()


@ON_ONE_ENGINE
def test_what_is_too_good_waits_until_two_others_find_it_too(village: Village) -> None:
    wonder, impossible = village.invent("ada", 2.4), village.invent("ada", 0.9)
    assert village.posterior(wonder).standing == village.posterior(impossible).standing == "held"
    with village.database.read() as session:
        told = session.scalars(select(Event).where(Event.kind == EventKind.RESULT_HELD).order_by(Event.id)).all()
        assert [event.data["commit"] for event in told] == [wonder, impossible], "once each, and nothing of others"
    assert village.list_due("bo") == [wonder], "beyond the plausible floor only a maintainer can say"
    village.measure("bo", wonder, 2.4)
    assert village.posterior(wonder).standing == "held" and village.list_due("cy") == [wonder]
    village.measure("cy", wonder, 2.4)
    assert village.posterior(wonder).standing == "corroborated" and village.list_due("dan") == []
    village.check_numbers()


@ON_ONE_ENGINE
def test_a_loss_is_not_told_as_something_that_was_gained(village: Village) -> None:
    story = " ".join(village.explain(village.invent("ada", 3.33)).story)
    assert re.search(r"above it, or the seed, \+0\.0\d+ ± 0\.\d+: a gain of more than 0.002 with probability ", story)


def test_no_change_is_told_with_its_probability() -> None:
    contract = SimpleNamespace(objective=SimpleNamespace(sign=-1.0, min_effect=0.002))
    case: Any = SimpleNamespace(contract=contract, above="its parent")
    derived: Any = SimpleNamespace(metric=Normal(3.2, 0.001), effect=Normal(0.001, 0.0005), verdict=Verdict.NO_CHANGE)
    (told,) = _explain_verdict(case, derived)
    assert told.endswith("since the difference is below 0.002, which would matter, with probability 97.72 %.")


@ON_ONE_ENGINE
def test_who_stands_apart_is_left_out_of_a_number_and_that_is_told(village: Village, http: TestClient) -> None:
    sha = village.invent("ada", 3.2)
    village.measure("dan", sha, 3.1)
    village.measure("bo", sha, 3.2)
    posterior = village.posterior(sha)
    assert (posterior.standing, posterior.dispute) == ("provisional", "contested")
    village.measure("cy", sha, 3.2)
    assert village.posterior(sha).metric_mean == pytest.approx(3.2, abs=0.01), "dan's has no part in it"
    told = village.explain(sha)
    assert [run.is_in_posterior for run in told.runs] == [False, False, True, True]
    assert any("So is 1 run by volunteers who stand apart" in sentence for sentence in told.story)
    page = http.get("/experiments/1").text
    assert page.count("left out because others checked the commit") == 1, "the author's, and not dan's, who checked it"
    assert page.count(", left out") == 2
    village.measure("dan", sha, 3.1)
    assert any("So are 2 runs by volunteers" in sentence for sentence in village.explain(sha).story)
    village.check_numbers()
